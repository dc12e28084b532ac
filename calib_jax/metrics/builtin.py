"""The metrics that every record has of a labelled split, each once: what, and how.

`BUILTIN` is their order in the record. A key that carries the number of bins is an entry with a
parameter, `ece_{bins}`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from calib_jax.core.errors import DataError
from calib_jax.metrics import (
    bootstrap,
    bootstrap_curves,
    calibration,
    classification,
    selective,
    smooth,
)
from calib_jax.metrics import bootstrap_calibration as of_calibration
from calib_jax.metrics.bins import Binning
from calib_jax.metrics.calibration import Norm
from calib_jax.metrics.metric import BINS, Direction, Metric, SplitView, Unit
from calib_jax.metrics.outcomes import Outcomes


def _mean(
    of: Callable[[Outcomes], np.ndarray],
    title: str,
    direction: Direction,
    meaning: str,
    *,
    unit: Unit = "fraction",
    one_answer: bool = False,
) -> Metric:
    """The mean of one value an example."""
    return Metric(
        title=title,
        direction=direction,
        unit=unit,
        meaning=meaning,
        value=lambda view: float(of(view.outcomes).mean()),
        statistic=lambda view: bootstrap.mean(of(view.outcomes)),
        one_answer=one_answer,
    )


def _gap(
    title: str,
    meaning: str,
    *,
    norm: Norm = "l1",
    binning: Binning = "width",
    also_bins: tuple[int, ...] = (),
) -> Metric:
    """A norm of the gaps between confidence and accuracy in bins."""
    return Metric(
        title=title,
        direction="lower",
        meaning=meaning,
        value=lambda view: calibration.calibration_error(
            view.outcomes.confidence,
            view.outcomes.correct,
            num_bins=view.num_bins,
            norm=norm,
            binning=binning,
        ),
        statistic=lambda view: of_calibration.calibration_error(
            view.outcomes.confidence,
            view.outcomes.correct,
            num_bins=view.num_bins,
            norm=norm,
            binning=binning,
        ),
        also_bins=also_bins,
        biased=True,
    )


def _brier_part(
    part: Literal["reliability", "resolution", "uncertainty"], direction: Direction, meaning: str
) -> Metric:
    return Metric(
        title=f"Brier {part}",
        direction=direction,
        unit="1",
        meaning=meaning,
        value=lambda view: getattr(view.brier_parts, part),
        statistic=lambda view: of_calibration.brier_part(
            view.outcomes.confidence, view.outcomes.correct, part=part, num_bins=view.num_bins
        ),
    )


def _classwise_statistic(view: SplitView) -> bootstrap.Statistic:
    if view.probs is None:
        raise DataError(
            "probs: got None, expected a function: the class-wise error is resampled from them. "
            "Give SplitView that of the split's classes."
        )
    return of_calibration.classwise_calibration_error(
        view.probs(), view.outcomes.labels, num_bins=view.num_bins
    )


BUILTIN: dict[str, Metric] = {
    "accuracy": _mean(
        lambda of: of.correct, "accuracy", "higher", "share of the examples that are right"
    ),
    "top5_accuracy": _mean(
        lambda of: of.rank < 5,
        "top5 accuracy",
        "higher",
        "share whose class is among the five most likely",
        one_answer=True,
    ),
    "balanced_accuracy": Metric(
        title="balanced accuracy",
        direction="higher",
        meaning="mean of the accuracies of the classes",
        value=lambda view: classification.balanced_accuracy(
            view.outcomes.predicted, view.outcomes.labels, num_classes=view.outcomes.num_classes
        ),
        statistic=lambda view: bootstrap.balanced_accuracy(
            view.outcomes.predicted, view.outcomes.labels
        ),
        one_answer=True,
    ),
    "macro_f1": Metric(
        title="macro F1",
        direction="higher",
        meaning="mean of the F1 scores of the classes",
        value=lambda view: classification.macro_f1(
            view.outcomes.predicted, view.outcomes.labels, num_classes=view.outcomes.num_classes
        ),
        statistic=lambda view: bootstrap.macro_f1(view.outcomes.predicted, view.outcomes.labels),
        one_answer=True,
    ),
    "nll": _mean(
        lambda of: of.nll,
        "NLL",
        "lower",
        "of all classes, mean over the examples",
        unit="nats",
        one_answer=True,
    ),
    "brier": _mean(
        lambda of: of.brier,
        "Brier",
        "lower",
        "of all classes, mean over the examples, in 0..2",
        unit="1",
        one_answer=True,
    ),
    "ece_{bins}": _gap(
        "ECE {bins}",
        "mean over the examples of the gap between confidence and accuracy, in that many bins of "
        "equal width, of the whole split",
        also_bins=(10,),
    ),
    "ece_{bins}_l2": _gap("ECE {bins} l2", "root of the mean squared gap", norm="l2"),
    "debiased_ece_{bins}": Metric(
        title="debiased ECE {bins}",
        direction="lower",
        meaning="root of the mean squared gap without what sampling alone explains; bins of equal "
        "mass",
        value=lambda view: calibration.debiased_calibration_error(
            view.outcomes.confidence, view.outcomes.correct, num_bins=view.num_bins
        ),
        statistic=lambda view: of_calibration.debiased_calibration_error(
            view.outcomes.confidence, view.outcomes.correct, num_bins=view.num_bins
        ),
    ),
    "adaptive_ece": _gap("adaptive ECE", "mean gap, in bins of equal mass", binning="mass"),
    "classwise_ece": Metric(
        title="classwise ECE",
        direction="lower",
        meaning="mean over the classes of the ECE of the class's probability",
        value=lambda view: view.outcomes.classwise_calibration_error,
        statistic=_classwise_statistic,
        one_answer=True,
        by_class=True,
        biased=True,
    ),
    "mce": _gap("MCE", "largest gap of a bin", norm="max"),
    "smooth_ece": Metric(
        title="smooth ECE",
        direction="lower",
        biased=True,
        meaning="without bins: kernel-smoothed",
        value=lambda view: smooth.smooth_calibration_error(
            view.outcomes.confidence, view.outcomes.correct
        ),
        statistic=lambda view: of_calibration.smooth_calibration_error(
            view.outcomes.confidence, view.outcomes.correct
        ),
    ),
    "ks": Metric(
        title="KS error",
        direction="lower",
        biased=True,
        meaning="without bins: largest gap of the cumulated sums",
        value=lambda view: smooth.ks_calibration_error(
            view.outcomes.confidence, view.outcomes.correct
        ),
        statistic=lambda view: of_calibration.ks_calibration_error(
            view.outcomes.confidence, view.outcomes.correct
        ),
    ),
    "ece_10_per_batch_512": Metric(
        # A long heading in a narrow column: it may break after a few words, not after each.
        title="ECE~10~averaged over~batches~of~512, only~to~compare with~papers".replace(
            "~", "\N{NO-BREAK SPACE}"
        ),
        direction="lower",
        meaning="mean of the ECEs of batches of 512: what published numbers are, and nothing to "
        "judge a model by",
        value=lambda view: calibration.batch_averaged_calibration_error(
            view.outcomes.confidence, view.outcomes.correct
        ),
    ),
    "aurc": Metric(
        title="AURC",
        direction="lower",
        meaning="area under the risk-coverage curve",
        value=lambda view: selective.aurc(view.curve),
        statistic=lambda view: bootstrap_curves.aurc(
            view.outcomes.confidence, view.outcomes.correct
        ),
    ),
    "augrc": Metric(
        title="AUGRC",
        direction="lower",
        meaning="area under the generalised risk-coverage curve",
        value=lambda view: selective.augrc(view.curve),
        statistic=lambda view: bootstrap_curves.augrc(
            view.outcomes.confidence, view.outcomes.correct
        ),
    ),
    "brier_reliability": _brier_part(
        "reliability", "lower", "part of the Brier score of the confidence in the answer: the gaps"
    ),
    "brier_resolution": _brier_part(
        "resolution", "higher", "part of the same: how far confidence tells right from wrong"
    ),
    "brier_uncertainty": _brier_part("uncertainty", "neither", "part of the same: of the accuracy"),
    "mean_confidence": _mean(
        lambda of: of.confidence,
        "mean confidence",
        "neither",
        "mean probability of the predicted class",
    ),
}


def in_bins(
    num_bins: int, own: Mapping[str, Metric] | None = None
) -> dict[str, tuple[Metric, int]]:
    """By key the metrics of a record with so many bins, each with the bins it is given for.

    Args:
        num_bins: Of the calibration errors.
        own: Further metrics, of a config.
    """
    found: dict[str, tuple[Metric, int]] = {}
    for key, metric in {**BUILTIN, **(own or {})}.items():
        for bins in (*metric.also_bins, num_bins):
            found[key.replace(BINS, str(bins))] = (metric, bins)
    return found


def values(view: SplitView, own: Mapping[str, Metric] | None = None) -> dict[str, float]:
    """Every metric of a split; NaN or infinite where it is undefined.

    Args:
        view: Of the split.
        own: Further metrics, of a config.
    """
    views = {view.num_bins: view}
    found = {}
    for key, (metric, bins) in in_bins(view.num_bins, own).items():
        one = views.setdefault(bins, dataclasses.replace(view, num_bins=bins))
        found[key] = metric.value(one)
    return found
