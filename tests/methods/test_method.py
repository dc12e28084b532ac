import dataclasses

import jax.numpy as jnp
import pytest

from calib_jax.classifiers.linear import LinearHead
from calib_jax.core.errors import ConfigError
from calib_jax.methods.baselines import distilled, finetune, lipsum_ft, zero_shot
from calib_jax.methods.compositions import born_again
from calib_jax.methods.method import Method
from calib_jax.methods.probes import linear_probe, lp_ft
from calib_jax.methods.robust import carot, flyp, tracer
from calib_jax.objectives.contrastive import Contrastive
from calib_jax.objectives.cross_entropy import CrossEntropy
from calib_jax.objectives.distillation import SelfDistillation
from calib_jax.objectives.spectral import SmallestSingularValue
from calib_jax.optim.optimizers import AdamW
from calib_jax.optim.teacher import EmaTeacher


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


def test_who_keeps_the_teacher_needs_one():
    method = flyp()
    method.keeps = "teacher"
    assert error_of(method) == (
        "mine: keeps the teacher, but teacher is None. Set teacher=EmaTeacher() or keeps='student'."
    )
    method.teacher = EmaTeacher()
    method.validate("mine", num_steps=25_030)


def test_a_method_needs_what_its_terms_need():
    assert Method().needs() == frozenset()
    assert finetune().needs() == frozenset()
    assert carot().needs() == {"teacher", "captions"}


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
    method = carot().scheduled(learning_rate=-1.0)
    assert error_of(method).startswith("mine.optimizer.learning_rate: got -1.0")
    assert error_of(carot(), num_steps=500).startswith("mine.optimizer.warmup_steps: got")


def test_nonsense_is_refused():
    assert error_of(carot(orthogonality=-0.2)).startswith(
        "mine.terms.orthogonality.weight: got -0.2, expected a finite number >= 0: a negative"
    )
    assert error_of(flyp(), num_steps=0) == (
        "mine: it has terms to be trained on, but training.num_steps of its stage is 0. Set it to "
        "at least 1, or take zero_shot()."
    )
    zero_shot().validate("mine", num_steps=0)
    linear_probe().validate("mine", num_steps=0)
    method = zero_shot().scheduled(learning_rate=float("inf"))
    assert error_of(method, num_steps=0).startswith("mine.optimizer.learning_rate: got inf")
    method = carot().scheduled(warmup_steps=1)
    method.terms["self_distillation"].start_step = 100
    method.validate("mine", num_steps=101)
    assert error_of(method, num_steps=100) == (
        "mine.terms.self_distillation.start_step: got 100, expected less than the 100 training "
        "steps: the term would never count. Lower it, or train longer."
    )
    carot().scheduled(warmup_steps=0).validate("mine", num_steps=1)  # a try of one step


def test_what_is_probably_not_meant_is_said():
    method = carot()
    assert method.notes("mine", num_steps=25_030) == method.notes("mine", num_steps=501) == []
    assert method.notes("mine", num_steps=500) == [
        "mine.teacher.update_every: got 500 with 500 training steps: the teacher follows the first "
        "step alone. Set it to 10 for 50 updates."
    ]
    method = flyp()
    for term in method.terms.values():
        term.weight = 0.0
    assert method.notes("mine", num_steps=10) == [
        "mine.terms: every weight is 0, so that the weight decay alone trains. Raise one of them."
    ]
    assert zero_shot().notes("mine", num_steps=0) == tracer().notes("mine", num_steps=5) == []


@pytest.mark.parametrize(
    ("share", "num_steps", "expected"),
    [(1.0, 7, 7), (0.5, 72, 36), (0.3, 10, 3), (0.01, 10, 1), (1.0, 0, 0), (0.5, 0, 0)],
)
def test_the_steps_of_a_share(share, num_steps, expected):
    assert Method(share_of_steps=share).num_steps(num_steps) == expected


def test_the_optimizer_has_the_methods_own_steps():
    lp_ft().scheduled(warmup_steps=36).validate("mine", num_steps=74)
    message = "mine.optimizer.warmup_steps: got 37, expected fewer than the 37 training steps"
    assert error_of(lp_ft().scheduled(warmup_steps=37), num_steps=74).startswith(message)


@pytest.mark.parametrize("share", [0.0, -0.5, 1.5, float("nan")])
def test_a_share_out_of_range(share):
    assert error_of(Method(share_of_steps=share)) == (
        f"mine.share_of_steps: got {share}, expected a number in (0, 1]. Correct it."
    )


@pytest.mark.parametrize("field", ["warm_start", "taught_by"])
def test_one_classifier_for_all_trainings_of_a_method(field):
    method = dataclasses.replace(distilled(), **{field: flyp()})
    assert error_of(method) == (
        f"mine.{field}: it has a ZeroShot, expected a LinearHead as in mine. "
        "Give both the same classifier."
    )
    dataclasses.replace(distilled(), **{field: finetune()}).validate("mine", num_steps=25_030)


def test_who_is_taught_has_a_term_for_it():
    assert error_of(dataclasses.replace(finetune(), taught_by=finetune())) == (
        "mine.taught_by: got a method, but no term learns from it. Add LogitDistillation() or "
        "StaticDistillation(), or remove it."
    )


@pytest.mark.parametrize("reaching", [".*", "encoder/image/.*", "class.*"])
def test_cached_features_are_those_of_a_frozen_encoder(reaching):
    method = linear_probe(solver="gradient")
    method.validate("mine", num_steps=25_030)
    method.trainable = ("classifier/bias", reaching)
    assert error_of(method) == (
        f"mine.cached_features: got true, but trainable has {reaching!r}, which may reach into "
        "the encoder. Train classifier/ alone, or set it to false."
    )


def test_cached_features_serve_terms_on_class_logits_alone():
    method = linear_probe(solver="gradient")
    method.terms = {"contrastive": Contrastive()}
    assert error_of(method) == (
        "mine.cached_features: got true, but the terms need captions. Keep terms on class logits "
        "and labels alone, or set it to false."
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"cached_features": False},
        {"classifier": Method().classifier},
        {"terms": {"cross_entropy": CrossEntropy(label_smoothing=0.1)}},
        {"terms": {"cross_entropy": CrossEntropy(weight=2.0)}},
        {"terms": {"cross_entropy": CrossEntropy(), "again": CrossEntropy()}},
        {"teacher": EmaTeacher(), "keeps": "teacher"},
    ],
)
def test_what_a_logistic_regression_takes(changes):
    linear_probe().validate("mine", num_steps=10)
    assert error_of(dataclasses.replace(linear_probe(), **changes)) == (
        "mine.optimizer: got LogisticRegression, which takes a LinearHead, one CrossEntropy term "
        "of weight 1 without smoothing, no teacher and cached_features. Take "
        "methods.probes.linear_probe(), or AdamW()."
    )


def test_a_logistic_regression_is_no_optimizer_of_the_train_step():
    with pytest.raises(ValueError, match="takes no steps: fit it by optim.logistic"):
        linear_probe().adamw()
    with pytest.raises(ValueError, match="takes no steps: fit it by optim.logistic"):
        linear_probe().make_tx({"bias": jnp.zeros(3)}, num_steps=3)
    assert carot().adamw() == carot().optimizer


def test_a_method_alone_is_its_only_part():
    method = carot()
    assert method.parts("carot") == [("carot", method)]


def test_parts_come_before_what_is_made_of_them():
    method = lp_ft()
    assert method.parts("lp_ft") == [("lp_ft.warm_start", method.warm_start), ("lp_ft", method)]
    twice = born_again(born_again(finetune()))
    assert [name for name, _ in twice.parts("x")] == ["x.taught_by.taught_by", "x.taught_by", "x"]
    both = dataclasses.replace(distilled(), warm_start=lp_ft(), taught_by=finetune())
    assert both.classifier == LinearHead()
    assert [name for name, _ in both.parts("x")] == [
        "x.warm_start.warm_start",
        "x.warm_start",
        "x.taught_by",
        "x",
    ]


def test_defaults_are_not_shared():
    first, second = Method(), Method()
    first.terms["contrastive"] = Contrastive()
    first.optimizer.b1 = 0.5
    assert second == Method()


def test_a_batch_that_leaves_a_term_nothing_to_do():
    method = flyp()
    method.terms["smallest"] = SmallestSingularValue(of="covariance")
    method.validate_sizes(batch_size=513, embed_dim=512)
    message = (
        r"^terms.smallest.of: got 'covariance' with batches of 512, whose features, 512 wide, "
        r"always have a smallest singular value of zero. Set of='projection', or take"
    )
    with pytest.raises(ConfigError, match=message):
        method.validate_sizes(batch_size=512, embed_dim=512)
    method.terms["smallest"] = SmallestSingularValue(of="projection")
    method.validate_sizes(batch_size=512, embed_dim=512)


def test_scheduled_changes_the_schedule_alone():
    of = lipsum_ft()
    method = of.scheduled(learning_rate=1e-3, warmup_steps=2)
    assert method.optimizer == AdamW(learning_rate=1e-3, weight_decay=0.0, warmup_steps=2)
    assert dataclasses.replace(method, optimizer=of.optimizer) == of
    assert of.scheduled(learning_rate=1e-3).optimizer.warmup_steps == 5000
    assert of.scheduled(warmup_steps=2).optimizer.learning_rate == 1e-5
    assert of.scheduled(warmup_steps=0, learning_rate=0.0).optimizer == AdamW(
        learning_rate=0.0, weight_decay=0.0, warmup_steps=0
    )
    method.terms["random_text"].weight = 9.0
    assert of == lipsum_ft()


def test_scheduled_reaches_the_trainings_before():
    """An earlier fit by the same recipe takes both, a warm start's head keeps its own rate."""
    of = lp_ft(probe_learning_rate=0.5)
    method = of.scheduled(learning_rate=1e-3, warmup_steps=2)
    assert method.warm_start == of.warm_start.scheduled(warmup_steps=2)
    assert method.warm_start.optimizer.learning_rate == 0.5
    again = born_again(of).scheduled(learning_rate=1e-3, warmup_steps=2)
    assert again == born_again(method)


def test_scheduled_leaves_a_logistic_regression_as_it_is():
    for name in ("warm_start", "taught_by"):
        method = dataclasses.replace(finetune(), **{name: linear_probe()})
        moved = method.scheduled(learning_rate=1e-3, warmup_steps=2)
        assert getattr(moved, name) == linear_probe()
    message = r"^scheduled: got a method whose optimizer is LogisticRegression, expected AdamW"
    with pytest.raises(ConfigError, match=message):
        linear_probe().scheduled(learning_rate=1.0)
