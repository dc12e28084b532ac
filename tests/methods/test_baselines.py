import jax
import pytest

from calib_jax.classifiers.linear import LinearHead
from calib_jax.classifiers.zero_shot import ZeroShot
from calib_jax.core.errors import ConfigError
from calib_jax.core.trees import leaf_names, regex_mask
from calib_jax.methods.baselines import (
    car_ft,
    distilled,
    finetune,
    l2_sp,
    lipsum_ft,
    pair_distilled,
    zero_shot,
)
from calib_jax.objectives.context import ContextAwareness
from calib_jax.objectives.contrastive import Contrastive
from calib_jax.objectives.cross_entropy import CrossEntropy
from calib_jax.objectives.distillation import LogitDistillation, StaticDistillation
from calib_jax.objectives.mixup import Mixup
from calib_jax.objectives.proximity import L2SP
from calib_jax.objectives.random_text import RandomTextMatching
from calib_jax.optim.optimizers import AdamW


def test_zero_shot_trains_nothing():
    method = zero_shot()
    assert method.classifier == ZeroShot()
    assert method.terms == {}
    method.validate("zero_shot", num_steps=0)
    method.validate("zero_shot", num_steps=10)  # its optimizer's warm-up does not matter


def test_finetune_has_the_settings_of_the_paper():
    method = finetune()
    assert method.classifier == LinearHead()
    assert method.terms == {"cross_entropy": CrossEntropy(weight=1.0)}
    assert method.optimizer == AdamW(
        learning_rate=3e-5, weight_decay=0.1, warmup_steps=500, clip_norm=1.0
    )
    assert method.teacher is None
    method.validate("finetune", num_steps=25_030)


@pytest.mark.parametrize("name", ["image", "text", "logit_scale", "classifier"])
def test_finetune_trains_the_image_tower_and_the_head(tiny_model, name):
    params = {"encoder": tiny_model[1], "classifier": {"kernel": 0.0, "bias": 0.0}}
    mask = regex_mask(params, finetune().trainable)
    group = mask["classifier"] if name == "classifier" else mask["encoder"][name]
    assert set(jax.tree.leaves(group)) == {name in ("image", "classifier")}
    assert len(leaf_names(mask)) == len(leaf_names(params))


@pytest.mark.parametrize(
    ("recipe", "name", "term"),
    [
        (l2_sp, "l2_sp", L2SP(weight=0.01)),
        (distilled, "distillation", LogitDistillation(weight=1.0, temperature=1.0)),
        (car_ft, "context", ContextAwareness(weight=1.0)),
    ],
)
def test_recipes_that_add_a_term_to_finetune(recipe, name, term):
    method = recipe()
    expected = finetune()
    expected.terms[name] = term
    assert method == expected
    method.validate("mine", num_steps=25_030)
    other = recipe(weight=7.0).scheduled(learning_rate=1e-3, warmup_steps=2)
    assert other.optimizer == finetune().scheduled(learning_rate=1e-3, warmup_steps=2).optimizer
    assert other.terms[name].weight == 7.0


def test_distilled_takes_a_temperature():
    assert distilled(temperature=4.0).terms["distillation"].temperature == 4.0


def test_finetune_with_label_smoothing():
    method = finetune(label_smoothing=0.1)
    assert method.terms == {"cross_entropy": CrossEntropy(label_smoothing=0.1)}
    method.validate("smoothed", num_steps=25_030)


def test_finetune_with_mixup():
    method = finetune(mixup=0.2, label_smoothing=0.1)
    assert method.terms == {"mixup": Mixup(alpha=0.2, label_smoothing=0.1)}
    method.validate("mixed", num_steps=25_030)
    with pytest.raises(ConfigError, match=r"^mixed\.terms\.mixup\.alpha: got -0\.2"):
        finetune(mixup=-0.2).validate("mixed", num_steps=25_030)


def test_pair_distilled_is_flyp_and_the_start_as_teacher():
    method = pair_distilled()
    assert method.classifier == ZeroShot()
    assert method.terms == {
        "contrastive": Contrastive(),
        "static_distillation": StaticDistillation(weight=1.5),
    }
    assert method.trainable == (".*",)
    assert method.teacher is None
    assert method.optimizer == AdamW(learning_rate=1e-5, warmup_steps=500)
    method.validate("pair_distilled", num_steps=25_030)


def test_lipsum_ft_has_the_settings_of_the_authors():
    method = lipsum_ft()
    assert method.terms == {
        "cross_entropy": CrossEntropy(),
        "random_text": RandomTextMatching(weight=1.0, num_texts=80, num_words=8),
    }
    assert method.classifier == LinearHead()
    assert method.trainable == finetune().trainable
    assert method.optimizer == AdamW(learning_rate=1e-5, weight_decay=0.0, warmup_steps=5000)
    method.validate("lipsum_ft", num_steps=50_000)
    assert lipsum_ft(num_texts=5).terms["random_text"].num_texts == 5


def test_what_the_recipes_need():
    assert finetune().needs() == set()
    assert finetune(mixup=0.2).needs() == {"images"}
    for recipe in (l2_sp, distilled, lipsum_ft):
        assert recipe().needs() == {"pretrained"}
    assert pair_distilled().needs() == {"pretrained", "captions"}
    assert car_ft().needs() == {"pretrained", "contexts"}
