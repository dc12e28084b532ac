"""One trained model on every split: the record that `results.json` and the report are made of."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from calib_jax.core.errors import ConfigError, nearest
from calib_jax.core.numerics import softmax
from calib_jax.core.types import Params, Predictions
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.data.datasets.records import Split
from calib_jax.data.pipeline import spread
from calib_jax.evaluation.diagnostics import spectrum
from calib_jax.evaluation.ood_detection import SCORES, detection_metrics
from calib_jax.evaluation.predict import Predictor
from calib_jax.evaluation.shifts import classification_metrics, reliability, summary

VALIDATION = "validation"


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

    def validate(self) -> None:
        """Raises a ConfigError for an unknown score or a name used twice."""
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
        if self.num_examples < 0:
            raise ConfigError(
                f"evaluation.num_examples: got {self.num_examples}, expected at least 0. "
                "Correct it."
            )

    def labelled(self) -> dict[str, Split]:
        """The splits of the known classes, by name."""
        held_out = {} if self.validation is None else {VALIDATION: self.validation}
        return {**held_out, self.id_name: self.id_split, **self.shifts}

    def unknown(self) -> dict[str, Split]:
        """The OOD sets, by name."""
        return {**self.near, **self.far}


def evaluate(
    predictor: Predictor,
    params: Params,
    splits: Mapping[str, ImageSplit],
    evaluation: Evaluation,
    class_names: tuple[str, ...],
    *,
    bar: str | None = None,
) -> dict[str, Any]:
    """Metrics, reliability bins, detection, spectrum and example predictions of one model.

    Args:
        predictor: The method's.
        params: Trained parameters.
        splits: The opened splits of `evaluation.labelled()` and `evaluation.unknown()`.
        evaluation: Which split is what.
        class_names: For the examples.
        bar: The title of a progress bar; None shows none.
    """
    predictions = predictor(params, splits, bar=bar)
    labelled = {name: predictions[name] for name in evaluation.labelled()}
    metrics = {name: classification_metrics(value) for name, value in labelled.items()}
    id_set = predictions[evaluation.id_name]
    detection = {
        name: detection_metrics(id_set, predictions[name]) for name in evaluation.unknown()
    }
    values = spectrum(id_set.features)
    return {
        "metrics": metrics,
        "reliability": {name: reliability(value) for name, value in labelled.items()},
        "detection": detection,
        "spectrum": {
            "smallest_singular_value": float(values[-1]),
            "singular_values": values.tolist(),
        },
        "summary": summary(
            metrics,
            detection,
            id_name=evaluation.id_name,
            shifts=tuple(evaluation.shifts),
            near=tuple(evaluation.near),
            far=tuple(evaluation.far),
            score=evaluation.score,
        ),
        "examples": {
            name: _examples(value, class_names, evaluation.num_examples)
            for name, value in predictions.items()
            if name != VALIDATION
        },
    }


def _examples(
    predictions: Predictions, class_names: tuple[str, ...], num_shown: int
) -> list[dict[str, Any]]:
    rows = spread(len(predictions.labels), num_shown).tolist()
    if not rows:
        return []
    probs = softmax(predictions.logits[rows])
    return [
        {"index": row, "prediction": class_names[int(p.argmax())], "confidence": float(p.max())}
        for row, p in zip(rows, probs, strict=True)
    ]
