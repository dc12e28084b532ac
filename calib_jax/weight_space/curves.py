"""WiSE-FT over alpha on every labelled split: what the report draws of one trained model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from calib_jax.core.types import Params, Predictions
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.evaluation.labelled import Labelled
from calib_jax.weight_space.averages import ALPHAS, wise_ft_curve

METRICS = ("accuracy", "ece_15")


def curve(
    predictor: Callable[..., Mapping[str, Predictions]],
    pretrained: Params,
    finetuned: Params,
    splits: Mapping[str, ImageSplit],
    *,
    alphas: Sequence[float] = ALPHAS,
    bar: str | None = None,
) -> dict[str, Any]:
    """`alphas` and, for each of the `splits`, accuracy and ECE at every alpha.

    Alpha is the share of the fine-tuned model (WiSE-FT, arXiv 2109.01903): 0 is what the training
    started from. It is no choice of an alpha: the splits may be reported ones.

    Args:
        predictor: The method's `Predictor`.
        pretrained: What the training started from.
        finetuned: Its result.
        splits: Labelled ones, by name.
        alphas: In 0..1.
        bar: The title of the progress of each look; None shows none.

    Raises:
        ConfigError: As `wise_ft_curve`.
    """

    def evaluate(params: Params) -> dict[str, Any]:
        predictions = predictor(params, splits, bar=bar)
        found: dict[str, Any] = {}
        for name, split in splits.items():
            metrics = Labelled.of(predictions[name], split).metrics()
            found |= {f"{name}/{metric}": metrics[metric] for metric in METRICS}
        return found

    points = wise_ft_curve(pretrained, finetuned, evaluate, alphas=alphas)
    return {
        "alphas": [point.alpha for point in points],
        "splits": {
            name: {
                metric: [point.metrics[f"{name}/{metric}"] for point in points]
                for metric in METRICS
            }
            for name in splits
        },
    }
