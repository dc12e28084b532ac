"""Paired differences by hand, orders, rankings, and what is undefined."""

import math

import pytest

from calib_jax.core.errors import ConfigError, DataError
from calib_jax.report import comparison

ACCURACY, ECE = "ood_accuracy", "ood_ece"
T_2 = 4.302652729911275  # Student's t: 97.5 % quantile, 2 degrees of freedom (tables: 4.303)
T_1 = 12.706204736432095  # 1 degree of freedom


def records(**values):
    """Runs of each method: a list of (accuracy, ECE) by seed."""
    return [
        {"method": method, "seed": seed, "summary": {ACCURACY: accuracy, ECE: ece}}
        for method, cells in values.items()
        for seed, (accuracy, ece) in enumerate(cells)
    ]


# The seeds differ by far more than the methods: unpaired, nothing could be told apart.
RUNS = records(
    flyp=[(0.5, 0.20), (0.6, 0.10), (0.7, 0.30)],
    carot=[(0.51, 0.15), (0.62, 0.05), (0.73, 0.25)],
    tracer=[(0.54, 0.19), (0.62, 0.12), (0.75, 0.29)],
)


def test_paired_differences_by_hand():
    rows = comparison.paired_differences(RUNS, "flyp", [ACCURACY])
    assert [row["method"] for row in rows] == ["carot", "tracer"]
    got = rows[0][ACCURACY]  # 0.01, 0.02, 0.03
    half = T_2 * 0.01 / math.sqrt(3)
    assert got["num_seeds"] == 3
    assert got["mean"] == pytest.approx(0.02)
    assert got["std"] == pytest.approx(0.01)
    assert (got["low"], got["high"]) == pytest.approx((0.02 - half, 0.02 + half))
    assert comparison.verdict(got, ACCURACY) == "undecided"


def test_differences_use_the_seeds_that_both_have():
    runs = records(flyp=[(0.5, 0.1), (0.6, None), (0.7, float("nan")), (0.8, 0.3)])
    runs += records(carot=[(0.6, 0.2), (None, 0.2), (0.9, 0.2)])
    row = comparison.paired_differences(runs, "flyp", [ACCURACY, ECE])[0]
    half = T_1 * math.sqrt(0.005) / math.sqrt(2)  # of 0.1 and 0.2
    assert row[ACCURACY]["num_seeds"] == 2
    assert row[ACCURACY]["low"] == pytest.approx(0.15 - half)
    none = {"std": None, "low": None, "high": None}
    assert row[ECE] == {"mean": pytest.approx(0.1), "num_seeds": 1, **none}
    assert comparison.verdict(row[ECE], ECE) == "undecided"


def test_a_number_that_is_missing_everywhere_is_none():
    row = comparison.paired_differences(RUNS, "flyp", ["near_auroc"])[0]["near_auroc"]
    assert row == {"mean": None, "std": None, "num_seeds": 0, "low": None, "high": None}
    assert comparison.verdict(row, "near_auroc") == "undecided"


def test_the_same_difference_on_every_seed_is_certain():
    runs = records(flyp=[(0.5, 0.25)] * 3, carot=[(0.75, 0.5)] * 3, copy=[(0.5, 0.25)] * 3)
    carot, copy = comparison.paired_differences(runs, "flyp", [ACCURACY, ECE])
    assert carot[ACCURACY]["low"] == carot[ACCURACY]["high"] == 0.25
    assert comparison.verdict(carot[ACCURACY], ACCURACY) == "better"
    assert comparison.verdict(carot[ECE], ECE) == "worse"
    assert comparison.verdict(copy[ACCURACY], ACCURACY) == "undecided"


def test_to_beat_another_is_to_be_better_in_everything():
    got = comparison.beats(RUNS, "carot", "flyp", [ACCURACY, ECE])
    assert (got["beats"], got["certain"]) == (True, False)  # the accuracy's interval contains 0
    assert got["differences"][ECE]["mean"] == pytest.approx(-0.05)
    assert comparison.beats(RUNS, "carot", "flyp", [ECE])["certain"]
    worse = comparison.beats(RUNS, "tracer", "carot", [ACCURACY, ECE])
    assert (worse["beats"], worse["certain"]) == (False, False)
    assert not comparison.beats(RUNS, "flyp", "flyp", [ACCURACY])["beats"]
    assert not comparison.beats(RUNS, "carot", "flyp", [ACCURACY, "far_auroc"])["beats"]


def test_order_check_by_hand():
    runs = records(
        ft=[(0.5, 0.1), (0.6, 0.1)],
        flyp=[(0.4, 0.1), (0.5, 0.1)],
        carot=[(0.7, 0.1), (0.8, 0.1)],
        tracer=[(0.7, 0.1), (0.9, 0.1)],
    )
    order = ("ft", "lp_ft", "flyp", "carot", "tracer")
    got = comparison.order_check(runs, order, ACCURACY)
    assert got["missing"] == ["lp_ft"]
    assert [(row["method"], row["mean"]) for row in got["means"]] == [
        ("ft", pytest.approx(0.55)),
        ("flyp", pytest.approx(0.45)),
        ("carot", pytest.approx(0.75)),
        ("tracer", pytest.approx(0.8)),
    ]
    assert [(pair["worse"], pair["better"], pair["verdict"]) for pair in got["pairs"]] == [
        ("ft", "flyp", "reversed"),
        ("flyp", "carot", "holds"),
        ("carot", "tracer", "undecided"),
    ]
    assert got["pairs"][2]["difference"]["mean"] == pytest.approx(0.05)
    assert got["kendall_tau"] == pytest.approx((5 - 1) / 6)  # pairs in order - pairs reversed


def test_order_check_turns_where_lower_is_better():
    runs = records(ft=[(0.5, 0.3)], flyp=[(0.5, 0.2)], carot=[(0.5, 0.1)])
    assert comparison.order_check(runs, ("ft", "flyp", "carot"), ECE)["kendall_tau"] == 1
    assert comparison.order_check(runs, ("carot", "flyp", "ft"), ECE)["kendall_tau"] == -1


@pytest.mark.parametrize("order", [(), ("flyp",), ("unheard", "flyp"), ("flyp", "copy")])
def test_an_order_without_different_means_has_no_tau(order):
    runs = records(flyp=[(0.5, 0.1)], copy=[(0.5, 0.1)])
    assert comparison.order_check(runs, order, ACCURACY)["kendall_tau"] is None


def test_ranking_and_who_may_be_best():
    runs = records(
        worst=[(0.1, 0.5), (0.2, 0.6)],
        best=[(0.5, 0.1), (0.7, 0.1)],
        close=[(0.4, 0.1), (0.75, 0.2)],
        equal=[(0.4, None), (0.75, None)],
    )
    rows = comparison.ranking(runs, ACCURACY)
    assert [(row["method"], row["rank"]) for row in rows] == [
        ("best", 1),
        ("close", 2),
        ("equal", 2),
        ("worst", 4),
    ]
    assert rows[0]["difference"]["mean"] == 0 and rows[0]["may_be_best"]
    assert rows[1]["std"] == pytest.approx(0.35 / math.sqrt(2))
    assert comparison.best_methods(runs, ACCURACY)[0] == "best"
    assert [row["method"] for row in comparison.ranking(runs, ECE)] == ["best", "close", "worst"]
    alone = comparison.ranking(records(a=[(0.5, 0.1)], b=[(0.25, 0.1)]), ACCURACY)
    assert [row["may_be_best"] for row in alone] == [True, None]
    certain = records(a=[(0.5, 0.1)] * 2, b=[(0.25, 0.1)] * 2)
    assert comparison.best_methods(certain, ACCURACY) == ["a"]
    assert comparison.best_methods(certain, "near_auroc") == []


def test_unknown_names_and_repeated_records_are_errors():
    baseline = (
        r"^baseline: got 'carott', expected one of flyp, carot, tracer\. Did you mean 'carot'"
    )
    with pytest.raises(ConfigError, match=baseline):
        comparison.paired_differences(RUNS, "carott", [ACCURACY])
    with pytest.raises(ConfigError, match=r"^method: got 'tracr'.* 'tracer'\? Name a method"):
        comparison.beats(RUNS, "flyp", "tracr", [ACCURACY])
    key = r"^key: got 'ood_eec', expected one of id_accuracy, .* Did you mean 'ood_ece'\?"
    for call in (
        lambda: comparison.paired_differences(RUNS, "flyp", ["ood_eec"]),
        lambda: comparison.order_check(RUNS, (), "ood_eec"),
        lambda: comparison.best_methods(RUNS, "ood_eec"),
        lambda: comparison.verdict({"mean": None}, "ood_eec"),
    ):
        with pytest.raises(ConfigError, match=key):
            call()
    with pytest.raises(DataError, match=r"^runs: got two records of flyp with seed 1, expected"):
        comparison.ranking([*RUNS, RUNS[1]], ACCURACY)


def test_rows_that_share_fits_have_no_interval():
    runs = [dict(run) for run in RUNS]
    for run in runs:
        if run["method"] == "carot":
            run["combination"] = {"seeds": [run["seed"], (run["seed"] + 1) % 3]}
    carot, tracer = comparison.paired_differences(runs, "flyp", [ACCURACY])
    assert carot[ACCURACY]["mean"] == pytest.approx(0.02)
    assert (carot[ACCURACY]["std"], carot[ACCURACY]["low"], carot[ACCURACY]["high"]) == (None,) * 3
    assert comparison.verdict(carot[ACCURACY], ACCURACY) == "undecided"
    assert tracer[ACCURACY]["std"] is not None
