"""One trained model on every split: the record that `results.json` and the report are made of."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from calib_jax.calibrators.calibrator import Calibrator, PairedCalibrator
from calib_jax.calibrators.temperature import TemperatureScaling
from calib_jax.core.errors import ConfigError, nearest
from calib_jax.core.numerics import softmax
from calib_jax.core.types import Predictions
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.data.datasets.records import Split
from calib_jax.data.datasets.slices import may_overlap
from calib_jax.data.pipeline import spread
from calib_jax.evaluation import intervals
from calib_jax.evaluation.detection import SCORES, detection_metrics
from calib_jax.evaluation.diagnostics import spectrum
from calib_jax.evaluation.labelled import Labelled
from calib_jax.evaluation.posthoc import (
    TEMPERATURE,
    VALIDATION,
    calibrated,
    conformal,
    summary_intervals,
)
from calib_jax.evaluation.record import check_trends, mistakes, records
from calib_jax.evaluation.split_metrics import summary
from calib_jax.metrics.outcomes import Outcomes
from calib_jax.metrics.robustness import Trend


@dataclasses.dataclass(kw_only=True)
class Evaluation:
    """What a model is tested on.

    Attributes:
        id_name: What the report calls the in-distribution test split.
        id_split: The in-distribution test split.
        validation: Of the training distribution; hyper-parameters are chosen on it. None where
            nothing is trained.
        shifts: Test splits of the same classes under distribution shift.
        near: OOD sets whose classes are close to the known ones.
        far: OOD sets that have little to do with them.
        templates: Prompts of the zero-shot head, averaged.
        score: The OOD score of the table; `results.json` has all of them.
        batch_size: Images at a time, over all devices.
        num_examples: Images of each set that the report shows.
        num_resamples: Of the bootstrap intervals; 0: none. 200 of them take 0.13 s for a split of
            2,000 examples and one calibrator, 0.3 s for 10,000; 0.25 s for an OOD set of 2,000
            beside as many ID examples.
        calibrators: Fitted on `validation` and tried on every split beside the raw model; without
            `validation` there are only those without a fit (`SampleAdaptiveScaling`).
        trends: For shifts, by name, the line of baseline models: the effective robustness beyond
            it. Both accuracies are of the run's splits: fit the line to the same.
        conformal_alpha: Share of labels that conformal sets, fitted on `validation` too, may miss;
            None: no sets.
        keep_predictions: Whether logits and features of every split stay in the workdir, so that
            what is added later needs no model.
    """

    id_name: str = "clean"
    id_split: Split
    validation: Split | None = None
    shifts: dict[str, Split] = dataclasses.field(default_factory=dict)
    near: dict[str, Split] = dataclasses.field(default_factory=dict)
    far: dict[str, Split] = dataclasses.field(default_factory=dict)
    templates: tuple[str, ...]
    score: str = "mcm"
    batch_size: int = 256
    num_examples: int = 3
    num_resamples: int = 200
    calibrators: dict[str, Calibrator | PairedCalibrator] = dataclasses.field(
        default_factory=lambda: {TEMPERATURE: TemperatureScaling()}
    )
    trends: dict[str, Trend] = dataclasses.field(default_factory=dict)
    conformal_alpha: float | None = None
    keep_predictions: bool = True

    def validate(self) -> None:
        """Raises a ConfigError for what is unknown, named twice, out of range or fit to a test."""
        if self.score not in SCORES:
            raise ConfigError(
                f"evaluation.score: got {self.score!r}, expected one of {', '.join(SCORES)}."
                f"{nearest(self.score, SCORES)} Correct it."
            )
        names = [VALIDATION, self.id_name, *self.shifts, *self.near, *self.far]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(
                f"evaluation: the name {twice[0]!r} stands for two splits. Rename one of them."
            )
        for field in ("num_examples", "num_resamples"):
            if getattr(self, field) < 0:
                raise ConfigError(
                    f"evaluation.{field}: got {getattr(self, field)}, expected at least 0. "
                    "Correct it."
                )
        if self.num_resamples == 1:
            raise ConfigError(
                "evaluation.num_resamples: got 1, expected 0 or at least 2. Set 200, or 0."
            )
        check_trends(self.trends, self.shifts, where="evaluation.trends")
        if self.conformal_alpha is not None and not 0 < self.conformal_alpha < 1:
            raise ConfigError(
                f"evaluation.conformal_alpha: got {self.conformal_alpha}, expected a share in "
                "(0, 1). Set 0.1 for sets that hold 90 % of the labels."
            )
        if self.calibrators or self.conformal_alpha is not None:
            self._validate_held_out()

    def _validate_held_out(self) -> None:
        """Raises a ConfigError where calibrators would be fitted to what is reported."""
        for name, split in {self.id_name: self.id_split, **self.shifts}.items():
            if self.validation is not None and may_overlap(self.validation, split):
                raise ConfigError(
                    f"evaluation.validation: got {self.validation.name}[{self.validation.split}], "
                    f"which shares examples with {name!r}, {split.name}[{split.split}], or may. "
                    "Fit calibrators to other examples, or set calibrators={} and "
                    "conformal_alpha=None."
                )

    def needs_zero_shot(self) -> bool:
        """Whether a calibrator compares a model with the pre-trained one."""
        return any(isinstance(one, PairedCalibrator) for one in self.calibrators.values())

    def labelled(self) -> dict[str, Split]:
        """The splits of the known classes, by name."""
        held_out = {} if self.validation is None else {VALIDATION: self.validation}
        return {**held_out, self.id_name: self.id_split, **self.shifts}

    def unknown(self) -> dict[str, Split]:
        """The OOD sets, by name."""
        return {**self.near, **self.far}


def evaluate(
    predictions: Mapping[str, Predictions],
    splits: Mapping[str, ImageSplit],
    evaluation: Evaluation,
    class_names: tuple[str, ...],
    *,
    zero_shot: Mapping[str, Predictions] | None = None,
) -> dict[str, Any]:
    """What `results.json` holds of one model: metrics raw and calibrated, detection, spectrum ...

    Its keys are those of `record.records`, and `mistakes`, `detection`, `spectrum`, `summary`,
    `examples`; with a validation split `calibrated` and, where it is asked for, `conformal`.

    Args:
        predictions: Of the splits of `evaluation.labelled()` and `evaluation.unknown()`.
        splits: The same, opened.
        evaluation: Which split is what.
        class_names: For the examples.
        zero_shot: What the pre-trained model says of the labelled splits, where a calibrator needs
            it (`needs_zero_shot`).
    """
    labelled = {
        name: Labelled.of(predictions[name], splits[name], zero_shot=(zero_shot or {}).get(name))
        for name in evaluation.labelled()
    }
    outcomes = {name: split.outcomes() for name, split in labelled.items()}
    labelled = intervals.seeded(labelled, outcomes)
    record = _of_labelled(labelled, outcomes, evaluation, class_names)
    id_set = predictions[evaluation.id_name]
    unknown = {name: predictions[name] for name in evaluation.unknown()}
    seeds = (labelled[evaluation.id_name].seed, len(labelled))
    of_unknown, over_sets = _of_unknown(id_set, unknown, evaluation, seeds)
    over = record.get("summary_intervals", {}) | over_sets | summary_intervals(record)
    record |= of_unknown | ({"summary_intervals": over} if over else {})
    values = spectrum(id_set.features)
    record["spectrum"] = {
        "smallest_singular_value": float(values[-1]),
        "singular_values": values.tolist(),
    }
    record["summary"] = summary(
        record["metrics"],
        record["detection"],
        id_name=evaluation.id_name,
        shifts=tuple(evaluation.shifts),
        near=tuple(evaluation.near),
        far=tuple(evaluation.far),
        score=evaluation.score,
        calibrated=record.get("calibrated", {}).get(TEMPERATURE, {}).get("metrics"),
    )
    record["examples"] = {
        name: _examples(predictions[name], splits[name], class_names, evaluation.num_examples)
        for name in (evaluation.id_name, *evaluation.shifts, *evaluation.unknown())
    }
    return record


def _of_labelled(
    labelled: dict[str, Labelled],
    outcomes: dict[str, Outcomes],
    evaluation: Evaluation,
    class_names: tuple[str, ...],
) -> dict[str, Any]:
    record = records(
        labelled,
        outcomes,
        id_name=evaluation.id_name,
        shifts=tuple(evaluation.shifts),
        trends=evaluation.trends,
        num_resamples=evaluation.num_resamples,
    )
    reported = {name: split for name, split in labelled.items() if name != VALIDATION}
    record["mistakes"] = {
        name: mistakes(outcomes[name], split.class_names(class_names))
        for name, split in reported.items()
    }
    has_held_out = VALIDATION in labelled
    chosen = {
        name: one
        for name, one in evaluation.calibrators.items()
        if has_held_out or isinstance(one, PairedCalibrator)
    }
    if has_held_out or chosen:
        record["calibrated"] = calibrated(
            chosen,
            labelled,
            shifts=tuple(evaluation.shifts),
            num_resamples=evaluation.num_resamples,
        )
    if has_held_out and evaluation.conformal_alpha is not None:
        held_out = labelled[VALIDATION]
        record["conformal"] = conformal(
            evaluation.conformal_alpha,
            held_out,
            reported,
            num_resamples=evaluation.num_resamples,
        )
    return record


def _of_unknown(
    id_set: Predictions,
    ood_sets: Mapping[str, Predictions],
    evaluation: Evaluation,
    seeds: tuple[int, int],
) -> tuple[dict[str, Any], dict[str, list[float]]]:
    """`detection`, with resamples `detection_intervals`; and the summary's intervals of means."""
    found: dict[str, Any] = {
        "detection": {name: detection_metrics(id_set, one) for name, one in ood_sets.items()}
    }
    if not evaluation.num_resamples or not ood_sets:
        return found, {}
    drawn = intervals.detection(
        id_set, ood_sets, num_resamples=evaluation.num_resamples, seeds=seeds
    )
    found["detection_intervals"] = {
        name: {score: intervals.ends(values) for score, values in of_set.items()}
        for name, of_set in drawn.items()
    }
    over = {
        f"{kind}_auroc": np.mean([drawn[n][evaluation.score]["auroc"] for n in names], axis=0)
        for kind, names in (("near", evaluation.near), ("far", evaluation.far))
        if names
    }
    return found, intervals.ends(over)


def _examples(
    predictions: Predictions, split: ImageSplit, class_names: tuple[str, ...], num_shown: int
) -> list[dict[str, Any]]:
    rows = spread(len(predictions.labels), num_shown)
    shown = Labelled(
        scores=predictions.logits[rows], labels=predictions.labels[rows], groups=split.groups
    )
    names = shown.class_names(class_names)
    return [
        {"index": row, "prediction": names[int(p.argmax())], "confidence": float(p.max())}
        for row, p in zip(rows.tolist(), softmax(shown.restricted()), strict=True)
    ]
