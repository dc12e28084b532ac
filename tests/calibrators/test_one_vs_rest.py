import numpy as np

from calib_jax.calibrators import one_vs_rest
from calib_jax.core import numerics

LOGITS = np.random.default_rng(0).normal(size=(33, 4)).astype(np.float32) * 9


def test_class_probs_are_softmax_to_the_last_bit():
    labels = LOGITS.argmin(axis=1)
    columns = list(one_vs_rest.class_probs(LOGITS, labels))
    np.testing.assert_array_equal(np.stack([p for p, _ in columns], 1), numerics.softmax(LOGITS))
    np.testing.assert_array_equal(np.stack([hit for _, hit in columns], 1).argmax(1), labels)


def test_normalize():
    probs = numerics.softmax(LOGITS)
    np.testing.assert_allclose(one_vs_rest.joined(probs, probs), probs, rtol=1e-12)
    np.testing.assert_allclose(one_vs_rest.joined(0 * probs, probs), probs, rtol=1e-12)
    values = np.array([[0.2, 0.2, 0.0, 0.4]])
    found = one_vs_rest.joined(values, probs[:1])
    np.testing.assert_allclose(found, [[0.25, 0.25, 0, 0.5]], atol=1e-8)
