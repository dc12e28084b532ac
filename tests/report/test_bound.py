"""The bound over models: which count, what is said, that r is that of the numbers."""

import json
import re

import numpy as np

from calib_jax.report import bound


def make_results(num_methods=6, seeds=(0, 1)):
    rng = np.random.default_rng(0)
    runs = [
        {
            "method": f"m{i}",
            "seed": seed,
            "num_steps": 10,
            "spectrum": {
                "smallest_singular_value": float(0.01 + rng.random()),
                "singular_values": [1.0] * 16,
            },
            "summary": {key: float(rng.random()) for key in ("id_ece", "ood_ece", "ood_accuracy")},
        }
        for i in range(num_methods)
        for seed in seeds
    ]
    return {"table": [{"method": f"m{i}"} for i in range(num_methods)], "runs": runs}


def test_six_figures_with_their_correlation():
    results = make_results()
    html = bound.bound(results)
    assert html.count("<figure>") == 6
    x = [1 / run["spectrum"]["smallest_singular_value"] for run in results["runs"]]
    y = [run["summary"]["ood_ece"] for run in results["runs"]]
    figure = html[html.index("1/σ_min → OOD ECE") :]
    found = re.search(r"Pearson r = ([+-][\d.]+) \[([+-][\d.]+), ([+-][\d.]+)\]\.", figure)
    value, low, high = map(float, found.groups())
    assert abs(value - np.corrcoef(x, y)[0, 1]) < 0.006 and low <= value <= high
    assert "d/σ_min ≥ d = 16" in html and f"here at least {16 * min(x):,.0f}," in html
    assert "2311.01723" in html and "vacuous" in html
    assert "others" not in html


def test_models_are_trained_whole_and_of_common_seeds():
    results = make_results(num_methods=9)
    runs = results["runs"]
    runs[0]["num_steps"] = 0
    runs[2]["spectrum"]["smallest_singular_value"] = 0.0
    runs[4]["summary"]["ood_ece"] = None
    # The other order of seeds: numbers stay with their seed.
    runs[6], runs[7] = runs[7], runs[6]
    found = bound.models(results)
    assert found.methods == ["m3", "m4", "m5", "m6", "m7", "m8"] and found.width == 16
    assert found.values["id_ece"].shape == (6, 2)
    by_seed = {run["seed"]: 100 * run["summary"]["id_ece"] for run in runs if run["method"] == "m3"}
    other = {run["seed"]: 100 * run["summary"]["id_ece"] for run in runs if run["method"] == "m4"}
    assert sorted(found.values["id_ece"][0]) == sorted(by_seed.values())
    first = found.values["id_ece"][:2, 0]
    assert any(np.allclose(first, [by_seed[seed], other[seed]]) for seed in (0, 1))


def test_the_records_of_a_study_say_the_same():
    results = make_results()
    reduced = json.loads(json.dumps(bound.records(results["runs"])))
    assert bound.bound(results | {"runs": reduced}) == bound.bound(results)
    assert "singular_values" not in reduced[0]["spectrum"]


def test_too_few_models_or_no_spectrum():
    assert bound.bound(make_results(num_methods=4)) == ""
    results = make_results()
    for run in results["runs"]:
        del run["spectrum"]
    assert bound.bound(results) == ""


def test_equal_numbers_have_no_correlation():
    results = make_results(seeds=(0,))
    for run in results["runs"]:
        run["spectrum"]["smallest_singular_value"] = 0.5
    html = bound.bound(results)
    assert html.count("No correlation: every model has the same number.") == 4
