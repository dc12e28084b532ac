"""The page of the toy experiment says what its results say."""

import copy
import re

import numpy as np

from calib_jax.theory.page import OUTCOMES, QUANTITIES, write_theory_report
from calib_jax.theory.page_record import with_theory_page

KINDS = ("pearson", "spearman", "pearson_within_seeds")
OBJECTIVES = ("baseline", "L_SD", "L_OC", "L_SD + L_OC")


def make_results(seeds=(0, 1)):
    rng = np.random.default_rng(0)
    keys = ("id_accuracy", "id_ece", "ood_accuracy", "ood_ece", "ood_mse")
    models = [
        {
            "seed": seed,
            "objective": objective,
            "self_distillation": strength * ("SD" in objective),
            "orthogonality": strength * ("OC" in objective),
            **{key: float(value) for key, value in zip(keys, rng.random(5), strict=True)},
            "inverse_sigma_min": 20 + float(rng.random()),
            "mean": 10.0 + float(rng.random()),
            "mean_standardized": float(rng.normal()),
        }
        for seed in seeds
        for objective in OBJECTIVES
        for strength in ((1.0, 2.0) if objective != "baseline" else (0.0,))
    ]
    rows = [
        {
            "x": x,
            "y": y,
            **{k: {"value": 0.5, "low": 0.25, "high": 0.7} for k in KINDS},
        }
        for x in QUANTITIES
        for y in OUTCOMES
    ]
    return {
        "title": "Bound <on> toys",
        "created": "2026-01-01T00:00:00Z",
        "calib_jax_version": "0.1.0",
        "environment": {"jax": "0.10", "device_kind": "cpu", "wall_seconds": 3.0},
        "config": {"widths": [8, 4]},
        "models": models,
        "correlations": rows,
    }


def page(tmp_path, results):
    path = tmp_path / "report.html"
    write_theory_report(path, with_theory_page(results))
    return path.read_text()


def test_the_page_is_whole_and_the_same_for_the_same_results(tmp_path):
    results = make_results()
    html = page(tmp_path, results)
    assert html == page(tmp_path, copy.deepcopy(results))
    assert "Bound &lt;on&gt; toys" in html and "<on>" not in html
    assert html.count("<figure>") == 6
    assert html.count("Pearson r = 0.50 [0.25, 0.70], Spearman ρ = 0.50 [0.25, 0.70]. Within") == 6
    assert html.count("<td>0.50 [0.25, 0.70]</td>") == 3 * len(results["correlations"])
    assert not re.search(r"https?://|\bnan\b|src=", html)
    assert html.count("<script>") == 1
    assert "Undecided" not in html and " · 1 CPU · " in html
    legend = re.findall(r"<li><svg class=\"symbol\".*?</svg>(.*?)</li>", html)
    assert tuple(legend) == OBJECTIVES and html.count('class="symbol"') == 4
    check_best_cases(html, results)
    for i in range(2):
        assert f"L_SD + L_OC, seed {i}" in html


def test_the_answer_follows_the_intervals_with_one_seed_too(tmp_path):
    results = make_results(seeds=(0,))
    for row in results["correlations"]:
        if row["x"] == "id_ece":
            row["pearson_within_seeds"] = {"value": -0.4, "low": -0.6, "high": -0.1}
        if row["x"] == "inverse_sigma_min":
            row["pearson_within_seeds"] = {"value": 0.1, "low": -0.1, "high": 0.3}
    html = page(tmp_path, results)
    groups = re.findall(r"<p[^>]*>([^<]*)</p><ul class=\"note\">(.*?)</ul>", html)
    pooled = "(all seeds in one: 0.50)"
    average = "1/σ_min and ID ECE, standardised and averaged"
    for (text, items), (start, x, r) in zip(
        groups,
        (
            ("As the bound suggests: ", average, "0.50"),
            ("Against the bound: ", "ID ECE", "-0.40"),
            ("Undecided: ", "1/σ_min", "0.10"),
        ),
        strict=True,
    ):
        assert text.startswith(start) and "networks trained on the same data" in text
        assert re.findall("<li>(.*?)</li>", items) == [
            f"{x} → {y}: r = {r} {pooled}" for y in ("OOD MSE", "OOD ECE")
        ]
    smallest = 4 * min(model["inverse_sigma_min"] for model in results["models"])
    assert f"never below d = 4 and here never below {smallest:.0f}," in html

    check_best_cases(html, results)


def check_best_cases(html, results):
    table = html[html.index('id="best"') : html.index('id="details"')]
    cells = [re.findall(r"<td>(.*?)</td>", row) for row in table.split("<tr>")[2:]]
    of_sd = [model for model in results["models"] if model["objective"] == "L_SD"]
    for column, key, best, scale, digits in (
        (0, "id_accuracy", max, 100, 1),
        (4, "ood_mse", min, 1, 4),
    ):
        means = {
            strength: [scale * m[key] for m in of_sd if m["self_distillation"] == strength]
            for strength in (1.0, 2.0)
        }
        values = best(means.values(), key=np.mean)
        text = f"{np.mean(values):.{digits}f}"
        if len(values) > 1:
            text += f" ± {np.std(values, ddof=1):.{digits}f}"
        assert cells[1][column] == text
