"""One trained model on every split: the record that `results.json` and the report are made of."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from calib_jax.calibrators.calibrator import Calibrator, PairedCalibrator
from calib_jax.calibrators.checks import check_settings
from calib_jax.calibrators.temperature import TemperatureScaling
from calib_jax.classifiers.head import Head, PrototypeHead
from calib_jax.core.errors import ConfigError, nearest
from calib_jax.core.numerics import softmax, spread
from calib_jax.core.paths import check_names
from calib_jax.core.types import Predictions
from calib_jax.data.captions import check_templates
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.data.datasets.records import Split
from calib_jax.data.datasets.slices import may_overlap
from calib_jax.evaluation import intervals
from calib_jax.evaluation.detection import (
    Scored,
    detection_record,
    known_of,
    quantities_of,
    score_split,
)
from calib_jax.evaluation.diagnostics import spectrum
from calib_jax.evaluation.labelled import Labelled
from calib_jax.evaluation.posthoc import TEMPERATURE, VALIDATION
from calib_jax.evaluation.record import Roles, check_trends, record_of, with_unknown
from calib_jax.metrics import catalogue
from calib_jax.metrics.bootstrap import check_num_resamples
from calib_jax.metrics.metric import Metric
from calib_jax.metrics.robustness import Trend
from calib_jax.scores.energy import Energy
from calib_jax.scores.max_logit import MaxLogit
from calib_jax.scores.max_similarity import MaxSimilarity
from calib_jax.scores.mcm import MCM
from calib_jax.scores.msp import MSP
from calib_jax.scores.score import Score, fitted


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
        scores: OOD scores of every split, under names of your own; `results.json` has all.
        score: That of the table, by its name.
        batch_size: Images at a time, over all devices.
        num_examples: Images of each set that the report shows.
        num_resamples: Of the bootstrap intervals; 0: none. 200 of them take 0.13 s for a split of
            2,000 examples and one calibrator, and 0.3 s for 10,000.
        calibrators: Fitted on `validation` and tried on every split beside the raw model; without
            `validation` there are only those without a fit (`SampleAdaptiveScaling`).
        trends: For shifts, by name, the line of baseline models: the effective robustness beyond
            it. Both accuracies are of the run's splits: fit the line to the same.
        metrics: Further ones by key, beside those of every record; the key is none of the
            catalogue's.
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
    scores: dict[str, Score] = dataclasses.field(
        default_factory=lambda: {
            "msp": MSP(),
            "max_logit": MaxLogit(),
            "energy": Energy(),
            "mcm": MCM(),
            "max_similarity": MaxSimilarity(),
        }
    )
    score: str = "mcm"
    batch_size: int = 256
    num_examples: int = 3
    num_resamples: int = 200
    calibrators: dict[str, Calibrator | PairedCalibrator] = dataclasses.field(
        default_factory=lambda: {TEMPERATURE: TemperatureScaling()}
    )
    trends: dict[str, Trend] = dataclasses.field(default_factory=dict)
    metrics: dict[str, Metric] = dataclasses.field(default_factory=dict)
    conformal_alpha: float | None = None
    keep_predictions: bool = True

    def validate(self) -> None:
        """Raises a ConfigError for what is unknown, named twice, out of range or fit to a test."""
        if self.score not in self.scores:
            raise ConfigError(
                f"evaluation.score: got {self.score!r}, expected one of evaluation.scores: "
                f"{', '.join(self.scores) or 'none'}.{nearest(self.score, self.scores)} Correct it."
            )
        for name, score in self.scores.items():
            try:
                score.validate()
            except ConfigError as error:
                raise ConfigError(f"evaluation.scores.{name}.{error}") from None
        names = [VALIDATION, self.id_name, *self.shifts, *self.near, *self.far]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(
                f"evaluation: the name {twice[0]!r} stands for two splits. Rename one of them."
            )
        check_names(names, field="evaluation")
        for name, split in {**self.labelled(), **self.unknown()}.items():
            split.validate(f"evaluation, split {name!r}")
        if self.num_examples < 0:
            raise ConfigError(
                f"evaluation.num_examples: got {self.num_examples}, expected at least 0. "
                "Correct it."
            )
        check_num_resamples(self.num_resamples, name="evaluation.num_resamples")
        check_settings(self.calibrators, where="evaluation.calibrators")
        check_templates(self.templates, field="evaluation.templates")
        check_trends(self.trends, self.shifts, where="evaluation.trends")
        catalogue.check_own(self.metrics, where="evaluation.metrics")
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

    def validate_untrained(self) -> None:
        """Raises a ConfigError for a score that is fitted to images that nothing is trained on."""
        for name, score in self.scores.items():
            if score.fit_needs:
                raise ConfigError(
                    f"evaluation.scores.{name}: it is fitted to the fine-tuning images, but no "
                    "method is fine-tuned. Remove the score, or fine-tune a method."
                )

    def validate_head(self, head_type: type[Head], where: str) -> None:
        """Raises a ConfigError for a score that heads of this class give nothing to.

        Args:
            head_type: Of a method's classifier.
            where: The method's place in the config, for the message.
        """
        if not self.unknown() or issubclass(head_type, PrototypeHead):
            return
        for name, score in self.scores.items():
            if (score.needs | score.fit_needs) & {"similarities", "class_bank"}:
                raise ConfigError(
                    f"evaluation.scores.{name}: it looks at class embeddings, but the "
                    f"{head_type.__name__} of {where} has none. Remove the score, or give the head "
                    "class_embeddings()."
                )

    def needs_zero_shot(self) -> bool:
        """Whether a calibrator compares a model with the pre-trained one."""
        return any(isinstance(one, PairedCalibrator) for one in self.calibrators.values())

    def needs_reference(self) -> bool:
        """Whether a score is fitted to what a model says of the training images."""
        return any(score.fit_needs for score in self.scores.values())

    def roles(self) -> Roles:
        """The same, as a record is made of it: without validation nothing is to be fitted."""
        return Roles(
            id_name=self.id_name,
            shifts=tuple(self.shifts),
            near=tuple(self.near),
            far=tuple(self.far),
            table_score=self.score,
            calibrators={
                name: one
                for name, one in self.calibrators.items()
                if self.validation is not None or isinstance(one, PairedCalibrator)
            },
            trends=self.trends,
            conformal_alpha=self.conformal_alpha,
            num_resamples=self.num_resamples,
        )

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
    scored: Scored | None = None,
) -> dict[str, Any]:
    """What `results.json` holds of one model: metrics raw and calibrated, detection, spectrum ...

    Its keys are those of `record.record_of` and `detection.detection_record`, and `spectrum` and
    `examples`.

    Args:
        predictions: Of the splits of `evaluation.labelled()` and `evaluation.unknown()`.
        splits: The same, opened.
        evaluation: Which split is what.
        class_names: For the examples.
        zero_shot: What the pre-trained model says of the labelled splits, where a calibrator needs
            it (`needs_zero_shot`).
        scored: The scores of the ID split and the OOD sets; None: `score_splits` of them.
    """
    if scored is None:
        scored = score_splits(predictions, evaluation)
    labelled = {
        name: dataclasses.replace(
            Labelled.of(predictions[name], splits[name], zero_shot=(zero_shot or {}).get(name)),
            further=evaluation.metrics,
        )
        for name in evaluation.labelled()
    }
    outcomes = {name: split.outcomes() for name, split in labelled.items()}
    labelled = intervals.seeded(labelled, outcomes)
    record = record_of(
        labelled,
        outcomes,
        class_names,
        evaluation.roles(),
        unknown=_of_unknown(scored, evaluation, {}),
    )
    values = spectrum(predictions[evaluation.id_name].features)
    record["spectrum"] = {
        "smallest_singular_value": float(values[-1]),
        "singular_values": values.tolist(),
    }
    record["examples"] = {
        name: _examples(predictions[name], splits[name], class_names, evaluation.num_examples)
        for name in (evaluation.id_name, *evaluation.shifts, *evaluation.unknown())
    }
    return record


def with_scores(
    record: Mapping[str, Any], scored: Scored, evaluation: Evaluation, *, same: Collection[str]
) -> dict[str, Any]:
    """The record with the numbers of these scores, of which those that it has are kept.

    Bit-equal to what `evaluate` gives for these scores at once.

    Args:
        record: Of the same predictions and the same evaluation but for its scores.
        scored: The scores of the ID split and the OOD sets.
        evaluation: With the scores.
        same: Those that have the settings which they had in the record.
    """
    known = known_of(record, same)
    return with_unknown(record, _of_unknown(scored, evaluation, known), evaluation.roles())


def _of_unknown(scored: Scored, evaluation: Evaluation, known: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says of the OOD sets."""
    if not evaluation.unknown():
        return {"detection": {}}
    return detection_record(
        scored,
        id_name=evaluation.id_name,
        table_score=evaluation.score,
        means={"near_auroc": tuple(evaluation.near), "far_auroc": tuple(evaluation.far)},
        num_resamples=evaluation.num_resamples,
        known=known,
    )


def score_splits(
    predictions: Mapping[str, Predictions],
    evaluation: Evaluation,
    *,
    reference: Predictions | None = None,
    known: Scored | None = None,
) -> dict[str, dict[str, Float[np.ndarray, " n"]]]:
    """Every score of the ID split and of each OOD set, each computed once.

    Args:
        predictions: Of these splits, by name.
        evaluation: With the scores.
        reference: What the model says of the training images, for scores that are fitted to them
            (`needs_reference`).
        known: What is computed already, of the same predictions and scores: it is kept.

    Raises:
        ConfigError: A score needs what there is not, or a reference.
        DataError: A score is not finite.
    """
    found: dict[str, dict[str, Float[np.ndarray, " n"]]] = {}
    names = (evaluation.id_name, *evaluation.unknown()) if evaluation.unknown() else ()
    kept = {name: (known or {}).get(name, {}) for name in names}
    new = {k for k in evaluation.scores if any(k not in kept[name] for name in names)}
    of_reference = None if reference is None else quantities_of(reference, labelled=True)
    ready = fitted({k: evaluation.scores[k] for k in evaluation.scores if k in new}, of_reference)
    for name in names:
        lacking = {k: score for k, score in ready.items() if k not in kept[name]}
        of_split = score_split(lacking, quantities_of(predictions[name]))
        found[name] = {
            k: of_split[k] if k in of_split else kept[name][k] for k in evaluation.scores
        }
    return found


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
