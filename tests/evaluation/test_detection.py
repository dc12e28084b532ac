"""Every score on two splits, against the pairs counted one by one."""

import numpy as np
import pytest

from calib_jax.core.types import Predictions
from calib_jax.evaluation.detection import SCORES, detection_metrics

RNG = np.random.default_rng(0)
CLASSES = np.linalg.qr(RNG.normal(size=(6, 4)))[0].T


def split_near(classes, noise, count):
    """Features around some of the class embeddings; logits are 10 times their cosines."""
    features = 3 * (CLASSES[classes] + noise * RNG.normal(size=(count, 6)))
    cosines = features / np.linalg.norm(features, axis=1, keepdims=True) @ CLASSES.T
    return Predictions(
        logits=10 * cosines,
        labels=np.zeros(count, np.int32),
        features=features,
        class_embeddings=CLASSES,
    )


ID_SET = split_near(RNG.integers(4, size=50), 0.1, 50)
OOD_SET = split_near(RNG.integers(4, size=30), 1.0, 30)


def auroc_by_pairs(id_scores, ood_scores):
    pairs = [(i > o) + 0.5 * (i == o) for i in id_scores for o in ood_scores]
    return sum(pairs) / len(pairs)


@pytest.mark.parametrize("name", SCORES)
def test_auroc_is_the_share_of_pairs_in_order(name):
    score = SCORES[name]
    got = detection_metrics(ID_SET, OOD_SET)[name]
    assert got["auroc"] == pytest.approx(auroc_by_pairs(score(ID_SET), score(OOD_SET)))
    assert got["auroc"] > 0.8


@pytest.mark.parametrize("name", SCORES)
def test_the_better_known_split_scores_higher(name):
    swapped = detection_metrics(OOD_SET, ID_SET)[name]
    assert swapped["auroc"] == pytest.approx(1 - detection_metrics(ID_SET, OOD_SET)[name]["auroc"])
    same = detection_metrics(ID_SET, ID_SET)[name]
    assert same["auroc"] == 0.5


def test_scores_of_similarities_do_not_look_at_the_logits():
    """A linear head has logits of any scale; MCM takes cosines."""
    other = Predictions(
        logits=np.zeros_like(ID_SET.logits),
        labels=ID_SET.labels,
        features=ID_SET.features,
        class_embeddings=CLASSES,
    )
    for name in ("mcm", "max_similarity"):
        np.testing.assert_array_equal(SCORES[name](other), SCORES[name](ID_SET))
    np.testing.assert_allclose(
        SCORES["max_similarity"](ID_SET), ID_SET.logits.max(axis=1) / 10, rtol=1e-12
    )
