"""One method alone, or the tuning of all, of an experiment with trials and rows of weights."""

import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.core.sharding import make_mesh
from calib_jax.evaluation.combination import WiseFT
from calib_jax.experiment import Tuning
from calib_jax.methods.baselines import finetune, zero_shot
from calib_jax.methods.robust import flyp
from calib_jax.variants import select


def methods(rates):
    made = {name: of(learning_rate=rates[name], warmup_steps=1) for name, of in MAKERS.items()}
    return {"zero_shot": zero_shot(), **made}


MAKERS = {"finetune": finetune, "flyp": flyp}


@pytest.fixture
def experiment(tiny_experiment):
    rates = dict.fromkeys(MAKERS, 0.1)
    return tiny_experiment(
        methods=methods(rates),
        tuning=Tuning(trials={"flyp": {"only": methods(rates)["flyp"]}}),
        weight_space={"wise_flyp": WiseFT(of="flyp"), "wise_ft": WiseFT(of="finetune")},
        seeds=(0, 1),
    )


def variant(experiment, name):
    chosen = select(experiment, name, methods, rates=(0.1, 0.2))
    chosen.validate(make_mesh())
    return chosen


def test_nothing_selected_is_everything(experiment):
    assert select(experiment, "", methods, rates=(0.1,)) is experiment


def test_one_method_keeps_its_own_trials_and_rows(experiment):
    alone = variant(experiment, "flyp")
    assert list(alone.methods) == list(alone.tuning.trials) == ["flyp"]
    assert list(alone.weight_space) == ["wise_flyp"]
    alone = variant(experiment, "finetune")
    assert (list(alone.methods), alone.tuning) == (["finetune"], None)
    assert list(alone.weight_space) == ["wise_ft"]


def test_the_tuning_is_every_trained_method_at_every_rate(experiment):
    tune = variant(experiment, "tune")
    assert list(tune.methods) == ["finetune_0.1", "flyp_0.1", "finetune_0.2", "flyp_0.2"]
    assert (tune.tuning, tune.weight_space, tune.seeds) == (None, {}, (0,))
    assert tune.evaluation.id_split == tune.evaluation.validation
    assert tune.evaluation.shifts == tune.evaluation.near == tune.evaluation.far == {}


def test_an_unknown_variant(experiment):
    message = r"got variant 'flip', expected one of tune, zero_shot, .* Did you mean 'flyp'\?"
    with pytest.raises(ConfigError, match=message):
        variant(experiment, "flip")
