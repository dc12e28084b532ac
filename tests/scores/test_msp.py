import numpy as np

from calib_jax.scores.msp import msp


def test_golden(golden_dir):
    golden = np.load(golden_dir / "scores_and_metrics.npz")
    np.testing.assert_allclose(msp(golden["test_logits"]), golden["score/msp"], rtol=0, atol=1e-6)


def test_closed_form():
    logits = np.log(np.array([[0.2, 0.3, 0.5], [1 / 3, 1 / 3, 1 / 3]]))
    np.testing.assert_allclose(msp(logits), [0.5, 1 / 3])
    np.testing.assert_allclose(msp(logits + 1e3), [0.5, 1 / 3])


def test_confident_examples_keep_their_order():
    scores = msp(np.array([[30.0, 0.0], [31.0, 0.0]]))
    assert scores[0] < scores[1] < 1
