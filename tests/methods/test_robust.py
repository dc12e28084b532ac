import dataclasses

import pytest

from calib_jax.classifiers.zero_shot import ZeroShot
from calib_jax.core.errors import ConfigError
from calib_jax.methods.robust import carot, dive, flyp, starft, tracer
from calib_jax.objectives.contrastive import Contrastive
from calib_jax.objectives.distillation import SelfDistillation
from calib_jax.objectives.dive import AverageVectors, PairwiseVectors
from calib_jax.objectives.spectral import CrossProjection, OrthogonalProjection
from calib_jax.objectives.spurious_text import SpuriousTexts
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


def test_variants_of_flyp():
    method = flyp(label_smoothing=0.1, mask_duplicates=True)
    assert method.terms == {"contrastive": Contrastive(label_smoothing=0.1, mask_duplicates=True)}
    method.validate("variant", num_steps=25_030)


@pytest.mark.parametrize(
    ("recipe", "terms"),
    [
        (starft, {"spurious_texts": SpuriousTexts(weight=0.5)}),
        (
            dive,
            {
                "average_vectors": AverageVectors(weight=1000.0),
                "pairwise_vectors": PairwiseVectors(weight=1000.0),
            },
        ),
    ],
)
def test_recipes_that_add_terms_to_flyp(recipe, terms):
    method = recipe()
    expected = flyp()
    expected.terms.update(terms)
    assert method == expected
    method.validate("mine", num_steps=25_030)
    assert method.needs() >= {"pretrained", "captions"}
    other = recipe(weight=7.0).scheduled(learning_rate=1e-3, warmup_steps=2)
    assert other.optimizer == flyp().scheduled(learning_rate=1e-3, warmup_steps=2).optimizer
    assert {other.terms[name].weight for name in terms} == {7.0}


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
        orthogonality=0.3, squared=True, self_distillation=0.7, update_every=5
    ).scheduled(learning_rate=1e-3, warmup_steps=2)
    assert method.optimizer.learning_rate == 1e-3
    assert method.optimizer.warmup_steps == 2
    assert method.terms["orthogonality"] == OrthogonalProjection(weight=0.3, squared=True)
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
    method = tracer(beta=0.2, distillation=0.5, feature_distillation=200.0).scheduled(
        learning_rate=1e-3, warmup_steps=2
    )
    assert method.optimizer.learning_rate == 1e-3
    assert method.optimizer.warmup_steps == 2
    assert method.teacher == TrajectoryTeacher(beta=0.2)
    assert [term.weight for term in method.terms.values()] == [1.0, 0.05, 100.0, 0.5, 0.5, 0.5]


def test_a_teacher_is_not_taken_from_terms_that_learn_from_it():
    method = dataclasses.replace(carot(), teacher=FrozenTeacher())
    method.validate("frozen", num_steps=25_030)
    method.teacher = None
    with pytest.raises(ConfigError, match="term 'self_distillation' learns from a teacher"):
        method.validate("none", num_steps=25_030)
    method = tracer(beta=0.0)
    with pytest.raises(ConfigError, match=r"^mine\.teacher\.beta: got 0\.0, expected a finite"):
        method.validate("mine", num_steps=25_030)


def test_recipes_are_valid_and_share_nothing():
    for recipe in (flyp, carot, tracer, starft, dive):
        recipe().validate("recipe", num_steps=25_030)
        first, second = recipe(), recipe()
        first.terms["contrastive"].weight = 9.0
        first.optimizer.b1 = 0.5
        assert second == recipe()
