import numpy as np

from calib_jax.scores.max_similarity import max_similarity


def test_golden(golden_dir):
    golden = np.load(golden_dir / "scores_and_metrics.npz")
    images, texts = (
        features / np.linalg.norm(features, axis=1, keepdims=True)
        for features in (golden["test_features"], golden["text_features"])
    )
    np.testing.assert_allclose(
        max_similarity(images @ texts.T), golden["score/max_similarity"], rtol=0, atol=1e-6
    )


def test_closed_form():
    np.testing.assert_array_equal(max_similarity(np.array([[0.1, 0.3], [-0.2, -0.4]])), [0.3, -0.2])
