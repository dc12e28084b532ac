"""One method alone, or the tuning of all, of an experiment with trials and rows of weights."""

import dataclasses

import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.methods.baselines import finetune, zero_shot
from calib_jax.methods.robust import flyp
from calib_jax.runs.experiment import Tuning, select
from calib_jax.weight_space.rows import WiseFT

TUNING = Tuning(
    trials={
        "finetune": {
            "0.1": finetune().scheduled(learning_rate=0.1, warmup_steps=1),
            "0.2": finetune().scheduled(learning_rate=0.2, warmup_steps=1),
        },
        "flyp": {
            "0.1": flyp().scheduled(learning_rate=0.1, warmup_steps=1),
            "0.2": flyp().scheduled(learning_rate=0.2, warmup_steps=1),
        },
    }
)
METHODS = {
    "zero_shot": zero_shot(),
    "finetune": TUNING.trials["finetune"]["0.1"],
    "flyp": TUNING.trials["flyp"]["0.2"],
}


@pytest.fixture
def experiment(tiny_experiment):
    return tiny_experiment(
        methods=METHODS,
        tuning=Tuning(trials={"flyp": {"only": METHODS["flyp"]}}),
        weight_space={"wise_flyp": WiseFT(of="flyp"), "wise_ft": WiseFT(of="finetune")},
        seeds=(0, 1),
    )


def variant(experiment, name):
    chosen = select(experiment, name, TUNING)
    chosen.validate()
    return chosen


def test_nothing_selected_is_everything(experiment):
    assert select(experiment, "", TUNING) is experiment


def test_one_method_keeps_its_own_trials_and_rows(experiment):
    alone = variant(experiment, "flyp")
    assert list(alone.methods) == list(alone.tuning.trials) == ["flyp"]
    assert list(alone.weight_space) == ["wise_flyp"]
    alone = variant(experiment, "finetune")
    assert (list(alone.methods), alone.tuning) == (["finetune"], None)
    assert list(alone.weight_space) == ["wise_ft"]


def test_the_tuning_goes_before_the_whole_experiment(experiment):
    tune = variant(experiment, "tune")
    assert tune.tuning is TUNING and tune.name == f"{experiment.name}_tune"
    assert dataclasses.replace(tune, name=experiment.name, tuning=experiment.tuning) == experiment


def test_an_unknown_variant(experiment):
    message = r"got variant 'flip', expected one of tune, zero_shot, .* Did you mean 'flyp'\?"
    with pytest.raises(ConfigError, match=message):
        variant(experiment, "flip")
