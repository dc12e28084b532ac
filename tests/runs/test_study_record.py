"""What a study is made of, and what it refuses."""

import json

import pytest

from calib_jax.core.errors import ConfigError, DataError
from calib_jax.runs.results import mean_and_std
from calib_jax.runs.study_record import collect_study

KEYS = ("id_accuracy", "ood_accuracy", "id_ece", "ood_ece", "near_auroc", "far_auroc")
ORDER = ("finetune", "lp_ft", "flyp", "carot", "tracer")
TUNING = {
    "flyp": {
        "chosen": "lr_3",
        "metric": "nll",
        "trials": [{"name": "lr_1", "score": 0.5}, {"name": "lr_3", "score": 0.25}],
    }
}


def make_results(accuracies, **changed):
    """Results of methods with OOD accuracies by seed; OOD ECE is 1/4 - accuracy / 4."""
    runs = [
        {
            "method": method,
            "seed": seed,
            "train_seconds": 1.5,
            "summary": dict.fromkeys(KEYS)
            | {"id_accuracy": 0.9, "ood_accuracy": value, "ood_ece": 0.25 - value / 4},
        }
        for method, values in accuracies.items()
        for seed, value in enumerate(values)
    ]
    return {
        "schema": 1,
        "title": "Tiny",
        "datasets": {"id": "clean", "shifts": ["fog"]},
        "seeds": [0, 1],
        "runs": runs,
        "table": mean_and_std(runs),
        **changed,
    }


RESULTS = make_results(
    {"flyp": (0.5, 0.5), "carot": (0.75, 0.5), "new": (0.875, 0.75), "newer": (0.875, 0.625)}
)


def collect(results, **settings):
    return collect_study(results, title="Study", order=ORDER, **settings)


def test_a_study_is_json_and_holds_the_comparisons():
    study = collect({"tiny": RESULTS | {"tuning": TUNING}, "again": RESULTS})
    assert json.loads(json.dumps(study, allow_nan=False)) == study
    assert list(study["experiments"]) == ["tiny", "again"]
    got = study["experiments"]["tiny"]
    assert got["name"] == "tiny" and got["table"] == RESULTS["table"]
    assert list(got["paired"]) == ["flyp", "carot"]
    flyp = {row["method"]: row for row in got["paired"]["flyp"]}
    assert flyp["new"]["ood_accuracy"]["mean"] == 0.3125
    assert (flyp["carot"]["beats"], flyp["carot"]["certain"]) == (True, False)
    carot = {row["method"]: row for row in got["paired"]["carot"]}
    assert carot["newer"]["certain"] and not carot["new"]["certain"]  # +1/8 twice; +1/8, +1/4
    assert got["better"] == {"beats": ["new", "newer"], "certain": ["newer"]}
    assert got["order"]["missing"] == ["finetune", "lp_ft", "tracer"]
    assert [row["method"] for row in got["ranking"]][:2] == ["new", "newer"]
    assert got["leaders"]["ood_accuracy"][0] == "new"
    for method, record in TUNING.items():
        assert record.items() <= got["tuning"][method].items()
    assert list(got["tuning"]) == list(TUNING) and study["experiments"]["again"]["tuning"] == {}
    assert study["published"][-1]["method"] == "TRACER"


def test_the_better_ones_are_better_than_each_rival():
    study = collect({"tiny": RESULTS}, calibrated=("flyp", "carot", "not run"))
    # Against FLYP +3/8 and +1/8: two seeds cannot tell.
    assert study["experiments"]["tiny"]["better"] == {"beats": ["new", "newer"], "certain": []}
    study = collect({"tiny": RESULTS}, calibrated=("flyp",))
    assert study["experiments"]["tiny"]["better"]["beats"] == ["carot", "new", "newer"]


def test_without_baselines_nobody_is_better():
    study = collect({"tiny": RESULTS}, baselines=(), published=())
    assert study["experiments"]["tiny"]["better"] == {"beats": [], "certain": []}
    assert study["published"] == []


def test_a_trial_that_broke_down_has_no_score():
    trials = [*TUNING["flyp"]["trials"], {"name": "lr_9", "score": float("inf")}]
    tuning = {"flyp": TUNING["flyp"] | {"trials": trials}}
    study = collect({"tiny": RESULTS | {"tuning": tuning}})
    assert study["experiments"]["tiny"]["tuning"]["flyp"]["trials"][2]["score"] is None
    record = study["experiments"]["tiny"]["tuning"]["flyp"]
    assert record["num_failed"] == 1
    assert (record["lowest"], record["highest"]) == (
        min(trial["score"] for trial in TUNING["flyp"]["trials"]),
        max(trial["score"] for trial in TUNING["flyp"]["trials"]),
    )


def test_errors():
    with pytest.raises(DataError, match=r"^study: got no results, expected at least one"):
        collect({})
    with pytest.raises(DataError, match="got schema 2"):
        collect({"tiny": RESULTS | {"schema": 2}})
    with pytest.raises(ConfigError, match=r"^baseline: got 'tracer', expected one of flyp"):
        collect({"tiny": RESULTS}, baselines=("tracer",))
    tuning = {"flyp": TUNING["flyp"] | {"chosen": "lr_2"}}
    message = r"^tuning of flyp in tiny: got 'lr_2' as chosen, expected one of its trials: lr_1, "
    with pytest.raises(DataError, match=message):
        collect({"tiny": RESULTS | {"tuning": tuning}})
