"""The bound over models: which count, and that its numbers are those of plain formulas."""

import numpy as np

from calib_jax.runs.bound_record import bound_record


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
    return {
        "table": [{"method": f"m{i}"} for i in range(num_methods)],
        "runs": runs,
        "datasets": {"id": "clean"},
    }


def test_models_are_trained_whole_and_of_common_seeds():
    results = make_results(num_methods=9)
    runs = results["runs"]
    runs[0]["num_steps"] = 0
    runs[2]["spectrum"]["smallest_singular_value"] = 0.0
    runs[4]["summary"]["ood_ece"] = None
    # The other order of seeds: numbers stay with their seed.
    runs[6], runs[7] = runs[7], runs[6]
    found = bound_record(results["runs"])
    assert found["methods"] == ["m3", "m4", "m5", "m6", "m7", "m8"] and found["width"] == 16
    assert np.shape(found["values"]["id_ece"]) == (6, 2)
    by_seed = {run["seed"]: run["summary"]["id_ece"] for run in runs if run["method"] == "m3"}
    other = {run["seed"]: run["summary"]["id_ece"] for run in runs if run["method"] == "m4"}
    assert sorted(found["values"]["id_ece"][0]) == sorted(by_seed.values())
    first = [row[0] for row in found["values"]["id_ece"][:2]]
    assert any(np.allclose(first, [by_seed[seed], other[seed]]) for seed in (0, 1))


def test_correlation_and_line_are_numpys():
    runs = make_results()["runs"]
    found = bound_record(runs)
    x = [1 / run["spectrum"]["smallest_singular_value"] for run in runs]
    y = [run["summary"]["ood_ece"] for run in runs]
    pair = next(p for p in found["pairs"] if (p["x"], p["y"]) == ("inverse_sigma_min", "ood_ece"))
    np.testing.assert_allclose(pair["pearson"]["value"], np.corrcoef(x, y)[0, 1])
    assert pair["pearson"]["low"] <= pair["pearson"]["value"] <= pair["pearson"]["high"]
    line = np.polynomial.Polynomial.fit(x, y, 1).convert().coef
    np.testing.assert_allclose([pair["line"]["intercept"], pair["line"]["slope"]], line)
    np.testing.assert_allclose(found["smallest"], 16 * min(x))


def test_what_does_not_vary_has_neither():
    runs = make_results(seeds=(0,))["runs"]
    for run in runs:
        run["spectrum"]["smallest_singular_value"] = 0.5
    pairs = bound_record(runs)["pairs"]
    assert [pair["pearson"] is None for pair in pairs] == [True] * 4 + [False] * 2
    assert [pair["line"] is None for pair in pairs] == [True] * 4 + [False] * 2


def test_too_few_models():
    assert bound_record(make_results(num_methods=4)["runs"]) is None
    assert bound_record([]) is None
