import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from calib_jax.core.types import Embeddings
from calib_jax.objectives.contrastive import Contrastive, contrastive_loss, pair_logits

loss_of = jax.jit(contrastive_loss)
value_and_gradients = jax.jit(jax.value_and_grad(lambda e: contrastive_loss(e).mean()))


def embeddings(pairs, dtype=jnp.float32):
    image, text, scale = (jnp.asarray(x, dtype) for x in pairs)
    return Embeddings(image=image, text=text, logit_scale=scale)


def info_nce_by_loop(image, text, scale):
    size = len(image)
    losses = np.zeros(size)
    for i in range(size):
        row = [scale * float(image[i] @ text[j]) for j in range(size)]
        column = [scale * float(image[j] @ text[i]) for j in range(size)]
        for logits in (row, column):
            losses[i] -= 0.5 * (logits[i] - np.logaddexp.reduce(logits))
    return losses


@pytest.mark.parametrize("size", [1, 2, 33])
@pytest.mark.parametrize("scale", [1.0, 14.3, 100.0])
def test_loss_by_loop(pairs, size, scale):
    data = pairs(size, size=size, scale=scale)
    loss = loss_of(embeddings(data))
    assert loss.shape == (size,)
    # Logits of up to `scale` carry a rounding error of `scale` eps each.
    np.testing.assert_allclose(loss, info_nce_by_loop(*data), rtol=1e-6, atol=4e-7 * scale)


def test_loss_by_loop_in_float64(pairs):
    data = pairs(0)
    with jax.enable_x64(True):
        loss = loss_of(embeddings(data, jnp.float64))
        np.testing.assert_allclose(loss, info_nce_by_loop(*data), rtol=1e-12)


def test_rows_are_images_and_columns_are_texts(pairs):
    image, text, scale = pairs(0)
    logits = pair_logits(embeddings((image, text, scale)))
    np.testing.assert_allclose(logits, scale * image @ text.T, rtol=1e-5, atol=1e-5)


def test_gradients_match_finite_differences(pairs):
    with jax.enable_x64(True):
        check_grads(
            jax.jit(lambda *x: contrastive_loss(Embeddings(*x)).sum()),
            tuple(jnp.asarray(x) for x in pairs(1)),
            order=1,
            modes=("rev",),
            rtol=1e-6,
            atol=1e-6,
        )


def test_the_loss_is_symmetric_and_follows_permutations(pairs):
    image, text, scale = pairs(2)
    loss = loss_of(embeddings((image, text, scale)))
    swapped = loss_of(embeddings((text, image, scale)))
    np.testing.assert_allclose(swapped, loss, rtol=1e-5, atol=1e-6)
    order = np.random.default_rng(0).permutation(len(image))
    permuted = loss_of(embeddings((image[order], text[order], scale)))
    np.testing.assert_allclose(permuted, loss[order], rtol=1e-5, atol=1e-6)


def test_closed_forms():
    one = np.eye(3)[:1]
    # A single pair has no negatives; equal pairs cannot be told apart: log b.
    np.testing.assert_array_equal(loss_of(embeddings((one, one, 100.0))), [0.0])
    same = np.repeat(one, 7, axis=0)
    loss = loss_of(embeddings((same, same, 100.0)))
    np.testing.assert_allclose(loss, np.full(7, np.log(7)), rtol=1e-6)
    # Orthogonal classes: log(1 + (b - 1) e^-s).
    loss = loss_of(embeddings((np.eye(4), np.eye(4), 3.0)))
    np.testing.assert_allclose(loss, np.full(4, np.log1p(3 * np.exp(-3.0))), rtol=1e-6)


@pytest.mark.parametrize("kind", ["zero vectors", "duplicates", "one pair", "span"])
def test_degenerate_batches_are_finite(pairs, kind):
    image, text, scale = pairs(3)
    if kind == "zero vectors":
        image[2] = text[4] = 0.0
    elif kind == "duplicates":
        image[:], text[:] = image[0], text[0]
    elif kind == "one pair":
        image, text = image[:1], text[:1]
    else:  # logits of -400 on the diagonal and 400 beside it
        image[:], text[:] = image[0], -image[0]
        text[::2] = image[0]
        scale = 400.0
    for leaf in jax.tree.leaves(value_and_gradients(embeddings((image, text, scale)))):
        assert np.isfinite(leaf).all()


def test_the_term_is_the_loss_of_the_student(views_of, pairs):
    student = embeddings(pairs(4))
    term = Contrastive()
    assert term.weight == 1.0
    value = term(views_of(6, student=student))
    np.testing.assert_array_equal(value, contrastive_loss(student))


def masked_and_smoothed_by_loop(image, text, scale, *, labels, smoothing):
    size = len(image)
    losses = np.zeros(size)
    for i in range(size):
        kept = [j for j in range(size) if j == i or labels[j] != labels[i]]
        row = {j: scale * float(image[i] @ text[j]) for j in kept}
        column = {j: scale * float(image[j] @ text[i]) for j in kept}
        for logits in (row, column):
            normalizer = np.logaddexp.reduce(list(logits.values()))
            for j in kept:
                target = (1 - smoothing) * (j == i) + smoothing / len(kept)
                losses[i] -= 0.5 * target * (logits[j] - normalizer)
    return losses


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("labels", [[0, 1, 0, 2, 1, 0], [0, 1, 2, 3, 4, 5], [0] * 6])
def test_masked_and_smoothed_loss_by_loop_and_by_finite_differences(pairs, labels, smoothing):
    data = pairs(5)
    with jax.enable_x64(True):

        @jax.jit
        def loss_of(*arrays):
            return contrastive_loss(
                Embeddings(*arrays), label_smoothing=smoothing, labels=jnp.asarray(labels)
            )

        arrays = tuple(jnp.asarray(x) for x in data)
        expected = masked_and_smoothed_by_loop(*data, labels=labels, smoothing=smoothing)
        np.testing.assert_allclose(loss_of(*arrays), expected, rtol=1e-12, atol=1e-14)
        check_grads(
            lambda *x: loss_of(*x).sum(), arrays, order=1, modes=("rev",), rtol=1e-6, atol=1e-6
        )


def test_smoothing_alone_counts_every_pair(pairs):
    data = pairs(6)
    loss = contrastive_loss(embeddings(data), label_smoothing=0.2)
    expected = masked_and_smoothed_by_loop(*data, labels=range(6), smoothing=0.2)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["one class", "one pair", "span"])
def test_masks_and_smoothing_are_finite_on_degenerate_batches(pairs, kind):
    image, text, scale = pairs(7)
    labels = jnp.zeros(6, jnp.int32)
    if kind == "one pair":
        image, text, labels = image[:1], text[:1], labels[:1]
    elif kind == "span":
        image[:], text[:], scale = image[0], -image[0], 400.0
        text[::2] = image[0]
        labels = labels.at[:3].set(1)

    def loss(e):
        return contrastive_loss(e, label_smoothing=0.1, labels=labels).mean()

    value, gradients = jax.jit(jax.value_and_grad(loss))(embeddings((image, text, scale)))
    for leaf in jax.tree.leaves((value, gradients)):
        assert np.isfinite(leaf).all()
    if kind != "span":  # nothing is left to tell a pair from
        assert float(value) == 0.0


def test_the_term_masks_by_the_labels_of_the_batch(views_of, pairs):
    data, labels = pairs(8), [0, 1, 0, 2, 1, 0]
    views = views_of(6, student=embeddings(data), labels=labels)
    value = Contrastive(label_smoothing=0.1, mask_duplicates=True)(views)
    expected = masked_and_smoothed_by_loop(*data, labels=labels, smoothing=0.1)
    np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6)
