"""Runs of the tiny experiment that several files of tests look at."""

import pytest

from calib_jax.methods.baselines import zero_shot
from calib_jax.runs.run import run


@pytest.fixture(scope="session")
def pretrained_folder(tiny_experiment, tmp_path_factory):
    """The model that the tiny experiment pre-trains, exported."""
    workdir = tmp_path_factory.mktemp("pretrained")
    run(tiny_experiment(methods={"zero_shot": zero_shot()}), workdir)
    return workdir / "pretrained" / "seed_0"


@pytest.fixture(scope="session")
def from_pretrained(tiny_experiment, pretrained_folder):
    """A function that makes a tiny experiment that starts from that model."""

    def make(**changes):
        start = {
            "pretrained": str(pretrained_folder),
            "pretrain": None,
            "pretrain_method": None,
        }
        return tiny_experiment(**start | changes)

    return make
