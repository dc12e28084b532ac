"""The base of every OOD score."""

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from calib_jax.core.errors import ConfigError
from calib_jax.scores.quantities import Quantities


@dataclasses.dataclass(kw_only=True)
class Score:
    """Says of each example how much it looks like one of the known classes.

    Higher = more in-distribution, always. A config chooses scores by instance, under names of the
    user's own: `Evaluation.scores = {"mcm": MCM(), "sharp": MCM(temperature=0.01)}`.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    """The quantities that it reads, by their names in `Quantities`."""

    fit_needs: ClassVar[frozenset[str]] = frozenset()
    """The quantities that `fit` reads of the reference; empty: there is nothing to fit."""

    def validate(self) -> None:
        """Raises a ConfigError for a field out of range."""

    def fit(self, reference: Quantities) -> "Score":
        """The score with its statistics of the reference; itself, where it has none.

        Args:
            reference: Of ID examples that no number is reported on.
        """
        del reference
        return self

    def __call__(self, quantities: Quantities) -> Float[np.ndarray, " n"]:
        """The score of every example, in float64; finite."""
        raise NotImplementedError(f"{type(self).__name__} must define __call__")


def fitted(
    scores: Mapping[str, Score], reference: Quantities | None, *, where: str = "evaluation.scores"
) -> dict[str, Score]:
    """The scores, those with statistics fitted to the reference.

    Args:
        scores: By name.
        reference: Of ID training examples; None: there are none here.
        where: The field that holds the scores.

    Raises:
        ConfigError: A score is to be fitted and there is no reference, or it lacks a quantity.
    """
    for name, score in scores.items():
        if score.fit_needs and reference is None:
            raise ConfigError(
                f"{where}.{name}: got no reference, expected {_listed(score.fit_needs)} of the "
                "training images to fit it to. Remove the score."
            )
        if reference is not None and score.fit_needs:
            _check(name, score.fit_needs, reference, of="the reference", where=where)
    return {
        name: score.fit(reference.only(score.fit_needs))
        if reference is not None and score.fit_needs
        else score
        for name, score in scores.items()
    }


def check_quantities(
    scores: Mapping[str, Score], quantities: Quantities, *, where: str = "evaluation.scores"
) -> None:
    """Refuses a score that needs what there is not.

    Args:
        scores: By name.
        quantities: Of a split.
        where: The field that holds the scores.

    Raises:
        ConfigError: Naming the score and the quantity.
    """
    for name, score in scores.items():
        _check(name, score.needs, quantities, of="the split", where=where)


def _check(
    name: str, needs: frozenset[str], quantities: Quantities, *, of: str, where: str
) -> None:
    missing = quantities.missing(needs)
    if missing:
        raise ConfigError(
            f"{where}.{name}: got no {missing[0]} of {of}, expected {_listed(needs)}. "
            "Remove the score, or give what it needs."
        )


def _listed(names: frozenset[str]) -> str:
    return " and ".join(sorted(names))
