"""CaRot's bound held against trained models: which count, their numbers, the correlations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calib_jax.metrics.correlation import correlation
from calib_jax.report.bound import OUTCOMES, QUANTITIES
from calib_jax.report.data import lookup, number

MIN_MODELS = 5
"""Methods; with fewer a correlation over them says nothing."""


def bound_record(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What the bound is made of and what it bounds, of trained models over common seeds.

    `values`: for each number a row a method of `methods`, a column a seed. `pairs`: for each
    quantity and outcome Pearson's r with its interval and the least-squares line, None where one
    side does not vary. `width` d of the features, and `smallest`, the least d/σ_min.

    The methods are those of at least one step that have every number at the same seeds; None with
    fewer than `MIN_MODELS` of them. A method whose features have a direction without variance,
    1/σ_min = infinity, is left out.

    Args:
        runs: The records of `results.json`.
    """
    found: dict[str, dict[object, dict[str, float]]] = {}
    widths = set()
    for run in runs:
        numbers = _numbers(run)
        if numbers is not None:
            found.setdefault(run["method"], {})[run.get("seed")] = numbers
            widths.add(_width(run))
    seeds = max(found.values(), key=len, default={})
    whole = [method for method, of in found.items() if set(of) == set(seeds)]
    if len(whole) < MIN_MODELS:
        return None
    values = {
        key: np.asarray([[found[m][seed][key] for seed in seeds] for m in whole])
        for key in (*QUANTITIES, *OUTCOMES)
    }
    width = max(widths)
    return {
        "methods": whole,
        "values": {key: array.tolist() for key, array in values.items()},
        "width": width,
        "smallest": float(width * values["inverse_sigma_min"].min()),
        "pairs": [
            {"x": x, "y": y, **_pair(values[x], values[y])} for x in QUANTITIES for y in OUTCOMES
        ],
    }


def _numbers(run: Mapping[str, Any]) -> dict[str, float] | None:
    """A model's quantities and outcomes; None unless it was trained and has all of them."""
    sigma = number(lookup(run, "spectrum", "smallest_singular_value"))
    accuracy, ece, id_ece = (
        number(lookup(run, "summary", key)) for key in ("ood_accuracy", "ood_ece", "id_ece")
    )
    trained = run.get("num_steps") and _width(run)
    if not trained or not sigma or accuracy is None or ece is None or id_ece is None:
        return None
    return {
        "sigma_min": sigma,
        "inverse_sigma_min": 1 / sigma,
        "id_ece": id_ece,
        "ood_error": 1 - accuracy,
        "ood_ece": ece,
    }


def _width(run: Mapping[str, Any]) -> int:
    """Features that the spectrum is of; 0 if it was not kept."""
    return len(lookup(run, "spectrum", "singular_values") or ())


def _pair(x: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    varies = np.ptp(x) > 0
    r = correlation(x, y, kind="pearson")._asdict() if varies and np.ptp(y) > 0 else None
    return {"pearson": r, "line": line(x, y) if varies else None}


def line(x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """`slope` and `intercept` of the least-squares line."""
    slope, intercept = np.polyfit(x.ravel(), y.ravel(), 1)
    return {"slope": float(slope), "intercept": float(intercept)}
