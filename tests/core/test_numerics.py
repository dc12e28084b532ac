import numpy as np
import pytest
import scipy.special

from calib_jax.core import errors, numerics

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(257, 7)) * 5


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_equals_scipy_in_float64(dtype):
    logits = LOGITS.astype(dtype)
    exact = logits.astype(np.float64)
    for ours, theirs in [
        (numerics.softmax(logits), scipy.special.softmax(exact, axis=1)),
        (numerics.log_softmax(logits), scipy.special.log_softmax(exact, axis=1)),
        (numerics.logsumexp(logits), scipy.special.logsumexp(exact, axis=1)),
        (numerics.sum_exp_from_max(logits), 1 / scipy.special.softmax(exact, axis=1).max(axis=1)),
        (
            numerics.logsumexp(logits, temperature=0.3),
            0.3 * scipy.special.logsumexp(exact / 0.3, axis=1),
        ),
    ]:
        assert ours.dtype == np.float64
        np.testing.assert_allclose(ours, theirs, rtol=1e-12)


def test_inputs_are_left_alone():
    logits = LOGITS.copy()
    numerics.softmax(logits)
    numerics.log_softmax(logits)
    numerics.logsumexp(logits)
    np.testing.assert_array_equal(logits, LOGITS)


def test_finite_at_any_span():
    logits = np.array([[-1e4, 0.0, 1e4], [1e300, -1e300, 0.0]])
    np.testing.assert_array_equal(numerics.softmax(logits), [[0, 0, 1], [1, 0, 0]])
    np.testing.assert_array_equal(numerics.log_softmax(logits)[0], [-2e4, -1e4, 0])
    np.testing.assert_array_equal(numerics.logsumexp(logits), [1e4, 1e300])


def test_blocks_cover_the_rows(monkeypatch):
    whole = numerics.sum_exp_from_max(LOGITS)
    monkeypatch.setattr(numerics, "BLOCK_ELEMENTS", 70)
    blocks = list(numerics.row_blocks(*LOGITS.shape))
    assert len(blocks) == 26
    np.testing.assert_array_equal(
        np.concatenate([np.arange(257)[rows] for rows in blocks]), np.arange(257)
    )
    np.testing.assert_array_equal(numerics.sum_exp_from_max(LOGITS), whole)


def test_a_row_wider_than_a_block_is_one_block():
    assert list(numerics.row_blocks(2, 1 << 21)) == [slice(0, 1), slice(1, 2)]


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_temperature_must_be_positive(temperature):
    message = f"temperature: got {temperature}, expected a finite number above 0"
    with pytest.raises(errors.ConfigError, match=message):
        numerics.logsumexp(LOGITS, temperature=temperature)


@pytest.mark.parametrize(
    ("num_examples", "limit", "expected"),
    [
        (5, None, [0, 1, 2, 3, 4]),
        (5, 9, [0, 1, 2, 3, 4]),
        (10, 4, [0, 2, 5, 7]),
        (7, 1, [0]),
        (7, 0, []),
        (0, None, []),
    ],
)
def test_spread_takes_even_distances(num_examples, limit, expected):
    assert numerics.spread(num_examples, limit).tolist() == expected
