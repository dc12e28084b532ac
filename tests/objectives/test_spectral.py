import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from calib_jax.core.errors import ConfigError
from calib_jax.models import presets
from calib_jax.models.config import ResNetConfig
from calib_jax.models.encoder import Encoder
from calib_jax.objectives.spectral import (
    CrossProjection,
    OrthogonalProjection,
    SmallestSingularValue,
    orthogonality_norm,
)


def matrix(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def float32(x):
    return jnp.asarray(x, jnp.float32)


def correlation(features):
    return np.corrcoef(features, rowvar=False)


def covariance(features):
    return np.cov(features, rowvar=False, bias=True)


MOMENTS = {"correlation": correlation, "covariance": covariance}


@pytest.mark.parametrize("shape", [(9, 5), (5, 5), (4, 6)])
def test_orthogonality_by_loop(views_of, shape):
    w = matrix(*shape)
    squared = 0.0
    for i in range(shape[1]):
        for j in range(shape[1]):
            squared += (sum(w[k, i] * w[k, j] for k in range(shape[0])) - (i == j)) ** 2
    views = views_of(1, image_projection=float32(w))
    np.testing.assert_allclose(OrthogonalProjection()(views), np.sqrt(squared), rtol=1e-6)
    np.testing.assert_allclose(OrthogonalProjection(squared=True)(views), squared, rtol=1e-6)


def test_cross_projection_by_loop(views_of):
    v, t = matrix(6, 4), matrix(5, 4, seed=1)
    squared = sum(float(v[i] @ t[j]) ** 2 for i in range(6) for j in range(5))
    views = views_of(1, image_projection=float32(v), text_projection=float32(t))
    np.testing.assert_allclose(CrossProjection()(views), np.sqrt(squared), rtol=1e-6)


def test_orthonormal_columns_cost_nothing_and_have_no_gradient(views_of):
    for squared in (False, True):
        term = OrthogonalProjection(squared=squared)

        def value(w, term=term):
            return term(views_of(1, image_projection=w))

        value, gradient = jax.jit(jax.value_and_grad(value))(jnp.eye(6, 4))
        assert value == 0.0
        np.testing.assert_array_equal(gradient, np.zeros((6, 4)))


def test_the_projection_of_a_resnet_is_its_c_proj(views_of):
    """W is [w d] as the ViT's, so W^T W (d x d) can be I; W W^T, of rank d < w, never."""
    config = presets.tiny(vocab_size=8, context_length=2, embed_dim=4, text_width=8)
    config.vision = ResNetConfig(image_size=32, width=2, num_blocks=(1, 1, 1, 1), num_heads=2)
    encoder = Encoder(config)
    params = jax.eval_shape(encoder.init, jax.random.key(0))
    assert params["image"]["projection"]["kernel"].shape == (64, 4)
    columns = np.linalg.qr(matrix(64, 4))[0]

    def views(kernel):
        image = {"projection": {"kernel": float32(kernel), "bias": jnp.ones(4)}}
        text = {"projection": {"kernel": jnp.ones((8, 4))}}
        made = dataclasses.replace(
            views_of(1), encoder=encoder, params={"encoder": {"image": image, "text": text}}
        )
        np.testing.assert_array_equal(made.image_projection, float32(kernel))
        return made

    np.testing.assert_allclose(OrthogonalProjection()(views(columns)), 0, atol=1e-6)
    np.testing.assert_allclose(OrthogonalProjection()(views(2 * columns)), 3 * 2, rtol=1e-6)
    smallest = SmallestSingularValue(of="projection")
    np.testing.assert_allclose(smallest(views(columns)), -1, rtol=1e-6)
    expected = np.linalg.norm(columns @ np.ones((4, 8)))
    np.testing.assert_allclose(CrossProjection()(views(columns)), expected, rtol=1e-6)


def test_zero_projections_have_finite_gradients(views_of):
    def value(v, t):
        views = views_of(1, image_projection=v, text_projection=t)
        return OrthogonalProjection()(views) + CrossProjection()(views)

    value, gradients = jax.jit(jax.value_and_grad(value, argnums=(0, 1)))(
        jnp.zeros((4, 3)), jnp.zeros((5, 3))
    )
    np.testing.assert_allclose(value, np.sqrt(3), rtol=1e-6)
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, np.zeros(gradient.shape))


@pytest.mark.parametrize(
    ("of", "size", "solver"),
    [
        ("correlation", 9, "inverse_iteration"),
        ("correlation", 40, "svd"),
        ("covariance", 9, "svd"),
        ("covariance", 40, "inverse_iteration"),
    ],
)
def test_smallest_singular_value_of_features(views_of, of, size, solver):
    features = matrix(size, 6) * np.arange(1, 7)
    expected = np.linalg.svd(MOMENTS[of](features), compute_uv=False).min()
    term = SmallestSingularValue(of=of, solver=solver)
    value = jax.jit(lambda x: term(views_of(1, image_features=x)))(float32(features))
    np.testing.assert_allclose(value, -expected, rtol=2e-5)


def test_smallest_singular_value_of_the_projection(views_of):
    w = matrix(9, 5)
    expected = np.linalg.svd(w, compute_uv=False).min()
    value = SmallestSingularValue(of="projection")(views_of(1, image_projection=float32(w)))
    np.testing.assert_allclose(value, -expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("term", "name", "shape"),
    [
        (OrthogonalProjection(), "image_projection", (6, 4)),
        (OrthogonalProjection(squared=True), "image_projection", (6, 4)),
        (SmallestSingularValue(of="correlation"), "image_features", (11, 4)),
        (SmallestSingularValue(of="covariance"), "image_features", (11, 4)),
        (SmallestSingularValue(of="projection"), "image_projection", (6, 4)),
    ],
)
def test_gradients_match_finite_differences(views_of, term, name, shape):
    with jax.enable_x64(True):
        check_grads(
            jax.jit(lambda x: term(views_of(1, **{name: x}))),
            (jnp.asarray(matrix(*shape)),),
            order=1,
            modes=("rev",),
            rtol=1e-5,
            atol=1e-5,
        )


def test_cross_projection_gradients_match_finite_differences(views_of):
    with jax.enable_x64(True):
        check_grads(
            jax.jit(
                lambda v, t: CrossProjection()(views_of(1, image_projection=v, text_projection=t))
            ),
            (jnp.asarray(matrix(6, 4)), jnp.asarray(matrix(5, 4, seed=1))),
            order=1,
            modes=("rev",),
            rtol=1e-6,
            atol=1e-6,
        )


@pytest.mark.parametrize("of", ["correlation", "covariance"])
@pytest.mark.parametrize(
    "kind", ["b < d", "one row", "equal rows", "constant column", "twin columns"]
)
def test_rank_deficient_features_have_finite_gradients(views_of, of, kind):
    features = {
        "b < d": lambda: matrix(4, 8),
        "one row": lambda: matrix(1, 8),
        "equal rows": lambda: np.repeat(matrix(1, 8), 12, axis=0),
        "constant column": lambda: matrix(12, 8) * (np.arange(8) != 3),
        "twin columns": lambda: matrix(12, 8)[:, [0, 1, 2, 3, 4, 5, 6, 6]],
    }[kind]()
    term = SmallestSingularValue(of=of)
    value, gradient = jax.jit(jax.value_and_grad(lambda x: term(views_of(1, image_features=x))))(
        float32(features)
    )
    np.testing.assert_allclose(value, 0.0, atol=1e-9)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("of", ["correlation", "covariance"])
@pytest.mark.parametrize("size", [1, 7, 8])
def test_features_of_at_most_d_examples_have_value_and_gradient_zero(views_of, of, size):
    term = SmallestSingularValue(of=of)
    value, gradient = jax.value_and_grad(lambda x: term(views_of(1, image_features=x)))(
        float32(matrix(size, 8))
    )
    assert value == 0.0
    np.testing.assert_array_equal(gradient, np.zeros((size, 8)))


def test_coincident_eigenvalues_share_the_gradient(views_of):
    term = SmallestSingularValue(of="projection")

    def value(w):
        return term(views_of(1, image_projection=w))

    value, gradient = jax.jit(jax.value_and_grad(value))(jnp.eye(6, 3))
    # d sigma_min / dW = mean_k u_k v_k^T where all three singular values are one.
    np.testing.assert_allclose(value, -1.0, rtol=1e-6)
    np.testing.assert_allclose(gradient, -np.eye(6, 3) / 3, atol=1e-6)


def test_a_gradient_step_raises_the_smallest_singular_value(views_of):
    for of, name, x in (
        ("correlation", "image_features", matrix(30, 5)),
        ("covariance", "image_features", matrix(30, 5)),
        ("projection", "image_projection", matrix(8, 5)),
    ):
        term = SmallestSingularValue(of=of)

        @jax.jit
        def value_and_gradient(x, term=term, name=name):
            return jax.value_and_grad(lambda x: term(views_of(1, **{name: x})))(x)

        value, gradient = value_and_gradient(float32(x))
        after, _ = value_and_gradient(x - 0.05 * gradient)
        assert after < value, of


def test_the_norm_needs_no_views():
    np.testing.assert_allclose(orthogonality_norm(2 * jnp.eye(5, 4)), 3 * 2.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("field", "value", "known"),
    [
        ("of", "corelation", "correlation, covariance, projection"),
        ("solver", "eigh", "inverse_iteration, svd"),
    ],
)
def test_an_unknown_matrix_or_solver_is_an_error(field, value, known):
    term = SmallestSingularValue()
    setattr(term, field, value)  # as an override on the command line sets it
    message = rf"^{field}: got '{value}', expected one of {known}\. Choose"
    with pytest.raises(ConfigError, match=message):
        term.validate()


@pytest.mark.parametrize("of", ["correlation", "covariance", "projection"])
def test_every_known_matrix_passes(of):
    SmallestSingularValue(of=of).validate()


def test_defaults_are_those_of_the_authors():
    assert OrthogonalProjection() == OrthogonalProjection(weight=0.2, squared=False)
    assert CrossProjection() == CrossProjection(weight=0.05)
