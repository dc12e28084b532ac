"""The bound over models: what is said, that r is that of the numbers."""

import re

import numpy as np

from calib_jax.report import bound
from calib_jax.runs.page_record import with_page


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


def test_six_figures_with_their_correlation():
    results = make_results()
    html = bound.bound(with_page(results))
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


def test_too_few_models_or_no_spectrum():
    assert bound.bound(with_page(make_results(num_methods=4))) == ""
    results = make_results()
    for run in results["runs"]:
        del run["spectrum"]
    assert bound.bound(with_page(results)) == ""


def test_equal_numbers_have_no_correlation():
    results = make_results(seeds=(0,))
    for run in results["runs"]:
        run["spectrum"]["smallest_singular_value"] = 0.5
    html = bound.bound(with_page(results))
    assert html.count("No correlation: every model has the same number.") == 4
