import jax
import pytest

from calib_jax.classifiers.linear import LinearHead
from calib_jax.core.errors import ConfigError
from calib_jax.core.trees import trainable_mask
from calib_jax.methods.baselines import finetune
from calib_jax.methods.probes import linear_probe, lp_ft
from calib_jax.objectives.cross_entropy import CrossEntropy
from calib_jax.optim.logistic import LogisticRegression
from calib_jax.optim.optimizers import AdamW

GRADIENT = AdamW(learning_rate=1e-2, weight_decay=0.1, warmup_steps=500, clip_norm=1.0)


@pytest.mark.parametrize(
    ("method", "optimizer"),
    [
        (linear_probe(), LogisticRegression()),
        (linear_probe(solver="gradient"), GRADIENT),
    ],
)
def test_a_probe_trains_the_head_alone(tiny_model, method, optimizer):
    assert method.classifier == LinearHead()
    assert method.terms == {"cross_entropy": CrossEntropy()}
    assert method.optimizer == optimizer
    assert method.cached_features and method.warm_start is None and method.teacher is None
    params = {"encoder": tiny_model[1], "classifier": {"kernel": 0.0, "bias": 0.0}}
    mask = trainable_mask(params, method.trainable)
    assert mask["classifier"] == {"kernel": True, "bias": True}
    assert not any(jax.tree.leaves(mask["encoder"]))
    method.validate("probe", num_steps=12_515)


def test_lp_ft_is_half_a_probe_and_half_a_finetune():
    method = lp_ft()
    expected = finetune()
    expected.share_of_steps = 0.5
    expected.warm_start = linear_probe(solver="gradient")
    expected.warm_start.share_of_steps = 0.5
    assert method == expected
    assert method.optimizer.learning_rate == 3e-5 and not method.cached_features
    method.validate("lp_ft", num_steps=12_515)


def test_lp_ft_takes_other_rates():
    method = lp_ft(probe_learning_rate=1e-3).scheduled(learning_rate=1e-4, warmup_steps=3)
    assert method.optimizer == finetune().scheduled(learning_rate=1e-4, warmup_steps=3).optimizer
    probe = linear_probe(solver="gradient").scheduled(learning_rate=1e-3, warmup_steps=3)
    assert method.warm_start.optimizer == probe.optimizer


def test_an_unknown_solver():
    with pytest.raises(ConfigError, match="solver: got 'newton', expected one of lbfgs, gradient"):
        linear_probe(solver="newton")
