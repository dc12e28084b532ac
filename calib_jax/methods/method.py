"""A method: a classifier, the terms of its loss, what is trainable, and an optional teacher."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import optax

from calib_jax.classifiers.head import Classifier
from calib_jax.classifiers.zero_shot import ZeroShot
from calib_jax.core.errors import ConfigError
from calib_jax.objectives.term import Term
from calib_jax.optim.optimizers import AdamW, make_optimizer
from calib_jax.optim.teacher import Teacher


@dataclasses.dataclass(kw_only=True)
class Method:
    """One point in the space of robust fine-tuning methods.

    Attributes:
        classifier: How images get their class logits.
        terms: The summands of the loss, logged under their names; none: nothing is trained.
        trainable: Regexes on parameter names (`encoder/...`, `classifier/...`).
        teacher: For methods that distil from one.
        optimizer: AdamW and its schedule.
    """

    classifier: Classifier = dataclasses.field(default_factory=ZeroShot)
    terms: dict[str, Term] = dataclasses.field(default_factory=dict)
    trainable: tuple[str, ...] = (".*",)
    teacher: Teacher | None = None
    optimizer: AdamW = dataclasses.field(default_factory=AdamW)

    def validate(self, where: str, *, num_steps: int) -> None:
        """Raises a ConfigError for settings that contradict each other or are out of range.

        Args:
            where: The method's place in the config, for the messages.
            num_steps: Of the training.
        """
        taught = [name for name, term in self.terms.items() if "teacher" in term.needs]
        if taught and self.teacher is None:
            raise ConfigError(
                f"{where}: term {taught[0]!r} learns from a teacher, but teacher is None. "
                "Set teacher=EmaTeacher() or remove the term."
            )
        for name, term in self.terms.items():
            _within(f"{where}.terms.{name}", term.validate)
        if self.teacher is not None:
            _within(f"{where}.teacher", self.teacher.validate)
        if self.terms:
            _within(f"{where}.optimizer", partial(self.optimizer.validate, num_steps))

    def needs(self) -> frozenset[str]:
        """What the terms need besides the student and the batch (`Term.needs`)."""
        return frozenset().union(*(term.needs for term in self.terms.values()))

    def make_tx(self, params: Any, *, num_steps: int) -> optax.GradientTransformation:
        """The optimizer chain for these parameters (or their shapes), the teacher at its end."""
        return make_optimizer(
            self.optimizer,
            params,
            num_steps=num_steps,
            trainable=self.trainable,
            teacher=self.teacher,
        )


def _within(where: str, validate: Callable[[], None]) -> None:
    """Puts the part's place in the config before its error."""
    try:
        validate()
    except ConfigError as error:
        raise ConfigError(f"{where}.{error}") from None
