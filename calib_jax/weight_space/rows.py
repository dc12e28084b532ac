"""Rows of the table that are made of the weights of trained methods, and need no training."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float

from calib_jax.classifiers.head import Classifier
from calib_jax.core import progress
from calib_jax.core.errors import ConfigError, nearest
from calib_jax.core.sharding import to_devices
from calib_jax.core.types import Batch, Params, Predictions
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.data.pipeline import cycled_batches
from calib_jax.evaluation.labelled import Labelled, check_defined
from calib_jax.evaluation.posthoc import VALIDATION
from calib_jax.evaluation.predict import Predictor
from calib_jax.evaluation.restrict import restrict_traced
from calib_jax.methods.method import Method
from calib_jax.models.encoder import Encoder
from calib_jax.objectives.cross_entropy import cross_entropy
from calib_jax.objectives.views import Tables, Views
from calib_jax.weight_space.averages import (
    ALPHAS,
    choose_alpha,
    greedy_soup,
    model_stock,
    uniform_soup,
    wise_ft,
    wise_ft_curve,
)
from calib_jax.weight_space.tpgm import NORMS, tpgm

METRICS = ("nll", "brier", "ece_15")


class HeldOut(NamedTuple):
    """The validation split, as a combination looks at it.

    Attributes:
        metrics: `Labelled.metrics` of parameters on the whole split.
        loss: The mean cross-entropy of parameters on a batch, in nats, over the classes of the
            data set; traceable.
        batches: So many batches of so many of its examples, in order and around the end.
    """

    metrics: Callable[[Params], Mapping[str, Any]]
    loss: Callable[[Params, Batch], Float[Array, ""]]
    batches: Callable[[int, int], Iterable[Batch]]


def watched(held_out: HeldOut, stage: progress.StageProgress) -> HeldOut:
    """The split, every look at which is progress of the stage, and so are a fit's steps."""

    def metrics(params: Params) -> Mapping[str, Any]:
        found = held_out.metrics(params)
        stage.advance()
        return found

    def batches(count: int, size: int) -> Iterator[Batch]:
        with progress.board().stage(
            f"{stage.title}, its fit", total=count, unit="batch", is_minor=True
        ) as steps:
            for batch in held_out.batches(count, size):
                yield batch
                steps.advance()

    return held_out._replace(metrics=metrics, batches=batches)


def held_out(
    encoder: Encoder,
    classifier: Classifier,
    tables: Tables,
    split: ImageSplit,
    *,
    predictor: Predictor,
    mesh: Mesh,
) -> HeldOut:
    """The validation split, for models with this encoder and classifier.

    Args:
        encoder: The towers.
        classifier: Makes the head.
        tables: With the class prompts.
        split: The images.
        predictor: Of the same encoder and classifier.
        mesh: All devices.
    """

    def loss(params: Params, batch: Batch) -> Float[Array, ""]:
        views = Views(
            encoder=encoder,
            classifier=classifier,
            params=params,
            teacher_params=None,
            tables=tables,
            batch=batch,
            step=jnp.zeros([], jnp.int32),
        )
        if split.groups is None:
            return jnp.mean(cross_entropy(views.logits, views.labels))
        logits = restrict_traced(views.logits, split.groups)
        return jnp.mean(cross_entropy(logits, jnp.asarray(split.groups)[views.labels]))

    def batches(count: int, size: int) -> Iterator[Batch]:
        whole = cycled_batches(
            split,
            count,
            batch_size=size,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )
        return (to_devices(batch, mesh) for batch in whole)

    return HeldOut(metrics_on(split, predictor=predictor), loss, batches)


def metrics_on(
    split: ImageSplit, *, predictor: Callable[..., Mapping[str, Predictions]]
) -> Callable[[Params], dict[str, float | None]]:
    """A function: the metrics of parameters on a split, over the classes of its data set.

    Args:
        split: The validation split.
        predictor: Of the models that are to be compared.
    """

    def metrics(params: Params) -> dict[str, float | None]:
        return Labelled.of(predictor(params, {"held out": split})["held out"], split).metrics()

    return metrics


class Fit(NamedTuple):
    """What a training left: `{"encoder": ..., "classifier": ...}`, and its teacher, if any."""

    params: Params
    teacher: Params | None


class Combined(NamedTuple):
    """A model made of others.

    Attributes:
        params: `{"encoder": ..., "classifier": ...}`.
        chosen: What was chosen on the validation split, for the record.
    """

    params: Params
    chosen: dict[str, Any]


@dataclasses.dataclass(kw_only=True)
class Combination:
    """The base of every combination: what it is made of.

    Attributes:
        of: The method.
        num_models: Fits of it, of as many seeds: that of the row, and those that follow it in
            `seeds`, around the end.
    """

    of: str
    num_models: int = 1

    def validate(self, where: str, methods: Mapping[str, Method], seeds: Sequence[int]) -> None:
        """Raises a ConfigError for an unknown or untrained method, or too few seeds."""
        if self.of not in methods:
            raise ConfigError(
                f"{where}.of: got {self.of!r}, expected one of {', '.join(methods)}."
                f"{nearest(self.of, methods)} Correct it."
            )
        if not methods[self.of].terms:
            raise ConfigError(
                f"{where}.of: got {self.of!r}, which is not trained. Name a trained method."
            )
        if not 1 <= self.num_models <= len(seeds):
            raise ConfigError(
                f"{where}.num_models: got {self.num_models}, expected 1..{len(seeds)}, the number "
                "of seeds. Add seeds, or lower it."
            )

    def check_held_out(self, where: str, splits: Mapping[str, ImageSplit]) -> None:
        """Raises a ConfigError where the validation split lacks the number that chooses."""

    def __call__(self, start: Params, fits: Sequence[Fit], held_out: HeldOut) -> Combined:
        """The combined model.

        Args:
            start: What every fit started from: the pre-trained model with its zero-shot head.
            fits: That of the row's seed first.
            held_out: For whatever is chosen.
        """
        raise NotImplementedError(f"{type(self).__name__} must define __call__")


@dataclasses.dataclass(kw_only=True)
class TeacherOf(Combination):
    """The teacher that a method ended with, in the student's place."""

    def validate(self, where: str, methods: Mapping[str, Method], seeds: Sequence[int]) -> None:
        """Raises a ConfigError for a method without a teacher too."""
        super().validate(where, methods, seeds)
        if methods[self.of].teacher is None:
            raise ConfigError(
                f"{where}.of: got {self.of!r}, which has no teacher. Name a method that has one."
            )

    def __call__(self, start: Params, fits: Sequence[Fit], held_out: HeldOut) -> Combined:
        """The teacher's parameters."""
        teacher = fits[0].teacher
        if teacher is None:
            raise ValueError("the fit has no teacher")
        return Combined(teacher, {})


@dataclasses.dataclass(kw_only=True)
class WiseFT(Combination):
    """WiSE-FT (arXiv 2109.01903), alpha by the lowest validation metric.

    Attributes:
        alphas: Shares of the fine-tuned model; one: taken as it is.
        metric: What is minimised; the smallest of equal alphas wins.
    """

    alphas: tuple[float, ...] = ALPHAS
    metric: str = "nll"

    def validate(self, where: str, methods: Mapping[str, Method], seeds: Sequence[int]) -> None:
        """Raises a ConfigError for an alpha outside 0..1 or an unknown metric too."""
        super().validate(where, methods, seeds)
        if not self.alphas or not all(0 <= alpha <= 1 for alpha in self.alphas):
            raise ConfigError(
                f"{where}.alphas: got {self.alphas}, expected numbers in 0..1. Correct them."
            )
        if self.metric not in METRICS:
            raise ConfigError(
                f"{where}.metric: got {self.metric!r}, expected one of {', '.join(METRICS)}."
                f"{nearest(self.metric, METRICS)} Correct it."
            )

    def check_held_out(self, where: str, splits: Mapping[str, ImageSplit]) -> None:
        """Raises a ConfigError for a metric that a split of several right answers has none of."""
        if len(self.alphas) > 1:
            fix = "Set ece_15, or another split."
            check_defined(self.metric, splits[VALIDATION], where=f"{where}.metric", fix=fix)

    def __call__(self, start: Params, fits: Sequence[Fit], held_out: HeldOut) -> Combined:
        """The interpolated model, and its curve on the validation split."""
        if len(self.alphas) == 1:
            return Combined(
                wise_ft(start, fits[0].params, self.alphas[0]), {"alpha": self.alphas[0]}
            )
        curve = wise_ft_curve(start, fits[0].params, held_out.metrics, alphas=self.alphas)
        alpha = choose_alpha(curve, self.metric, higher_is_better=False)
        values = {str(point.alpha): float(point.metrics[self.metric]) for point in curve}
        return Combined(
            wise_ft(start, fits[0].params, alpha), {"alpha": alpha, self.metric: values}
        )


@dataclasses.dataclass(kw_only=True)
class Soup(Combination):
    """A uniform or greedy soup (arXiv 2203.05482); greedy by the validation accuracy."""

    num_models: int = 2
    greedy: bool = False

    def __call__(self, start: Params, fits: Sequence[Fit], held_out: HeldOut) -> Combined:
        """The average of all models, or of those that the greedy recipe takes."""
        if not self.greedy:
            return Combined(uniform_soup([fit.params for fit in fits]), {})
        models = [fit.params for fit in fits]
        soup = greedy_soup(models, lambda params: held_out.metrics(params)["accuracy"])
        return Combined(soup.params, {"members": list(soup.members), "accuracy": soup.score})


@dataclasses.dataclass(kw_only=True)
class ModelStock(Combination):
    """Model Stock (arXiv 2403.19522) of two fits and the model that they started from."""

    num_models: int = 2

    def validate(self, where: str, methods: Mapping[str, Method], seeds: Sequence[int]) -> None:
        """Raises a ConfigError for fewer than two models too."""
        super().validate(where, methods, seeds)
        if self.num_models < 2:
            raise ConfigError(
                f"{where}.num_models: got {self.num_models}, expected at least 2: the angle "
                "between their moves is what it goes by. Raise it."
            )

    def __call__(self, start: Params, fits: Sequence[Fit], held_out: HeldOut) -> Combined:
        """The fits' average, drawn to the start leaf by leaf."""
        return Combined(model_stock(start, [fit.params for fit in fits]), {})


@dataclasses.dataclass(kw_only=True)
class Tpgm(Combination):
    """TPGM (arXiv 2303.10720): the fit, projected with radii learnt on the validation split.

    Attributes:
        norm: `l2` of a leaf, or `mars`, row by row.
        num_steps: Of Adam.
        batch_size: Of the validation examples.
        learning_rate: Of Adam, in the units of the norm.
    """

    norm: str = "l2"
    num_steps: int = 200
    batch_size: int = 256
    learning_rate: float = 1e-2

    def validate(self, where: str, methods: Mapping[str, Method], seeds: Sequence[int]) -> None:
        """Raises a ConfigError for an unknown norm or a number out of range too."""
        super().validate(where, methods, seeds)
        if self.norm not in NORMS:
            raise ConfigError(
                f"{where}.norm: got {self.norm!r}, expected one of {', '.join(NORMS)}. Correct it."
            )
        for name in ("num_steps", "batch_size", "learning_rate"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(
                    f"{where}.{name}: got {getattr(self, name)}, expected a finite number > 0. "
                    "Correct it."
                )

    def __call__(self, start: Params, fits: Sequence[Fit], held_out: HeldOut) -> Combined:
        """The projected model, and the held-out loss before the first and the last step."""
        batches = held_out.batches(self.num_steps, self.batch_size)
        found = tpgm(
            start,
            fits[0].params,
            held_out.loss,
            batches,
            norm=self.norm,
            learning_rate=self.learning_rate,
        )
        losses = [float(found.losses[0]), float(found.losses[-1])]
        mean_radius = float(np.mean([float(radius) for radius in jax.tree.leaves(found.radii)]))
        return Combined(found.params, {"losses": losses, "mean_radius": mean_radius})
