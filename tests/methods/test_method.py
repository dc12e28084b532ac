import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.methods.method import Method
from calib_jax.methods.robust import carot
from calib_jax.objectives.contrastive import Contrastive
from calib_jax.objectives.distillation import SelfDistillation
from calib_jax.objectives.spectral import SmallestSingularValue


def error_of(method, num_steps=25_030):
    with pytest.raises(ConfigError) as error:
        method.validate("mine", num_steps=num_steps)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_distillation_needs_a_teacher():
    method = Method(terms={"contrastive": Contrastive(), "distil": SelfDistillation()})
    assert error_of(method) == (
        "mine: term 'distil' learns from a teacher, but teacher is None. "
        "Set teacher=EmaTeacher() or remove the term."
    )


def test_a_method_needs_what_its_terms_need():
    assert Method().needs() == frozenset()
    assert carot().needs() == {"teacher"}


def test_errors_of_the_parts_name_the_method():
    method = carot()
    method.terms["smallest"] = SmallestSingularValue()
    method.terms["smallest"].of = "features"
    assert error_of(method).startswith("mine.terms.smallest.of: got 'features'")
    method = carot(orthogonality=float("nan"))
    assert error_of(method).startswith(
        "mine.terms.orthogonality.weight: got nan, expected a finite"
    )
    method = carot()
    method.teacher.update_every = 0
    assert error_of(method).startswith("mine.teacher.update_every: got 0")
    method = carot(learning_rate=-1.0)
    assert error_of(method).startswith("mine.optimizer.learning_rate: got -1.0")
    assert error_of(carot(), num_steps=500).startswith("mine.optimizer.warmup_steps: got")


def test_defaults_are_not_shared():
    first, second = Method(), Method()
    first.terms["contrastive"] = Contrastive()
    first.optimizer.b1 = 0.5
    assert second == Method()
