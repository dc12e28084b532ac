import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.core.sharding import make_mesh
from calib_jax.methods.robust import carot, flyp


@pytest.fixture(scope="module")
def mesh():
    return make_mesh()


def test_a_good_config_passes(tiny_experiment, mesh):
    experiment = tiny_experiment()
    experiment.validate(mesh)
    assert [name for name, _, _ in experiment.phases()] == [
        "pretrain",
        "zero_shot",
        "finetune",
        "carot",
    ]


def test_captions_are_every_class_in_every_template(tiny_experiment):
    table = tiny_experiment().finetune.captions()
    assert len(table.texts()) == 6
    assert table.texts()[-1] == "a picture of dark blue."


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": ()}, r"seeds: got \(\), expected distinct numbers"),
        ({"seeds": (1, 1)}, r"seeds: got \(1, 1\), expected distinct numbers"),
        ({"seeds": (-1,)}, r"seeds: got \(-1,\), expected distinct numbers in 0..65535"),
        ({"methods": {"pretrain": flyp()}}, r"methods: the name 'pretrain' is taken"),
        ({"pretrain": None}, r"pretrained: got an empty name and no pretrain stage"),
        (
            {"methods": {"carot": carot(warmup_steps=6)}},
            r"methods.carot.optimizer.warmup_steps: got 6, expected fewer than the 6 training",
        ),
    ],
)
def test_mistakes(tiny_experiment, mesh, changes, message):
    experiment = tiny_experiment()
    for name, value in changes.items():  # past the constructor's run-time check, as a user would
        setattr(experiment, name, value)
    with pytest.raises(ConfigError, match=message):
        experiment.validate(mesh)


def test_augmentation_and_lengths_are_checked(tiny_experiment, mesh):
    experiment = tiny_experiment()
    experiment.finetune.augmentation.crop_scale = (0.9, 1.5)
    with pytest.raises(ConfigError, match=r"^finetune.augmentation.crop_scale: got \(0.9, 1.5\)"):
        experiment.validate(mesh)
    experiment = tiny_experiment()
    experiment.pretrain.training.log_every = 0
    with pytest.raises(ConfigError, match=r"pretrain.training.log_every: got 0, expected at least"):
        experiment.validate(mesh)
