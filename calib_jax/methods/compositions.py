"""Methods made of methods: taught by their own earlier fit, averaged, or with terms left out."""

import copy
import dataclasses

from calib_jax.core.errors import ConfigError, nearest
from calib_jax.methods.method import Method
from calib_jax.objectives.contrastive import Contrastive
from calib_jax.objectives.cross_entropy import CrossEntropy
from calib_jax.objectives.distillation import LogitDistillation, StaticDistillation
from calib_jax.objectives.term import Term
from calib_jax.optim.teacher import EmaTeacher

_BORN_AGAIN = "born_again"


def born_again(of: Method, *, weight: float = 1.0) -> Method:
    """The method, trained once more from the same start and taught by its own earlier fit.

    Born-Again networks (arXiv 1805.04770): the loss of `of` plus `weight` times a distillation
    from the earlier fit. That is of the class logits where `of` has a loss on them, else of pairs.
    The result of `born_again` can be born again: each generation is taught by the one before.

    Deviations: both fits start from the pre-trained model, where the paper draws new weights; no
    ensemble of the generations; the weight is ours.

    Raises:
        ConfigError: `of` has no loss to repeat, or a term that holds on to the pre-trained model:
            it would hold on to the earlier fit.
    """
    again = copy.deepcopy(of)
    again.taught_by = copy.deepcopy(of)
    for name, term in of.terms.items():
        if name != _BORN_AGAIN and "pretrained" in term.needs:
            raise ConfigError(
                f"born_again: got a method whose term {name!r} holds on to the start model, "
                "expected none: it would hold on to the earlier fit. Remove it."
            )
    again.terms.setdefault(_BORN_AGAIN, _distillation(of)).weight = weight
    return again


def _distillation(of: Method) -> Term:
    terms = of.terms.values()
    if any(isinstance(term, CrossEntropy) for term in terms):
        return LogitDistillation()
    if any(isinstance(term, Contrastive) for term in terms):
        return StaticDistillation()
    raise ConfigError(
        f"born_again: got a method with the terms {list(of.terms)}, expected a CrossEntropy or a "
        "Contrastive among them. Take a method that has one."
    )


def averaged(of: Method, *, decay: float = 0.999) -> Method:
    """The method, whose result is a moving average of its weights over the training.

    After each step `average <- decay average + (1 - decay) student`, from the start model on: about
    the last `1 / (1 - decay)` steps count, and in a training of T steps the start model keeps
    the share `decay^T`. The training itself does not change.

    Raises:
        ConfigError: A decay outside [0, 1), or `of` trains nothing or has a teacher that follows
            another rule.
    """
    if not 0 <= decay < 1:
        raise ConfigError(f"decay: got {decay}, expected a number in [0, 1). Correct it.")
    if not of.terms:
        raise ConfigError(
            "averaged: got a method without terms, expected one that is trained. "
            "Take a method that has terms."
        )
    average = EmaTeacher(
        initial_momentum=decay, final_momentum=decay, ramp_fraction=0.0, update_every=1
    )
    if of.teacher not in (None, average):
        raise ConfigError(
            f"averaged: got a method with the teacher {of.teacher}, expected none or {average}. "
            "Set keeps='teacher' to keep the teacher that it has."
        )
    return dataclasses.replace(copy.deepcopy(of), teacher=average, keeps="teacher")


def without(of: Method, *names: str) -> Method:
    """The method without some of its terms, and without a teacher that nothing needs any more.

    Raises:
        ConfigError: A term that the method does not have.
    """
    for name in names:
        if name not in of.terms:
            raise ConfigError(
                f"without: got the term {name!r}, expected one of {', '.join(of.terms)}."
                f"{nearest(name, of.terms)} Correct it."
            )
    rest = copy.deepcopy(of)
    rest.terms = {name: term for name, term in rest.terms.items() if name not in names}
    if "teacher" not in rest.needs() and rest.keeps == "student":
        rest.teacher = None
    return rest
