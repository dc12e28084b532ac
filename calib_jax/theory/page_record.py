"""The numbers of the toy experiment's page that are made of those of several networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calib_jax.metrics import catalogue
from calib_jax.report.data import stat
from calib_jax.runs.bound_record import line
from calib_jax.theory.page import COLUMNS

Model = Mapping[str, Any]


def with_theory_page(results: Mapping[str, Any]) -> dict[str, Any]:
    """The results with the numbers of their page under `page`.

    `lines`: for each row of `correlations` the least-squares line. `best`: for each objective and
    number the setting with the best mean over the seeds, its `mean` and `std`. `bound`: the width d
    of the representation, the least d/σ_min and the largest OOD MSE.

    Args:
        results: The content of the toy experiment's `results.json`.
    """
    models, width = results["models"], results["config"]["widths"][1]
    settings: dict[str, dict[tuple[float, float], list[Model]]] = {}
    for model in models:
        strengths = (model["self_distillation"], model["orthogonality"])
        settings.setdefault(model["objective"], {}).setdefault(strengths, []).append(model)
    values = {
        key: np.array([model[key] for model in models])
        for row in results["correlations"]
        for key in (row["x"], row["y"])
    }
    page = {
        "lines": [line(values[row["x"]], values[row["y"]]) for row in results["correlations"]],
        "best": {
            objective: {key: _best(list(runs.values()), key) for key in COLUMNS}
            for objective, runs in settings.items()
        },
        "bound": {
            "width": width,
            "smallest": width * min(model["inverse_sigma_min"] for model in models),
            "largest_ood_mse": max(model["ood_mse"] for model in models),
        },
    }
    return {**results, "page": page}


def _best(settings: Sequence[Sequence[Model]], key: str) -> dict[str, float | None]:
    """Mean and sample standard deviation over the seeds of the setting with the best mean."""
    values = np.array([[run[key] for run in runs] for runs in settings])
    sign = catalogue.of(key, catalogue.THEORY).sign
    best = (sign * values.mean(axis=1)).argmax()
    return stat(values[best].tolist())._asdict()
