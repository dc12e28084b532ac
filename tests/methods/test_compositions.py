import dataclasses

import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.methods.baselines import car_ft, finetune, l2_sp, zero_shot
from calib_jax.methods.compositions import averaged, born_again, without
from calib_jax.methods.method import Method
from calib_jax.methods.robust import carot, flyp, starft, tracer
from calib_jax.objectives.distillation import LogitDistillation, StaticDistillation
from calib_jax.objectives.spectral import CrossProjection, SmallestSingularValue
from calib_jax.optim.teacher import EmaTeacher


@pytest.mark.parametrize(
    ("of", "distillation"),
    [
        (finetune(), LogitDistillation()),
        (finetune(mixup=0.2), LogitDistillation()),
        (flyp(), StaticDistillation()),
        (carot(), StaticDistillation()),
    ],
)
def test_born_again_is_the_method_taught_by_itself(of, distillation):
    method = born_again(of)
    assert method.taught_by == of
    assert method.terms == {**of.terms, "born_again": distillation}
    assert dataclasses.replace(method, terms=of.terms, taught_by=None) == of
    method.validate("again", num_steps=25_030)


def test_generations_are_taught_by_the_one_before():
    first = flyp()
    second = born_again(first, weight=0.5)
    third = born_again(second, weight=0.25)
    assert [third.taught_by, third.taught_by.taught_by] == [second, first]
    weights = [x.terms["born_again"].weight for x in (second, third)]
    assert weights == [0.5, 0.25]
    assert list(third.terms) == ["contrastive", "born_again"]


@pytest.mark.parametrize(("of", "name"), [(l2_sp, "l2_sp"), (car_ft, "context")])
def test_born_again_refuses_terms_that_would_change_their_start(of, name):
    message = rf"^born_again: got a method whose term '{name}' holds on to the start model"
    with pytest.raises(ConfigError, match=message):
        born_again(of())


def test_born_again_needs_a_loss_on_labels_or_captions():
    message = r"^born_again: got a method with the terms \[\], expected a CrossEntropy or a Contr"
    with pytest.raises(ConfigError, match=message):
        born_again(zero_shot())
    with pytest.raises(ConfigError, match=r"the terms \['cross'\], expected"):
        born_again(Method(terms={"cross": CrossProjection()}))


@pytest.mark.parametrize("of", [finetune(), flyp(), starft(), born_again(flyp())])
def test_averaged_keeps_a_moving_average(of):
    method = averaged(of, decay=0.99)
    assert method.keeps == "teacher"
    assert dataclasses.replace(method, keeps="student", teacher=None) == of
    method.validate("averaged", num_steps=25_030)
    for step in (0, 1, 100):
        assert float(method.teacher.momentum(step, 100)) == pytest.approx(0.99)
    assert method.teacher.update_every == 1
    assert averaged(method, decay=0.99) == method


def test_averaged_refuses_another_teacher():
    message = (
        r"^averaged: got a method with the teacher EmaTeacher\(.*update_every=500\), expected none "
        r"or EmaTeacher\(.*update_every=1\)\. Set keeps='teacher' to keep"
    )
    with pytest.raises(ConfigError, match=message):
        averaged(carot())
    with pytest.raises(ConfigError, match="got a method with the teacher Trajectory"):
        averaged(tracer())


def test_averaged_refuses_what_it_cannot_average():
    with pytest.raises(ConfigError, match=r"^averaged: got a method without terms, expected one"):
        averaged(zero_shot())
    for decay in (-0.1, 1.0, float("nan")):
        with pytest.raises(ConfigError, match=rf"^decay: got {decay}, expected a number in \[0, 1"):
            averaged(flyp(), decay=decay)


def test_ablations_of_carot():
    for name in carot().terms:
        method = without(carot(), name)
        assert list(method.terms) == [other for other in carot().terms if other != name]
        assert method.teacher == (None if name == "self_distillation" else EmaTeacher())
        method.validate("ablation", num_steps=25_030)
    bare = without(carot(), "orthogonality", "cross_projection", "self_distillation")
    assert bare == flyp()
    direct = without(carot(), "orthogonality")
    direct.terms["smallest_singular_value"] = SmallestSingularValue()
    direct.validate("direct", num_steps=25_030)


def test_an_average_outlives_the_terms_that_learn_from_it():
    method = dataclasses.replace(carot(), keeps="teacher")
    assert without(method, "self_distillation").teacher == EmaTeacher()


def test_a_term_that_is_not_there():
    message = (
        r"^without: got the term 'ortogonality', expected one of contrastive, orthogonality, "
        r"cross_projection, self_distillation\. Did you mean 'orthogonality'\? Correct it\.$"
    )
    with pytest.raises(ConfigError, match=message):
        without(carot(), "ortogonality")


def test_compositions_share_nothing_with_their_method():
    of = carot()
    methods = [born_again(of), without(of, "orthogonality"), averaged(flyp())]
    for method in (*methods, methods[0].taught_by):
        method.terms["contrastive"].weight = 9.0
        method.optimizer.b1 = 0.5
        method.teacher.final_momentum = 0.1
    assert of == carot()
    assert born_again(of).terms["contrastive"].weight == 1.0
