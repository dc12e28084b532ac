import dataclasses

import numpy as np
import pytest
import scipy.stats

from calib_jax.calibrators.conformal import (
    Adaptive,
    LeastAmbiguous,
    Nonconformity,
    PredictionSets,
    SplitConformal,
    set_metrics,
)
from calib_jax.core import numerics
from calib_jax.core.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(40, 6)) * 2
LABELS = (LOGITS + RNG.gumbel(size=LOGITS.shape)).argmax(axis=1)
SCORES = {
    "thr": LeastAmbiguous(),
    "aps": Adaptive(),
    "aps, not randomised": Adaptive(randomized=False),
    "raps": Adaptive(penalty=0.05, free_ranks=2),
    "raps, not randomised": Adaptive(randomized=False, penalty=0.05, free_ranks=2),
}


def score_by_loop(score, probs, k, u):
    if isinstance(score, LeastAmbiguous):
        return 1 - probs[k]
    rank = 1 + sum(p > probs[k] for p in probs)
    before = sum(p for p in probs if p > probs[k])
    share = u if score.randomized else 1.0
    return before + share * probs[k] + score.penalty * max(0, rank - score.free_ranks)


@pytest.mark.parametrize("name", SCORES)
def test_by_loop(name):
    score, seed = SCORES[name], 3
    fitted = SplitConformal(alpha=0.2, score=score, seed=seed).fit(LOGITS, LABELS)
    draws = np.random.default_rng([seed, 0]).random(len(LABELS))
    probs = numerics.softmax(LOGITS)
    own = sorted(
        score_by_loop(score, row, label, u)
        for row, label, u in zip(probs, LABELS, draws, strict=True)
    )
    assert fitted.threshold == pytest.approx(own[33 - 1], abs=1e-12)  # ceil(41 * 0.8) = 33
    other = RNG.normal(size=(25, 6)) * 2
    draws = np.random.default_rng([seed, 1]).random(25)
    expected = [
        [score_by_loop(score, row, k, u) <= fitted.threshold for k in range(6)]
        for row, u in zip(numerics.softmax(other), draws, strict=True)
    ]
    np.testing.assert_array_equal(fitted.sets(other), expected)


@pytest.mark.parametrize("name", SCORES)
def test_coverage_of_exchangeable_examples(name):
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(8000, 6)) * 2
    labels = (0.5 * logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # overconfident
    alpha, num_fit = 0.1, 3000
    fitted = SplitConformal(alpha=alpha, score=SCORES[name]).fit(logits[:num_fit], labels[:num_fit])
    metrics = set_metrics(fitted.sets(logits[num_fit:]), labels[num_fit:])
    num_test = len(labels) - num_fit
    # Given the calibration split the coverage is a beta variable: Angelopoulos and Bates 2021.
    rank = int(np.ceil((num_fit + 1) * (1 - alpha)))
    law = scipy.stats.betabinom(num_test, rank, num_fit + 1 - rank)
    low, high = law.ppf([1e-4, 1 - 1e-4]) / num_test
    assert low <= metrics.coverage <= high
    assert 1 < metrics.mean_size < 6


def test_labels_of_the_calibration_split_are_covered():
    # The rank itself: at least ceil((n + 1)(1 - alpha)) labels are in their sets.
    for alpha in (0.05, 0.1, 0.5, 0.9):
        fitted = SplitConformal(alpha=alpha).fit(LOGITS, LABELS)
        covered = fitted.sets(LOGITS)[np.arange(40), LABELS].sum()
        assert covered == np.ceil(round(41 * (1 - alpha), 9))


@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
def test_fewest_examples(alpha):
    fewest = int(np.ceil(round((1 - alpha) / alpha, 9)))
    config = SplitConformal(alpha=alpha)
    fitted = config.fit(LOGITS[:fewest], LABELS[:fewest])
    assert fitted.sets(LOGITS[:fewest])[np.arange(fewest), LABELS[:fewest]].all()
    with pytest.raises(
        DataError, match=rf"got {fewest - 1} examples, expected at least {fewest} f"
    ):
        config.fit(LOGITS[: fewest - 1], LABELS[: fewest - 1])


@pytest.mark.parametrize("name", SCORES)
def test_blocks_and_repetition(name, monkeypatch):
    config = SplitConformal(score=SCORES[name])
    fitted = config.fit(LOGITS, LABELS)
    sets = fitted.sets(LOGITS)
    np.testing.assert_array_equal(fitted.sets(LOGITS), sets)
    monkeypatch.setattr(numerics, "BLOCK_ELEMENTS", 18)
    assert config.fit(LOGITS, LABELS) == fitted
    np.testing.assert_array_equal(fitted.sets(LOGITS), sets)


def test_only_plain_values_are_kept():
    assert dataclasses.asdict(SplitConformal(score=SCORES["raps"]).fit(LOGITS, LABELS)) == {
        "score": {"randomized": True, "penalty": 0.05, "free_ranks": 2},
        "threshold": pytest.approx(1, abs=0.5),
        "seed": 0,
    }
    assert all(isinstance(score, Nonconformity) for score in SCORES.values())


@pytest.mark.parametrize("name", SCORES)
def test_degenerate_logits(name):
    config = SplitConformal(score=SCORES[name])
    for logits in (1e4 * LOGITS, 0 * LOGITS, LOGITS[:, :1]):
        labels = LABELS % logits.shape[1]
        sets = config.fit(logits, labels).sets(logits)
        assert sets[np.arange(40), labels].mean() >= 0.6


def test_set_metrics():
    sets = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 1], [1, 1, 1], [1, 1, 0]], bool)
    metrics = set_metrics(sets, np.array([0, 0, 0, 2, 1]), strata=(1, 2))
    assert metrics.coverage == pytest.approx(3 / 5)
    assert metrics.mean_size == pytest.approx(8 / 5)
    assert metrics.largest.tolist() == [1, 2, 3]
    assert metrics.count.tolist() == [2, 2, 1]
    assert metrics.stratum_coverage == pytest.approx([1 / 2, 1 / 2, 1])
    assert metrics.violation(0.2) == pytest.approx(0.3)
    default = set_metrics(sets[:3], np.zeros(3, int))
    assert default.largest.tolist() == [1, 3]
    assert set_metrics(sets[1:2], np.zeros(1, int)).stratum_coverage == pytest.approx(
        [1, np.nan], nan_ok=True
    )


def test_errors():
    for alpha in (0.0, 1.0, -0.1, np.nan):
        with pytest.raises(ConfigError, match=rf"^alpha: got {alpha}, expected a share in \(0, 1"):
            SplitConformal(alpha=alpha).fit(LOGITS, LABELS)
    with pytest.raises(
        ConfigError, match="^score.penalty: got -1.0, expected a finite number >= 0"
    ):
        SplitConformal(score=Adaptive(penalty=-1.0)).fit(LOGITS, LABELS)
    with pytest.raises(
        ConfigError, match="^score.free_ranks: got -1, expected a finite number >= 0"
    ):
        SplitConformal(score=Adaptive(free_ranks=-1)).fit(LOGITS, LABELS)
    with pytest.raises(DataError, match=r"^labels: got 9 at \[0\], expected a class in \[0, 6\)"):
        SplitConformal().fit(LOGITS, LABELS * 0 + 9)
    fitted = PredictionSets(score=LeastAmbiguous(), threshold=0.5, seed=0)
    with pytest.raises(DataError, match="^logits: got 0 examples, expected at least 1"):
        fitted.sets(LOGITS[:0])
    with pytest.raises(ConfigError, match=r"^strata: got \(3, 2\), expected increasing sizes"):
        set_metrics(fitted.sets(LOGITS), LABELS, strata=(3, 2))
    with pytest.raises(DataError, match=r"^labels: got 6 at \[0\], expected a class in \[0, 6\)"):
        set_metrics(fitted.sets(LOGITS), LABELS * 0 + 6)
