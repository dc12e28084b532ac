import numpy as np

from calib_jax.scores.max_logit import max_logit


def test_golden(golden_dir):
    golden = np.load(golden_dir / "scores_and_metrics.npz")
    np.testing.assert_allclose(
        max_logit(golden["test_logits"]), golden["score/max_logit"], rtol=0, atol=1e-6
    )


def test_closed_form():
    np.testing.assert_array_equal(max_logit(np.array([[1.0, -2.0, 3.0], [-4.0, -5, -6]])), [3, -4])
