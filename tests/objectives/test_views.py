import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calib_jax.classifiers.linear import LinearHead
from calib_jax.classifiers.zero_shot import ZeroShot
from calib_jax.core import rngs
from calib_jax.models.encoder import Encoder
from calib_jax.objectives.views import Start, Views, context_embeddings


@pytest.fixture
def views(tiny_model, tiny_batches):
    encoder, params = tiny_model
    tables, batch_of = tiny_batches
    return Views(
        encoder=encoder,
        classifier=ZeroShot(),
        params={"encoder": params, "classifier": {}},
        teacher_params={"encoder": jax.tree.map(lambda x: 0.9 * x, params), "classifier": {}},
        tables=tables,
        batch=jax.tree.map(jnp.asarray, batch_of(0)),
        step=jnp.int32(0),
    )


def unit(x):
    return x / np.linalg.norm(np.float64(x), axis=-1, keepdims=True)


def test_quantities_by_hand(views):
    encoder, params, batch = views.encoder, views.params["encoder"], views.batch
    encode_image, encode_text = jax.jit(encoder.encode_image), jax.jit(encoder.encode_text)

    @jax.jit
    def quantities(params, teacher_params):
        traced = dataclasses.replace(views, params=params, teacher_params=teacher_params)
        return traced.student, traced.teacher, traced.image_features, traced.logits

    student, teacher, features, logits = quantities(views.params, views.teacher_params)
    tokens = views.tables.captions[batch.caption]
    np.testing.assert_array_equal(views.tokens, tokens)
    for model, scale in ((student, 1.0), (teacher, 0.9)):
        own = jax.tree.map(lambda x, scale=scale: scale * x, params)
        image, text = encode_image(own, batch.image), encode_text(own, tokens)
        np.testing.assert_allclose(model.image, unit(image), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(model.text, unit(text), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(model.logit_scale, (1 / 0.07) ** scale, rtol=1e-5)
    np.testing.assert_allclose(unit(features), student.image, atol=1e-6)
    prompts = encode_text(params, jnp.tile(views.tables.class_tokens.reshape(6, 8), (3, 1))[:16])
    classes = unit(unit(prompts[:6]).reshape(3, 2, -1).mean(axis=1))
    np.testing.assert_allclose(logits, unit(features) @ classes.T / 0.07, rtol=1e-5, atol=1e-5)
    assert views.image_projection is params["image"]["projection"]["kernel"]
    assert views.text_projection is params["text"]["projection"]["kernel"]


def test_images_are_made_of_canvases_where_there_are_taps(views):
    images = views.batch.image
    canvas = jnp.zeros((16, 20, 20, 3), jnp.uint8).at[:, 3:19, 2:18].set(images)
    identity = jnp.zeros((2, 16, 3), jnp.int32).at[:, :, 1].set(2**22)
    identity = identity.at[..., 0].set(jnp.arange(16) + jnp.array([[3], [2]]))
    batch = dataclasses.replace(views.batch, image=canvas, taps=jnp.stack([identity] * 16))
    got = jax.jit(lambda batch: dataclasses.replace(views, batch=batch).images)(batch)
    np.testing.assert_array_equal(got, images)


def test_features_of_the_batch_stand_in_for_the_encoders(views):
    """There is no image that the encoder could look at."""
    rng = np.random.default_rng(0)
    features, kernel, bias = (
        jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((16, 8), (8, 3), (3,))
    )
    given = dataclasses.replace(
        views,
        classifier=LinearHead(),
        params={**views.params, "classifier": {"kernel": kernel, "bias": bias}},
        batch=dataclasses.replace(
            views.batch, image=jnp.zeros((16, 0, 0, 3), jnp.uint8), features=features
        ),
    )
    np.testing.assert_array_equal(given.image_features, features)
    expected = unit(features) @ np.float64(kernel) + np.float64(bias)
    np.testing.assert_allclose(given.logits, expected, rtol=1e-5, atol=1e-5)


def test_each_tower_runs_at_most_once_and_only_when_asked(views, monkeypatch):
    calls = []
    for name in ("encode_image", "encode_text"):

        def counted(self, params, examples, name=name):
            calls.append(name)
            return jnp.ones((len(examples), 8))

        monkeypatch.setattr(Encoder, name, counted)
    assert views.image_projection.ndim == 2
    assert calls == []
    for _ in range(2):
        assert views.student.image.shape == (16, 8)
        assert views.image_features.shape == (16, 8)
    assert sorted(calls) == ["encode_image", "encode_text"]


def test_the_start_model_by_hand_and_without_gradients(views):
    """Its own parameters, on the student's batch; a key for each step and name."""
    encoder, tables = views.encoder, views.tables
    start = {"encoder": jax.tree.map(lambda x: 0.8 * x, views.params["encoder"]), "classifier": {}}

    @jax.jit
    def quantities(params):
        contexts = context_embeddings(encoder, params["encoder"], tables.class_tokens)
        held = dataclasses.replace(views, start=Start(params, contexts))
        return held.pretrained, held.pretrained_image_features, held.contexts

    pretrained, features, contexts = quantities(start)
    image = jax.jit(encoder.encode_image)(start["encoder"], views.batch.image)
    np.testing.assert_allclose(features, image, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pretrained.image, unit(image), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pretrained.logit_scale, (1 / 0.07) ** 0.8, rtol=1e-5)
    prompts = jax.jit(encoder.encode_text)(start["encoder"], tables.class_tokens.reshape(6, 8))
    by_class = unit(prompts).reshape(3, 2, -1)
    np.testing.assert_allclose(contexts, unit(by_class.mean(axis=0)), rtol=1e-5, atol=1e-6)

    def total(params):
        held = dataclasses.replace(views, start=Start(params))
        return held.pretrained.image.sum() + held.start_params["encoder"]["logit_scale"]

    gradients = jax.jit(jax.grad(total))(start)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradients))


def test_a_key_is_that_of_the_seed_the_step_and_the_name(views):
    def bits(**changes):
        return jax.random.key_data(dataclasses.replace(views, **changes).key("texts")).tolist()

    assert bits() == bits()
    assert bits() == jax.random.key_data(rngs.key(0, 0, "texts")).tolist()
    assert bits() != bits(step=jnp.int32(1)) != bits(seed=1)


def test_missing_captions_are_an_error(views):
    tables = dataclasses.replace(views.tables, captions=views.tables.captions[:0])
    with pytest.raises(ValueError, match=r"asks for views\.tokens, but the stage has no templates"):
        _ = dataclasses.replace(views, tables=tables).student


def test_a_missing_start_is_an_error(views):
    with pytest.raises(ValueError, match=r"asks for views\.start_params, but does not say so"):
        _ = views.pretrained
    held = dataclasses.replace(views, start=Start(views.params))
    with pytest.raises(ValueError, match=r"asks for views\.contexts, but does not say so"):
        _ = held.contexts


def test_a_missing_teacher_is_an_error(views):
    alone = dataclasses.replace(views, teacher_params=None)
    with pytest.raises(ValueError, match=r"a term asks for views\.teacher, but the method has no"):
        _ = alone.teacher
