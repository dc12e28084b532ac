"""A method: a classifier, the terms of its loss, what is trainable, and an optional teacher."""

import copy
import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, Optional

import optax

from calib_jax.classifiers.head import Classifier
from calib_jax.classifiers.linear import LinearHead
from calib_jax.classifiers.zero_shot import ZeroShot
from calib_jax.core.errors import ConfigError
from calib_jax.objectives.cross_entropy import CrossEntropy
from calib_jax.objectives.term import Term
from calib_jax.optim.logistic import LogisticRegression
from calib_jax.optim.optimizers import AdamW, make_optimizer
from calib_jax.optim.teacher import Teacher


@dataclasses.dataclass(kw_only=True)
class Method:
    """One point in the space of robust fine-tuning methods.

    Attributes:
        classifier: How images get their class logits.
        terms: The summands of the loss, logged under their names; none: nothing is trained.
        trainable: Regexes on parameter names (`encoder/...`, `classifier/...`).
        teacher: For methods that distil from one, or keep one.
        optimizer: AdamW and its schedule; or, for a linear probe, full-batch L-BFGS.
        warm_start: Is trained first; the training starts from its parameters, the classifier's
            included (LP-FT).
        taught_by: Is trained first; what the terms take for the start model is its result, not
            the pre-trained model (Born-Again).
        keeps: What the training results in: the student, or the teacher (an average of weights).
        share_of_steps: Of the stage's steps, for methods made of several trainings.
        cached_features: The encoder is frozen and sees CLIP's evaluation view of each training
            image, once: no augmentation.
    """

    classifier: Classifier = dataclasses.field(default_factory=ZeroShot)
    terms: dict[str, Term] = dataclasses.field(default_factory=dict)
    trainable: tuple[str, ...] = (".*",)
    teacher: Teacher | None = None
    optimizer: AdamW | LogisticRegression = dataclasses.field(default_factory=AdamW)
    # Not "Method | None": the quoted name would be a string in a union.
    warm_start: Optional["Method"] = None
    taught_by: Optional["Method"] = None
    keeps: Literal["student", "teacher"] = "student"
    share_of_steps: float = 1.0
    cached_features: bool = False

    def scheduled(
        self, *, learning_rate: float | None = None, warmup_steps: int | None = None
    ) -> "Method":
        """The method with another peak of its learning rate, or another warm-up.

        `taught_by` is a training of the same kind and takes both; a warm start takes the warm-up
        and keeps its own rate. All else stays as the recipe has it.

        Args:
            learning_rate: The peak; None keeps it.
            warmup_steps: Length of the linear warm-up; None keeps it.

        Raises:
            ConfigError: The optimizer is a logistic regression.
        """
        if not isinstance(self.optimizer, AdamW):
            raise ConfigError(
                f"scheduled: got a method whose optimizer is {type(self.optimizer).__name__}, "
                "expected AdamW, which has a learning rate. Leave it as it is."
            )
        method = copy.deepcopy(self)
        peak = self.optimizer.learning_rate if learning_rate is None else learning_rate
        warm_up = self.optimizer.warmup_steps if warmup_steps is None else warmup_steps
        method.optimizer = dataclasses.replace(
            self.optimizer, learning_rate=peak, warmup_steps=warm_up
        )
        if method.taught_by and isinstance(method.taught_by.optimizer, AdamW):
            method.taught_by = method.taught_by.scheduled(
                learning_rate=learning_rate, warmup_steps=warmup_steps
            )
        if method.warm_start and isinstance(method.warm_start.optimizer, AdamW):
            method.warm_start = method.warm_start.scheduled(warmup_steps=warmup_steps)
        return method

    def validate(self, where: str, *, num_steps: int) -> None:
        """Raises a ConfigError for settings that contradict each other or are out of range.

        Args:
            where: The method's place in the config, for the messages.
            num_steps: Of the stage.
        """
        taught = [name for name, term in self.terms.items() if "teacher" in term.needs]
        if taught and self.teacher is None:
            raise ConfigError(
                f"{where}: term {taught[0]!r} learns from a teacher, but teacher is None. "
                "Set teacher=EmaTeacher() or remove the term."
            )
        if self.keeps == "teacher" and self.teacher is None:
            raise ConfigError(
                f"{where}: keeps the teacher, but teacher is None. Set teacher=EmaTeacher() or "
                "keeps='student'."
            )
        self._validate_parts(where)
        takes_steps = bool(self.terms) and isinstance(self.optimizer, AdamW)
        if takes_steps and not num_steps:
            raise ConfigError(
                f"{where}: it has terms to be trained on, but training.num_steps of its stage is "
                "0. Set it to at least 1, or take zero_shot()."
            )
        own = self.num_steps(num_steps)
        for name, term in self.terms.items():
            _within(f"{where}.terms.{name}", term.validate)
            _within(f"{where}.terms.{name}", partial(term.check_starts, own))
        if self.teacher is not None:
            _within(f"{where}.teacher", self.teacher.validate)
        _within(f"{where}.optimizer", partial(self.optimizer.validate, own if self.terms else 0))

    def notes(self, where: str, *, num_steps: int) -> list[str]:
        """A line for each setting that is possible, and probably not meant.

        Args:
            where: As in `validate`.
            num_steps: Of the stage.
        """
        own, found = self.num_steps(num_steps), []
        if self.terms and not any(term.weight for term in self.terms.values()):
            found.append(
                f"{where}.terms: every weight is 0, so that the weight decay alone trains. Raise "
                "one of them."
            )
        every = getattr(self.teacher, "update_every", 1)
        if self.terms and own > 1 and every >= own:
            found.append(
                f"{where}.teacher.update_every: got {every} with {own} training steps: the teacher "
                f"follows the first step alone. Set it to {max(1, own // 50)} for 50 updates."
            )
        return found

    def _validate_parts(self, where: str) -> None:
        """Raises a ConfigError for fields that do not go with the other trainings or the data."""
        if not 0 < self.share_of_steps <= 1:
            raise ConfigError(
                f"{where}.share_of_steps: got {self.share_of_steps}, expected a number in (0, 1]. "
                "Correct it."
            )
        for name in ("warm_start", "taught_by"):
            part = getattr(self, name)
            if part is not None and type(part.classifier) is not type(self.classifier):
                raise ConfigError(
                    f"{where}.{name}: it has a {type(part.classifier).__name__}, expected a "
                    f"{type(self.classifier).__name__} as in {where}. Give both the same "
                    "classifier."
                )
        if self.taught_by is not None and "pretrained" not in self.needs():
            raise ConfigError(
                f"{where}.taught_by: got a method, but no term learns from it. Add "
                "LogitDistillation() or StaticDistillation(), or remove it."
            )
        reaching = [name for name in self.trainable if not name.startswith("classifier/")]
        if self.cached_features and reaching:
            raise ConfigError(
                f"{where}.cached_features: got true, but trainable has {reaching[0]!r}, which may "
                "reach into the encoder. Train classifier/ alone, or set it to false."
            )
        if self.cached_features and self.needs():
            raise ConfigError(
                f"{where}.cached_features: got true, but the terms need "
                f"{', '.join(sorted(self.needs()))}. Keep terms on "
                "class logits and labels alone, or set it to false."
            )
        if isinstance(self.optimizer, LogisticRegression) and not self._is_logistic():
            raise ConfigError(
                f"{where}.optimizer: got LogisticRegression, which takes a LinearHead, one "
                "CrossEntropy term of weight 1 without smoothing, no teacher and "
                "cached_features. Take methods.probes.linear_probe(), or AdamW()."
            )

    def _is_logistic(self) -> bool:
        plain = [CrossEntropy()]
        is_head = isinstance(self.classifier, LinearHead) and self.teacher is None
        return is_head and self.cached_features and list(self.terms.values()) == plain

    def validate_sizes(self, *, batch_size: int, embed_dim: int) -> None:
        """Raises a ConfigError for a term that these sizes leave nothing to do."""
        for name, term in self.terms.items():
            sizes = partial(term.validate_sizes, batch_size=batch_size, embed_dim=embed_dim)
            _within(f"terms.{name}", sizes)

    def num_steps(self, of_stage: int) -> int:
        """The updates of this method's own training, where the stage has so many."""
        return max(int(self.share_of_steps * of_stage), min(1, of_stage))

    def parts(self, name: str) -> list[tuple[str, "Method"]]:
        """The method and those that are trained for it, in order, each under its phase's name."""
        before = [("warm_start", self.warm_start), ("taught_by", self.taught_by)]
        return [
            *(
                part
                for field, method in before
                if method
                for part in method.parts(f"{name}.{field}")
            ),
            (name, self),
        ]

    def needs(self) -> frozenset[str]:
        """What the terms need besides the student and the batch (`Term.needs`)."""
        return frozenset().union(*(term.needs for term in self.terms.values()))

    def adamw(self) -> AdamW:
        """The optimizer of the train step, which a logistic regression has none of."""
        if not isinstance(self.optimizer, AdamW):
            raise ValueError("a logistic regression takes no steps: fit it by optim.logistic")
        return self.optimizer

    def make_tx(self, params: Any, *, num_steps: int) -> optax.GradientTransformation:
        """The optimizer chain for these parameters (or their shapes), the teacher at its end."""
        return make_optimizer(
            self.adamw(),
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
