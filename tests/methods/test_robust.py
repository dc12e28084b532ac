import pytest

from calib_jax.classifiers.zero_shot import ZeroShot
from calib_jax.core.errors import ConfigError
from calib_jax.methods.robust import carot, flyp, tracer
from calib_jax.objectives.contrastive import Contrastive
from calib_jax.objectives.distillation import SelfDistillation
from calib_jax.objectives.spectral import CrossProjection, OrthogonalProjection
from calib_jax.objectives.tracer import (
    ContrastiveRelation,
    CrossDistillation,
    FeatureDistillation,
    InteractiveContrast,
)
from calib_jax.optim.optimizers import AdamW
from calib_jax.optim.teacher import EmaTeacher, FrozenTeacher, TrajectoryTeacher

PAPER = AdamW(
    learning_rate=1e-5,
    weight_decay=0.1,
    b1=0.9,
    b2=0.999,
    epsilon=1e-8,
    warmup_steps=500,
    clip_norm=0.0,
)


def test_flyp_is_the_contrastive_loss_on_everything():
    method = flyp()
    assert method.classifier == ZeroShot()
    assert method.terms == {"contrastive": Contrastive(weight=1.0)}
    assert method.trainable == (".*",)
    assert method.teacher is None
    assert method.optimizer == PAPER


def test_carot_has_the_weights_of_the_authors():
    method = carot()
    assert method.classifier == ZeroShot()
    assert method.terms == {
        "contrastive": Contrastive(weight=1.0),
        "orthogonality": OrthogonalProjection(weight=0.2, squared=False),
        "cross_projection": CrossProjection(weight=0.05),
        "self_distillation": SelfDistillation(weight=1.5, start_step=1),
    }
    assert method.trainable == (".*",)
    assert method.teacher == EmaTeacher(
        initial_momentum=0.05, final_momentum=0.9, ramp_fraction=0.2, update_every=500
    )
    assert method.optimizer == PAPER


def test_arguments_reach_their_fields():
    method = carot(
        learning_rate=1e-3,
        warmup_steps=2,
        orthogonality=0.3,
        self_distillation=0.7,
        update_every=5,
    )
    assert method.optimizer.learning_rate == 1e-3
    assert method.optimizer.warmup_steps == 2
    assert method.terms["orthogonality"].weight == 0.3
    assert method.terms["self_distillation"].weight == 0.7
    assert method.teacher.update_every == 5


def test_tracer_has_the_weights_of_the_authors():
    method = tracer()
    assert method.classifier == ZeroShot()
    assert method.terms == {
        "contrastive": Contrastive(weight=1.0),
        "cross_projection": CrossProjection(weight=0.05),
        "feature_distillation": FeatureDistillation(weight=1800.0, start_step=1),
        "contrastive_relation": ContrastiveRelation(weight=0.9, start_step=1),
        "interactive_contrast": InteractiveContrast(weight=0.9, start_step=1),
        "cross_distillation": CrossDistillation(weight=0.9, start_step=1),
    }
    assert method.trainable == (".*",)
    assert method.teacher == TrajectoryTeacher(beta=0.5)
    assert method.optimizer == PAPER


def test_arguments_of_tracer_reach_their_fields():
    method = tracer(
        learning_rate=1e-3,
        warmup_steps=2,
        beta=0.2,
        distillation=0.5,
        feature_distillation=200.0,
    )
    assert method.optimizer.learning_rate == 1e-3
    assert method.optimizer.warmup_steps == 2
    assert method.teacher == TrajectoryTeacher(beta=0.2)
    assert [term.weight for term in method.terms.values()] == [1.0, 0.05, 100.0, 0.5, 0.5, 0.5]


def test_ablations_are_compositions():
    method = carot()
    method.teacher = FrozenTeacher()
    method.validate("frozen", num_steps=25_030)
    method.teacher = None
    with pytest.raises(ConfigError, match="term 'self_distillation' learns from a teacher"):
        method.validate("none", num_steps=25_030)
    del method.terms["self_distillation"]
    method.validate("none", num_steps=25_030)
    method = tracer(beta=0.0)
    with pytest.raises(ConfigError, match=r"^mine\.teacher\.beta: got 0\.0, expected a finite"):
        method.validate("mine", num_steps=25_030)


def test_recipes_are_valid_and_share_nothing():
    for recipe in (flyp, carot, tracer):
        recipe().validate("recipe", num_steps=25_030)
        first, second = recipe(), recipe()
        first.terms["contrastive"].weight = 9.0
        first.optimizer.b1 = 0.5
        assert second == recipe()
