import numpy as np
import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.core.types import Predictions
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.weight_space.curves import curve

LABELS = np.array([0, 1, 1, 2])


class Unread(ImageSplit):
    """Its classes alone."""

    def __init__(self, groups):
        self.groups, self.has_answers = groups, False


SPLITS = {"clean": Unread(None), "two classes": Unread(np.array([1, 0, -1]))}


def predictor(params, splits, *, bar):
    """Logits that are the parameters; class 2 is no class of the second split."""
    assert bar is None and list(splits) == list(SPLITS)
    labels = {"clean": LABELS, "two classes": np.minimum(LABELS, 1)}
    return {
        name: Predictions(
            logits=params["logits"],
            labels=labels[name],
            features=np.ones((4, 2)),
            class_embeddings=np.eye(3, 2),
        )
        for name in splits
    }


def test_every_alpha_on_every_split():
    start, tuned = np.zeros((4, 3)), 5.0 * np.eye(3)[LABELS]
    found = curve(predictor, {"logits": start}, {"logits": tuned}, SPLITS, alphas=(0.0, 0.5, 1.0))
    assert found["alphas"] == [0.0, 0.5, 1.0]
    assert found["splits"]["clean"]["accuracy"] == [0.25, 1.0, 1.0]
    # Restricted to two classes, whose order is turned round: equal logits give the first of them.
    assert found["splits"]["two classes"]["accuracy"][0] == 0.75
    of = {1.0: 5.0, 0.5: 2.5}
    expected = [1 - np.exp(of[a]) / (np.exp(of[a]) + 2) for a in (0.5, 1.0)]
    np.testing.assert_allclose(found["splits"]["clean"]["ece_15"], [1 / 3 - 0.25, *expected])


def test_an_alpha_out_of_range_is_found_before_anything_is_predicted():
    tree = {"logits": np.zeros((4, 3))}
    with pytest.raises(ConfigError, match="alpha"):
        curve(predictor, tree, tree, SPLITS, alphas=(0.0, 1.5))
