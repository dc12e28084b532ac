import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.core.sharding import make_mesh
from calib_jax.experiment import Export
from calib_jax.methods.baselines import car_ft, zero_shot
from calib_jax.methods.robust import carot, flyp
from calib_jax.models.config import Compute


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


@pytest.mark.parametrize(
    ("export", "message"),
    [
        (Export(wise_ft=(0.5, 1.5)), r"export.wise_ft: got \(0.5, 1.5\), expected numbers in 0..1"),
        (Export(wise_ft=(0.5, 0.5)), r"two models would be written to 'finetune_wise_0.5'"),
        (Export(teacher=True), r"two models would be written to 'carot_teacher'"),
    ],
)
def test_exports_that_cannot_be(tiny_experiment, mesh, export, message):
    experiment = tiny_experiment(export=export)
    experiment.methods["carot_teacher"] = experiment.methods["finetune"]
    with pytest.raises(ConfigError, match=message):
        experiment.validate(mesh)


def test_exports_that_nothing_could_give(tiny_experiment, mesh):
    untrained = {"zero_shot": zero_shot()}
    experiment = tiny_experiment(methods=untrained, export=Export(wise_ft=(0.5,)))
    with pytest.raises(ConfigError, match=r"export.wise_ft: got \(0.5,\), but no method is train"):
        experiment.validate(mesh)
    experiment = tiny_experiment(
        methods={"flyp": flyp(warmup_steps=1)}, export=Export(teacher=True)
    )
    with pytest.raises(ConfigError, match=r"export.teacher: got true, but no method has a teacher"):
        experiment.validate(mesh)


def test_what_exports_are_called():
    export = Export(teacher=True, wise_ft=(0.25,))
    assert export.folders("carot", carot()) == ["carot", "carot_teacher", "carot_wise_0.25"]
    assert export.folders("flyp", flyp()) == ["flyp", "flyp_wise_0.25"]
    assert export.folders("zero_shot", zero_shot()) == []
    assert Export(models=False).folders("flyp", flyp()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"resize": "devise"},
            r"resize: got 'devise', expected host or device. Did you mean 'devi",
        ),
        ({"model": None}, r"model: got None, expected the towers to pre-train"),
        ({"image_size": 32}, r"image_size: got 32, expected 0, or the size at which a pretrained"),
        ({"pretrained": "x", "image_size": -1}, r"image_size: got -1, expected 0, or the size"),
        ({"compute": Compute(dtype="float16")}, r"compute.dtype: got 'float16', expected one of"),
    ],
)
def test_mistakes_about_the_model(tiny_experiment, mesh, changes, message):
    with pytest.raises(ConfigError, match=message):
        tiny_experiment(**changes).validate(mesh)


def test_contexts_are_templates(tiny_experiment, mesh):
    methods = {"car_ft": car_ft(warmup_steps=1)}
    experiment = tiny_experiment(methods=methods)
    message = r"evaluation.templates: got 1, but methods.car_ft compares the templates"
    with pytest.raises(ConfigError, match=message):
        experiment.validate(mesh)
    experiment.evaluation.templates = ("a photo of {}.", "a picture of {}.")
    experiment.validate(mesh)


def test_what_a_training_needs(tiny_experiment, mesh):
    experiment = tiny_experiment()
    experiment.finetune.sources = ()
    message = r"finetune.sources: got none, but methods.finetune is trained on them"
    with pytest.raises(ConfigError, match=message):
        experiment.validate(mesh)
    experiment = tiny_experiment()
    experiment.evaluation.validation = None
    message = r"evaluation.validation: got None, but pretrain_method is trained"
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
