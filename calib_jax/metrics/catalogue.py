"""Every number that this library prints or records: key, title, unit, direction, statistic.

Said once, here and in `builtin`: tables, intervals, pages, comparisons, files for other programs
and the documentation read it. Names that a config chooses (of scores, calibrators, methods, splits)
are no numbers, and the metrics of a config (`Evaluation.metrics`) say themselves what they are.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping

from calib_jax.core.errors import ConfigError, nearest
from calib_jax.metrics import bootstrap_curves
from calib_jax.metrics.builtin import BUILTIN
from calib_jax.metrics.metric import BINS, Metric, PairMetric, Quantity

SHIFT: dict[str, Quantity] = {
    "effective_robustness": Quantity(
        title="effective robustness",
        direction="higher",
        unit="points",
        meaning="accuracy minus what the line of baseline models says for the same ID accuracy "
        "(Taori et al. 2020), at 0 and 1 its limits. Only of shifts that have a line "
        "(`evaluation.trends`, `trends=`)",
    )
}
"""What is a metric of a split, but only beside another."""

DETECTION: dict[str, PairMetric] = {
    "auroc": PairMetric(
        title="AUROC",
        direction="higher",
        meaning="how often an ID image scores above an OOD one, a tie counting half",
        statistic=bootstrap_curves.auroc,
    ),
    "aupr_id": PairMetric(
        title="AUPR, ID positive",
        direction="higher",
        meaning="area under the precision-recall curve",
        statistic=functools.partial(bootstrap_curves.average_precision, positive="id"),
    ),
    "aupr_ood": PairMetric(
        title="AUPR, OOD positive",
        direction="higher",
        meaning="area under the precision-recall curve",
        statistic=functools.partial(bootstrap_curves.average_precision, positive="ood"),
    ),
    "fpr95_id_positive": PairMetric(
        title="FPR95, ID positive",
        direction="lower",
        meaning="unknown images accepted when 95 % of ID are",
        statistic=functools.partial(bootstrap_curves.fpr_at_tpr, positive="id"),
    ),
    "fpr95_ood_positive": PairMetric(
        title="FPR95, OOD positive",
        direction="lower",
        meaning="ID images rejected when 95 % of unknown are",
        statistic=functools.partial(bootstrap_curves.fpr_at_tpr, positive="ood"),
    ),
}
"""The numbers of an OOD score on an OOD set, all from one sort: `metrics.detection.detection`."""

SUMMARY: dict[str, Quantity] = {
    "id_accuracy": Quantity(
        title="ID acc", direction="higher", meaning="accuracy on the ID test split"
    ),
    "ood_accuracy": Quantity(
        title="mean OOD acc", direction="higher", meaning="plain mean over the shifts"
    ),
    "id_ece": Quantity(
        title="ID ECE", direction="lower", meaning="ECE on the ID test split", biased=True
    ),
    "ood_ece": Quantity(
        title="mean OOD ECE", direction="lower", biased=True, meaning="plain mean over the shifts"
    ),
    "near_auroc": Quantity(
        title="near AUROC",
        direction="higher",
        meaning="of the score of the table, mean over the near OOD sets",
    ),
    "far_auroc": Quantity(
        title="far AUROC",
        direction="higher",
        meaning="of the score of the table, mean over the far OOD sets",
    ),
    "worst_shift_accuracy": Quantity(
        title="worst OOD acc", direction="higher", meaning="of the shift where it is lowest"
    ),
    "worst_shift_ece": Quantity(
        title="worst OOD ECE",
        direction="lower",
        biased=True,
        meaning="of the shift where it is highest",
    ),
    "ood_ece_calibrated": Quantity(
        title="mean OOD ECE, T scaled",
        direction="lower",
        biased=True,
        meaning="after temperature scaling, plain mean over the shifts",
    ),
    # Of a shift and of their mean: one word, one number.
    "effective_robustness": SHIFT["effective_robustness"],
}
"""The numbers of the results table."""

CONFORMAL: dict[str, Quantity] = {
    "coverage": Quantity(
        title="coverage",
        direction="neither",
        meaning="share of the sets that hold the right class; promised is `1 - alpha`",
    ),
    "mean_size": Quantity(
        title="size", direction="lower", unit="classes", meaning="classes in a set, on average"
    ),
}
"""The numbers of conformal sets on a split."""

THEORY: dict[str, Quantity] = {
    "sigma_min": Quantity(
        title="σ_min",
        direction="higher",
        unit="1",
        meaning="smallest singular value of the correlation matrix of the ID features",
    ),
    "inverse_sigma_min": Quantity(
        title="1/σ_min", direction="lower", unit="1", decimals=1, meaning="what the bound has"
    ),
    "id_accuracy": Quantity(title="ID acc", direction="higher", meaning="on the ID test set"),
    "ood_accuracy": Quantity(title="OOD acc", direction="higher", meaning="on the OOD test set"),
    "id_ece": Quantity(title="ID ECE", direction="lower", meaning="of the answer, ID"),
    "ood_ece": Quantity(title="OOD ECE", direction="lower", meaning="of the answer, OOD"),
    "ood_error": Quantity(title="OOD error", direction="lower", meaning="1 - the OOD accuracy"),
    "id_mse": Quantity(
        title="ID MSE",
        direction="lower",
        unit="1",
        decimals=4,
        meaning="half the Brier score of the two classes, ID",
    ),
    "ood_mse": Quantity(
        title="OOD MSE", direction="lower", unit="1", decimals=4, meaning="the same, OOD"
    ),
    "mean_standardized": Quantity(
        title="1/σ_min and ID ECE, standardised and averaged",
        direction="lower",
        unit="1",
        meaning="each brought to mean 0 and standard deviation 1 over the models first",
    ),
    "mean": Quantity(title="1/σ_min and ID ECE, averaged as they are", direction="lower", unit="1"),
}
"""The numbers of a model that CaRot's bound is held against, of a run and of the toy experiment."""

TRAINING: dict[str, Quantity] = {
    "num_steps": Quantity(title="steps", direction="neither", unit="steps", decimals=0),
    "train_seconds": Quantity(title="training", direction="lower", unit="seconds", decimals=1),
    "wall_seconds": Quantity(title="command", direction="lower", unit="seconds", decimals=1),
    "loss": Quantity(
        title="loss", direction="lower", unit="1", meaning="weighted sum of the terms"
    ),
    "smallest_singular_value": Quantity(
        title="smallest singular value",
        direction="higher",
        unit="1",
        meaning="of the correlation matrix of the image features",
    ),
    "projection_smallest_singular_value": Quantity(
        title="smallest singular value of the projection", direction="higher", unit="1"
    ),
}
"""The numbers of a training."""

COMPARISON: dict[str, Quantity] = {
    "pearson": Quantity(title="Pearson r", direction="neither", unit="1", decimals=2),
    "spearman": Quantity(title="Spearman ρ", direction="neither", unit="1", decimals=2),
    "pearson_within_seeds": Quantity(
        title="Pearson r within a seed",
        direction="neither",
        unit="1",
        decimals=2,
        meaning="of what is left without the mean of each seed",
    ),
    "kendall_tau": Quantity(
        title="Kendall's tau",
        direction="neither",
        unit="1",
        decimals=2,
        meaning="tau-b between a published order and the means here",
    ),
}
"""The numbers of two columns beside each other."""

RECORD: dict[str, Quantity] = {
    **BUILTIN,
    **SHIFT,
    **DETECTION,
    **SUMMARY,
    **CONFORMAL,
    **TRAINING,
}
"""All numbers of a run in `results.json`."""


def of(key: str, among: Mapping[str, Quantity] = RECORD) -> Quantity:
    """What is known of a number, its title with the number that its key carries.

    Raises:
        ConfigError: There is no such key.
    """
    found = _found(key, among)
    if found is not None:
        return found
    known = [pattern.replace(BINS, "15") for pattern in among]
    raise ConfigError(
        f"number: got {key!r}, expected a key of the catalogue.{nearest(key, known)} Correct it; a "
        "metric of one's own belongs in Evaluation.metrics."
    )


def _found(key: str, among: Mapping[str, Quantity]) -> Quantity | None:
    if key in among:
        return among[key]
    for pattern, quantity in among.items():
        found = re.fullmatch(re.escape(pattern).replace(re.escape(BINS), r"(\d+)"), key)
        if found is not None and found.groups():
            return dataclasses.replace(quantity, title=quantity.title.replace(BINS, found[1]))
    return None


def check_own(metrics: Mapping[str, Metric], *, where: str) -> None:
    """Raises a ConfigError for a metric of a config whose key is in the catalogue."""
    for key in metrics:
        if _found(key, RECORD) is not None:
            raise ConfigError(
                f"{where}: the key {key!r} is taken, by a number that every record has. Rename it."
            )
