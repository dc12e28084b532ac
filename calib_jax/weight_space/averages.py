"""Models made of other models' weights: WiSE-FT, uniform and greedy soups, Model Stock.

Functions on trees of parameters: every leaf counts, the logit scale and the statistics of batch
norms too. They come back in their own types; integers are rounded. Whatever is chosen is chosen
by a callback, which must look at a validation split.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from calib_jax.core.errors import ConfigError, DataError, nearest
from calib_jax.core.trees import check_same_shapes, combine, interpolate
from calib_jax.core.types import Params

ALPHAS = tuple(i / 10 for i in range(11))


class CurvePoint(NamedTuple):
    """A point of the WiSE-FT curve.

    Attributes:
        alpha: The share of the fine-tuned model.
        metrics: What was measured there.
    """

    alpha: float
    metrics: Mapping[str, float]


class Mixed(NamedTuple):
    """A greedy soup.

    Attributes:
        params: The average of its members.
        members: Positions of the models in it, in the order in which they were added.
        score: Of the soup, on the held-out split.
    """

    params: Params
    members: tuple[int, ...]
    score: float


def wise_ft(pretrained: Params, finetuned: Params, alpha: float) -> Params:
    """`(1 - alpha) pretrained + alpha finetuned`, exact at 0 and 1.

    WiSE-FT (arXiv 2109.01903). Where the trees hold class embeddings, the head is
    interpolated as weights, as its authors do; where they hold the text tower alone, the head
    follows from the interpolated tower.

    Raises:
        ConfigError: `alpha` outside 0..1, or models of different architectures.
    """
    _check_alpha(alpha)
    check_same_shapes(pretrained, finetuned, what="finetuned", like="pretrained")
    return interpolate(pretrained, finetuned, alpha)


def wise_ft_curve(
    pretrained: Params,
    finetuned: Params,
    evaluate: Callable[[Params], Mapping[str, float]],
    *,
    alphas: Sequence[float] = ALPHAS,
) -> list[CurvePoint]:
    """The metrics of `wise_ft` at every alpha, in the given order.

    Args:
        pretrained: What the training started from.
        finetuned: Its result.
        evaluate: Metrics of parameters; one model is held at a time.
        alphas: Shares of the fine-tuned model in 0..1.

    Raises:
        ConfigError: As `wise_ft`, before anything is evaluated.
    """
    for alpha in alphas:
        _check_alpha(alpha)
    return [CurvePoint(a, evaluate(wise_ft(pretrained, finetuned, a))) for a in alphas]


def choose_alpha(curve: Sequence[CurvePoint], key: str, *, higher_is_better: bool) -> float:
    """The alpha of the best value of one metric; of equals the smallest.

    Args:
        curve: Measured on a validation split.
        key: The metric.
        higher_is_better: True for accuracy, False for ECE or a loss.

    Raises:
        ConfigError: No points, or a metric that was not measured.
        DataError: A value that is not finite.
    """
    if not curve:
        raise ConfigError("curve: got no points, expected at least one. Evaluate some alphas.")
    values = []
    for point in curve:
        if key not in point.metrics:
            raise ConfigError(
                f"key: got {key!r}, expected one of {', '.join(point.metrics)}."
                f"{nearest(key, point.metrics)} Correct it."
            )
        values.append(_finite(point.metrics[key], f"{key} at alpha {point.alpha}"))
    sign = -1 if higher_is_better else 1
    return min((sign * value, point.alpha) for value, point in zip(values, curve, strict=True))[1]


def uniform_soup(models: Sequence[Params]) -> Params:
    """The mean of all models (Model soups, arXiv 2203.05482); leaves that all share stay exact.

    Raises:
        ConfigError: No models, or models of different architectures.
    """
    _check_models(models, at_least=1)
    return _mean(models)


def greedy_soup(models: Sequence[Params], score: Callable[[Params], float]) -> Mixed:
    """The soup to which each model, best first, was added if that did not lower the score.

    Model soups (arXiv 2203.05482, recipe 1). Equal models are tried in the given order.

    Args:
        models: Fine-tuned from one start.
        score: Of parameters on a held-out split, higher is better (accuracy, minus a loss);
            called 2 k - 1 times for k models.

    Raises:
        ConfigError: No models, or models of different architectures.
        DataError: A score that is not finite.
    """
    _check_models(models, at_least=1)
    alone = [_finite(score(model), f"score of models[{i}]") for i, model in enumerate(models)]
    order = sorted(range(len(models)), key=lambda i: -alone[i])
    soup = Mixed(models[order[0]], (order[0],), alone[order[0]])
    for i in order[1:]:
        members = (*soup.members, i)
        params = _mean([models[member] for member in members])
        value = _finite(score(params), f"score of the soup of models {list(members)}")
        if value >= soup.score:
            soup = Mixed(params, members, value)
    return soup


def model_stock(pretrained: Params, models: Sequence[Params]) -> Params:
    """`t mean(models) + (1 - t) pretrained`, with a ratio t for each leaf.

    Model Stock (arXiv 2403.19522): `t = k cos / (1 + (k - 1) cos)`, where cos is the mean cosine
    between the differences `w_i - pretrained` of all pairs of the k models. The formula is from
    memory and agrees with public reimplementations; some of those average angles, not cosines.
    Where the mean cosine is negative, t would be negative or infinite: it is 0 there. A model
    that has not moved in a leaf is orthogonal to all others in it.

    Args:
        pretrained: What the models were fine-tuned from.
        models: Two or more.

    Raises:
        ConfigError: Fewer than two models, or models of different architectures.
    """
    _check_models(models, at_least=2)
    check_same_shapes(pretrained, models[0], what="models[0]", like="pretrained")
    return combine(_stock, pretrained, *models)


def _stock(start: Any, *leaves: Any) -> Any:
    moves = [leaf - start for leaf in leaves]
    norms = [(move * move).sum() ** 0.5 for move in moves]
    units = [move / (norm + (norm == 0)) for move, norm in zip(moves, norms, strict=True)]
    cosines = [(a * b).sum() for a, b in itertools.combinations(units, 2)]
    cosine = (sum(cosines) / len(cosines)).clip(0, 1)
    k = len(leaves)
    # The sum of the moves is k times that of the mean from the start.
    return start + cosine / (1 + (k - 1) * cosine) * sum(moves)


def _mean(models: Sequence[Params]) -> Params:
    # By differences: equal leaves give exactly themselves.
    return combine(
        lambda first, *rest: first + sum(leaf - first for leaf in rest) / (1 + len(rest)), *models
    )


def _check_models(models: Sequence[Params], *, at_least: int) -> None:
    if len(models) < at_least:
        raise ConfigError(f"models: got {len(models)}, expected at least {at_least}. Add some.")
    for i, model in enumerate(models):
        check_same_shapes(models[0], model, what=f"models[{i}]", like="models[0]")


def _check_alpha(alpha: float) -> None:
    if not 0 <= alpha <= 1:
        raise ConfigError(f"alpha: got {alpha}, expected a number in 0..1. Correct it.")


def _finite(measured: Any, what: str) -> float:
    value = float(measured)
    if not math.isfinite(value):
        raise DataError(f"{what}: got {value}, expected a finite number. Check the weights.")
    return value
