import numpy as np
import pytest

from calib_jax.core import errors
from calib_jax.metrics import bootstrap, bootstrap_curves, detection, selective

N = 50
RNG = np.random.default_rng(0)
# One decimal: ties.
SCORES = RNG.normal(size=N).round(1)
CORRECT = RNG.random(N) < 0.7
OOD = RNG.normal(-1, size=30).round(1)
SELECTIVE = {
    "aurc": (bootstrap_curves.aurc, selective.aurc, {}),
    "augrc": (bootstrap_curves.augrc, selective.augrc, {}),
    **{
        f"risk_at_{c}": (
            bootstrap_curves.risk_at_coverage,
            selective.risk_at_coverage,
            {"coverage": c},
        )
        for c in (0.0, 0.5, 0.8, 1.0)
    },
    **{
        f"coverage_at_{r}": (
            bootstrap_curves.coverage_at_risk,
            selective.coverage_at_risk,
            {"risk": r},
        )
        for r in (0.0, 0.2, 1.0)
    },
}
DETECTION = {
    "auroc": (bootstrap_curves.auroc, detection.auroc, {}),
    **{
        f"aupr_{positive}": (
            bootstrap_curves.average_precision,
            detection.average_precision,
            {"positive": positive},
        )
        for positive in ("id", "ood")
    },
    **{
        f"fpr_{tpr}_{positive}": (
            bootstrap_curves.fpr_at_tpr,
            detection.fpr_at_tpr,
            {"positive": positive, "tpr": tpr},
        )
        for positive in ("id", "ood")
        for tpr in (0.0, 0.55, 0.95, 1.0)
    },
}


def check(statistic, values):
    """The interval of 20 resamples is that of the values."""
    interval = bootstrap.intervals({"x": statistic}, num_resamples=20, level=0.8)["x"]
    np.testing.assert_allclose(interval, np.quantile(values, [0.1, 0.9]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", SELECTIVE)
@pytest.mark.parametrize("scores", [SCORES, SCORES + 1e-3 * RNG.normal(size=N)])
def test_selective_by_explicit_resampling(name, scores):
    make, number, options = SELECTIVE[name]
    rng, values = np.random.default_rng(0), []
    for _ in range(20):
        rows = rng.integers(N, size=N)
        values.append(number(selective.risk_coverage(scores[rows], CORRECT[rows]), **options))
    check(make(scores, CORRECT, **options), values)


@pytest.mark.parametrize("name", DETECTION)
def test_detection_by_explicit_resampling(name):
    make, number, options = DETECTION[name]
    values = [
        number(np.concatenate(scores), np.arange(80) < N, **options) for scores in resamples(20)
    ]
    check(make(SCORES, OOD, **options), values)


def resamples(num_resamples, seed=0):
    """Pairs of ID and OOD scores, drawn from a stream each."""
    rng = np.random.default_rng(seed)
    (of_ood,) = rng.spawn(1)
    for _ in range(num_resamples):
        yield SCORES[rng.integers(N, size=N)], OOD[of_ood.integers(30, size=30)]


def test_the_same_id_examples_are_drawn_beside_every_ood_set():
    few, many = (next(bootstrap.draws((N, n), num_resamples=9)) for n in (7, 30))
    np.testing.assert_array_equal(few[:, :N], many[:, :N])
    assert (few[:, N:].sum(axis=1) == 7).all() and few.std(axis=0).all()


def test_one_score_for_all():
    same = np.ones(4)
    chosen = {
        "aurc": bootstrap_curves.aurc(same, np.ones(4, bool)),
        "augrc": bootstrap_curves.augrc(same, np.zeros(4, bool)),
    }
    assert bootstrap.intervals(chosen, num_resamples=5) == {"aurc": (0, 0), "augrc": (0.5, 0.5)}
    auroc = bootstrap_curves.auroc(same, same[:1])
    assert bootstrap.intervals({"x": auroc}, num_resamples=5)["x"] == (0.5, 0.5)


def test_bad_input(monkeypatch):
    for make, _, options in SELECTIVE.values():
        with pytest.raises(errors.DataError, match=r"scores: got nan at \[0\], expected finite"):
            make(np.full(N, np.nan), CORRECT, **options)
        with pytest.raises(errors.DataError, match="scores: got 0 examples"):
            make(SCORES[:0], CORRECT[:0], **options)
    for make, _, options in DETECTION.values():
        with pytest.raises(errors.DataError, match="ood_scores: got 0 examples"):
            make(SCORES, OOD[:0], **options)
        with pytest.raises(errors.DataError, match=r"id_scores: got nan at \[0\]"):
            make(np.full(3, np.nan), OOD, **options)
    with pytest.raises(errors.ConfigError, match="coverage: got 80.0, expected a fraction"):
        bootstrap_curves.risk_at_coverage(SCORES, CORRECT, coverage=80.0)
    with pytest.raises(errors.ConfigError, match="risk: got 5.0, expected a fraction"):
        bootstrap_curves.coverage_at_risk(SCORES, CORRECT, risk=5.0)
    with pytest.raises(errors.ConfigError, match="tpr: got 95.0, expected a fraction"):
        bootstrap_curves.fpr_at_tpr(SCORES, OOD, positive="id", tpr=95.0)
    monkeypatch.setattr("jaxtyping.config.jaxtyping_disable", True)
    with pytest.raises(errors.DataError, match=r"correct: got shape \(49,\), expected \(50,\)"):
        bootstrap_curves.aurc(SCORES, CORRECT[1:])
    for make in (bootstrap_curves.average_precision, bootstrap_curves.fpr_at_tpr):
        with pytest.raises(errors.ConfigError, match="positive: got 'in', expected 'id' or 'ood'"):
            make(SCORES, OOD, positive="in")
