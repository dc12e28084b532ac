import functools

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import sklearn.metrics

from calib_jax.core import errors
from calib_jax.metrics import detection

BY_POSITIVE = (
    detection.average_precision,
    detection.aupr_trapezoid,
    detection.fpr_at_tpr,
)
ALL = {"auroc": detection.auroc} | {
    f"{metric.__name__}_{positive}": functools.partial(metric, positive=positive)
    for metric in BY_POSITIVE
    for positive in ("id", "ood")
}


def scores_with_ties(seed, n=500, levels=40):
    rng = np.random.default_rng(seed)
    is_id = rng.random(n) < 0.7
    is_id[:2] = True, False
    return np.round((rng.normal(size=n) + is_id) * levels / 8) / (levels / 8), is_id


def fpr_by_loop(scores, is_id, positive, tpr):
    sign = 1 if positive == "id" else -1
    pos = sign * scores[is_id == (positive == "id")]
    neg = sign * scores[is_id != (positive == "id")]
    for threshold in [np.inf, *sorted(set(sign * scores), reverse=True)]:
        if np.mean(pos >= threshold) >= tpr:
            return np.mean(neg >= threshold)
    raise AssertionError


def test_golden(golden_dir):
    golden = np.load(golden_dir / "scores_and_metrics.npz")
    scores, is_id = golden["detection_scores"], golden["detection_is_id"]
    for name, key in {
        "auroc": "auroc",
        "average_precision_id": "average_precision_in",
        "average_precision_ood": "average_precision_out",
        "aupr_trapezoid_id": "aupr_in_trapezoid",
        "aupr_trapezoid_ood": "aupr_out_trapezoid",
        "fpr_at_tpr_id": "fpr95_id_positive",
        "fpr_at_tpr_ood": "fpr95_ood_positive",
    }.items():
        value = ALL[name](scores, is_id)
        np.testing.assert_allclose(value, golden[f"detection/{key}"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("levels", [1, 40, 10_000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scikit_learn(levels, dtype):
    scores, is_id = scores_with_ties(levels, levels=levels)
    scores = scores.astype(dtype)
    assert detection.auroc(scores, is_id) == pytest.approx(
        sklearn.metrics.roc_auc_score(is_id, scores), abs=1e-12
    )
    for positive, sign in (("id", 1), ("ood", -1)):
        truth = is_id == (positive == "id")
        precision, recall, _ = sklearn.metrics.precision_recall_curve(truth, sign * scores)
        assert detection.average_precision(scores, is_id, positive=positive) == pytest.approx(
            sklearn.metrics.average_precision_score(truth, sign * scores), abs=1e-12
        )
        assert detection.aupr_trapezoid(scores, is_id, positive=positive) == pytest.approx(
            sklearn.metrics.auc(recall, precision), abs=1e-12
        )


@pytest.mark.parametrize("tpr", [0.0, 0.07, 0.5, 0.95, 1.0])
@pytest.mark.parametrize("positive", ["id", "ood"])
def test_fpr_by_loop(positive, tpr):
    for seed in range(5):
        scores, is_id = scores_with_ties(seed)
        value = detection.fpr_at_tpr(scores, is_id, positive=positive, tpr=tpr)
        assert value == fpr_by_loop(scores, is_id, positive, tpr)


def test_auroc_counts_pairs():
    scores, is_id = scores_with_ties(3, n=60)
    pairs = [(i > o) + (i == o) / 2 for i in scores[is_id] for o in scores[~is_id]]
    assert detection.auroc(scores, is_id) == pytest.approx(np.mean(pairs), abs=1e-15)


def test_the_conventions_differ():
    # The example of pytorch-ood's tests: ID 0..29 against OOD 10.5..29.5, higher = OOD there.
    id_scores, ood_scores = -np.arange(30.0), -(np.arange(20) + 10.5)
    scores = np.append(id_scores, ood_scores)
    is_id = np.arange(50) < 30
    fpr = functools.partial(detection.fpr_at_tpr, scores, is_id, positive="ood")
    assert [fpr(), fpr(tpr=1.0), fpr(tpr=0.0)] == [18 / 30, 19 / 30, 0]
    assert detection.fpr_at_tpr(scores, is_id, positive="id") == 18 / 20


@pytest.mark.parametrize("percent", [7, 55, 56, 95])
def test_the_rate_is_reached_exactly(percent):
    # 0.55 * 100 > 55 in floating point: a product would move on to the next threshold.
    scores = np.r_[np.full(percent, 2.0), np.zeros(100 - percent), np.ones(10)]
    is_id = np.arange(110) < 100
    assert detection.fpr_at_tpr(scores, is_id, positive="id", tpr=percent / 100) == 0.0


def test_detection_gathers_the_parts():
    scores, is_id = scores_with_ties(1)
    assert detection.detection(scores[is_id], scores[~is_id]) == {
        "auroc": ALL["auroc"](scores, is_id),
        "aupr_id": ALL["average_precision_id"](scores, is_id),
        "aupr_ood": ALL["average_precision_ood"](scores, is_id),
        "fpr95_id_positive": ALL["fpr_at_tpr_id"](scores, is_id),
        "fpr95_ood_positive": ALL["fpr_at_tpr_ood"](scores, is_id),
    }


def test_separated():
    perfect = detection.detection(np.array([1.0, 2.0]), np.array([-1.0, 0.0, 0.5]))
    reversed_ = detection.detection(np.array([-1.0, 0.0]), np.array([1.0]))
    assert perfect == {
        "auroc": 1,
        "aupr_id": 1,
        "aupr_ood": 1,
        "fpr95_id_positive": 0,
        "fpr95_ood_positive": 0,
    }
    assert reversed_["auroc"] == 0
    assert reversed_["fpr95_id_positive"] == reversed_["fpr95_ood_positive"] == 1


def test_all_tied():
    # 0.0 and -0.0 are one score.
    result = detection.detection(np.array([0.0, -0.0, 0.0]), np.array([-0.0]))
    assert result == {
        "auroc": 0.5,
        "aupr_id": 0.75,
        "aupr_ood": 0.25,
        "fpr95_id_positive": 1,
        "fpr95_ood_positive": 1,
    }


@hypothesis.settings(deadline=None, max_examples=30, derandomize=True)
@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(1, 100))
def test_properties(seed, n, levels):
    scores, is_id = scores_with_ties(seed, n=n, levels=levels)
    order = np.random.default_rng(seed).permutation(n)
    for name, metric in ALL.items():
        value = metric(scores, is_id)
        assert 0 <= value <= 1 + 1e-12
        assert metric(scores[order], is_id[order]) == value, name
        assert metric(np.exp(scores) * 1e6 - 1e3, is_id) == value, name
        assert metric(scores, is_id.astype(np.int32)) == value, name
    assert detection.auroc(-scores, ~is_id) == pytest.approx(detection.auroc(scores, is_id))
    for metric in BY_POSITIVE:
        assert metric(-scores, ~is_id, positive="ood") == metric(scores, is_id, positive="id")


@pytest.mark.parametrize("name", ALL)
def test_bad_input(name):
    scores, is_id = scores_with_ties(0)
    broken = scores.copy()
    broken[4] = np.nan
    with pytest.raises(errors.DataError, match=r"scores: got nan at \[4\], expected finite"):
        ALL[name](broken, is_id)
    with pytest.raises(errors.DataError, match=r"is_id: got -1 at \[0\], expected 0 or 1"):
        ALL[name](scores, np.full(500, -1))
    with pytest.raises(errors.DataError, match="scores: got 0 examples, expected at least 1"):
        ALL[name](scores[:0], is_id[:0])
    with pytest.raises(errors.DataError, match="is_id: got no OOD example among 500, expected bot"):
        ALL[name](scores, np.ones(500, bool))
    with pytest.raises(errors.DataError, match="is_id: got no ID example among 500"):
        ALL[name](scores, np.zeros(500, bool))


def test_bad_splits():
    good = np.array([1.0, 2.0])
    with pytest.raises(errors.DataError, match="ood_scores: got 0 examples"):
        detection.detection(good, good[:0])
    with pytest.raises(errors.DataError, match=r"id_scores: got inf at \[0\]"):
        detection.detection(np.array([np.inf]), good)


def test_bad_settings(monkeypatch):
    scores, is_id = scores_with_ties(0)
    with pytest.raises(errors.ConfigError, match=r"tpr: got 95.0, expected a fraction in \[0, 1\]"):
        detection.fpr_at_tpr(scores, is_id, positive="id", tpr=95.0)
    # The run-time type check of the tests would stop it first.
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    for metric in BY_POSITIVE:
        with pytest.raises(errors.ConfigError, match="positive: got 'in', expected 'id' or 'ood'"):
            metric(scores, is_id, positive="in")


@pytest.mark.parametrize("metric", BY_POSITIVE)
def test_the_positive_class_has_no_default(metric):
    with pytest.raises(TypeError, match="positive"):
        metric(*scores_with_ties(0))


def test_mismatched_lengths(monkeypatch):
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    scores, is_id = scores_with_ties(0)
    for metric in ALL.values():
        with pytest.raises(errors.DataError, match=r"is_id: got shape \(499,\), expected \(500,\)"):
            metric(scores, is_id[1:])
