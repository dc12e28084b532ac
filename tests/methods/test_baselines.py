import jax
import pytest

from calib_jax.classifiers.linear import LinearHead
from calib_jax.classifiers.zero_shot import ZeroShot
from calib_jax.core.trees import leaf_names, regex_mask
from calib_jax.methods.baselines import finetune, zero_shot
from calib_jax.objectives.cross_entropy import CrossEntropy
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
