"""The numbers of the toy experiment's page against plain loops."""

import statistics

import numpy as np

from calib_jax.theory.page_record import with_theory_page


def test_lines_best_settings_and_the_bound():
    rng = np.random.default_rng(0)
    keys = ("id_accuracy", "id_ece", "inverse_sigma_min", "ood_accuracy", "ood_mse", "ood_ece")
    models = [
        {"objective": "L_SD", "self_distillation": strength, "orthogonality": 0.0, "seed": seed}
        | dict(zip(keys, rng.random(6).tolist(), strict=True))
        for seed in (0, 1)
        for strength in (1.0, 2.0)
    ]
    results = {
        "models": models,
        "config": {"widths": [8, 4]},
        "correlations": [{"x": "inverse_sigma_min", "y": "ood_mse"}],
    }
    page = with_theory_page(results)["page"]
    x, y = ([model[key] for model in models] for key in ("inverse_sigma_min", "ood_mse"))
    line = np.polynomial.Polynomial.fit(x, y, 1).convert().coef
    np.testing.assert_allclose([page["lines"][0]["intercept"], page["lines"][0]["slope"]], line)
    for key, choose in (("id_accuracy", max), ("ood_mse", min)):
        groups = [[m[key] for m in models if m["self_distillation"] == s] for s in (1.0, 2.0)]
        best = choose(groups, key=statistics.mean)
        found = page["best"]["L_SD"][key]
        np.testing.assert_allclose(found["mean"], statistics.mean(best))
        np.testing.assert_allclose(found["std"], statistics.stdev(best))
    assert page["bound"] == {"width": 4, "smallest": 4 * min(x), "largest_ood_mse": max(y)}
