import dataclasses

import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.data.pipeline import Source
from calib_jax.methods.baselines import car_ft, finetune, zero_shot
from calib_jax.methods.compositions import born_again
from calib_jax.methods.probes import linear_probe, lp_ft
from calib_jax.methods.robust import carot, flyp, starft
from calib_jax.models.config import Compute
from calib_jax.runs.experiment import Export, Phase, Stage, Tuning
from calib_jax.weight_space.rows import Soup, TeacherOf, WiseFT


def test_a_good_config_passes(tiny_experiment):
    experiment = tiny_experiment()
    experiment.validate()
    methods = experiment.methods
    assert experiment.phases() == [
        Phase("pretrain", "pretrain", "pretrain_method", experiment.pretrain_method),
        *(Phase("finetune", name, f"methods.{name}", method) for name, method in methods.items()),
    ]
    assert [experiment.stage(name) for name in ("pretrain", "finetune")] == [
        experiment.pretrain,
        experiment.finetune,
    ]
    experiment.pretrained = "a/model"
    assert [phase.name for phase in experiment.phases()] == list(methods)


def test_captions_are_every_class_in_every_template(tiny_experiment):
    table = tiny_experiment().finetune.captions()
    assert len(table.texts()) == 6
    assert table.texts()[-1] == "a picture of dark blue."


def test_captions_without_templates_are_the_bare_names():
    assert Stage(class_names=("red", "green")).captions().texts() == ["red", "green"]


def test_a_method_of_several_trainings_has_as_many_phases(tiny_experiment):
    of = finetune().scheduled(warmup_steps=1)
    methods = {"lp_ft": lp_ft().scheduled(warmup_steps=1), "again": born_again(of)}
    trials = {"again": {"slow": born_again(of), "once": of}}
    experiment = tiny_experiment(methods=methods, tuning=Tuning(trials=trials))
    experiment.validate()
    lp, slow = methods["lp_ft"], trials["again"]["slow"]
    assert [phase[1:] for phase in experiment.phases()[1:]] == [
        ("lp_ft.warm_start", "methods.lp_ft.warm_start", lp.warm_start),
        ("lp_ft", "methods.lp_ft", lp),
        ("again.slow.taught_by", "tuning.trials.again.slow.taught_by", of),
        ("again.slow", "tuning.trials.again.slow", slow),
        ("again.once", "tuning.trials.again.once", of),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": ()}, r"seeds: got \(\), expected distinct numbers"),
        ({"seeds": (1, 1)}, r"seeds: got \(1, 1\), expected distinct numbers"),
        ({"seeds": (-1,)}, r"seeds: got \(-1,\), expected distinct numbers in 0..65535"),
        ({"methods": {"pretrain": flyp()}}, r"methods: the name 'pretrain' is taken"),
        ({"cache_dir": "~nobodyx/c"}, r"cache_dir: got '~nobodyx/c', expected the home folder"),
        ({"pretrain": None}, r"pretrained: got an empty name and no pretrain stage"),
        (
            {"methods": {"carot": carot().scheduled(warmup_steps=6)}},
            r"methods.carot.optimizer.warmup_steps: got 6, expected fewer than the 6 training",
        ),
    ],
)
def test_mistakes(tiny_experiment, changes, message):
    experiment = tiny_experiment()
    for name, value in changes.items():  # past the constructor's run-time check, as a user would
        setattr(experiment, name, value)
    with pytest.raises(ConfigError, match=message):
        experiment.validate()


@pytest.mark.parametrize(
    ("export", "message"),
    [
        (
            Export(curves=("zero_shot",)),
            r"export.curves: 'zero_shot' is no trained method. Correct",
        ),
        (
            Export(curves=("karot",)),
            r"'karot' is no trained method. Did you mean 'carot'\? Corr",
        ),
        (Export(wise_ft=(0.5, 1.5)), r"export.wise_ft: got \(0.5, 1.5\), expected numbers in 0..1"),
        (Export(wise_ft=(0.5, 0.5)), r"two models would be written to 'finetune_wise_0.5'"),
        (Export(teacher=True), r"two models would be written to 'carot_teacher'"),
    ],
)
def test_exports_that_cannot_be(tiny_experiment, export, message):
    experiment = tiny_experiment(export=export)
    experiment.methods["carot_teacher"] = experiment.methods["finetune"]
    with pytest.raises(ConfigError, match=message):
        experiment.validate()


def test_exports_that_nothing_could_give(tiny_experiment):
    untrained = {"zero_shot": zero_shot()}
    experiment = tiny_experiment(methods=untrained, export=Export(wise_ft=(0.5,)))
    with pytest.raises(ConfigError, match=r"export.wise_ft: got \(0.5,\), but no method is train"):
        experiment.validate()
    experiment = tiny_experiment(
        methods={"flyp": flyp().scheduled(warmup_steps=1)}, export=Export(teacher=True)
    )
    with pytest.raises(ConfigError, match=r"export.teacher: got true, but no method has a teacher"):
        experiment.validate()


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
def test_mistakes_about_the_model(tiny_experiment, changes, message):
    with pytest.raises(ConfigError, match=message):
        tiny_experiment(**changes).validate()


def test_contexts_are_templates(tiny_experiment):
    methods = {"car_ft": car_ft().scheduled(warmup_steps=1)}
    experiment = tiny_experiment(methods=methods)
    message = r"evaluation.templates: got 1, but methods.car_ft compares the templates"
    with pytest.raises(ConfigError, match=message):
        experiment.validate()
    experiment.evaluation.templates = ("a photo of {}.", "a picture of {}.")
    experiment.validate()


def test_what_a_training_needs(tiny_experiment):
    experiment = tiny_experiment()
    experiment.finetune.sources = ()
    message = r"finetune.sources: got none, but methods.finetune is trained on them"
    with pytest.raises(ConfigError, match=message):
        experiment.validate()
    experiment = tiny_experiment()
    experiment.evaluation.validation = None
    message = r"evaluation.validation: got None, but pretrain_method is trained"
    with pytest.raises(ConfigError, match=message):
        experiment.validate()


def test_augmentation_and_lengths_are_checked(tiny_experiment):
    experiment = tiny_experiment()
    experiment.finetune.augmentation.crop_scale = (0.9, 1.5)
    with pytest.raises(ConfigError, match=r"^finetune.augmentation.crop_scale: got \(0.9, 1.5\)"):
        experiment.validate()
    experiment = tiny_experiment()
    experiment.pretrain.training.log_every = 0
    with pytest.raises(ConfigError, match=r"pretrain.training.log_every: got 0, expected at least"):
        experiment.validate()


@pytest.mark.parametrize(
    ("trials", "message"),
    [
        (
            {"carrot": {"a": carot()}},
            r"trials: got 'carrot', expected names of methods: zero_shot, finetune, carot\. Did "
            r"you mean 'carot'\? Correct it\.",
        ),
        (
            {"carot": {}},
            r"trials\.carot: got 0 trials, expected at least one, each of them train",
        ),
        (
            {"carot": {"a": carot(), "b": zero_shot()}},
            r"trials\.carot: got 2 trials, expected at least one, each of them trained\. Correct",
        ),
        (
            {"carot": {"a": carot(), "b": carot()}, "finetune": {"a": finetune()}},
            r"trials: got 1 for finetune and 2 for carot, expected as many for each\. Add trials",
        ),
        (
            {
                "carot": {
                    "low": carot().scheduled(warmup_steps=1),
                    "high": carot().scheduled(warmup_steps=6),
                }
            },
            r"trials\.carot\.high\.optimizer\.warmup_steps: got 6, expected fewer than the 6 train",
        ),
    ],
)
def test_mistakes_about_the_tuning(tiny_experiment, trials, message):
    experiment = tiny_experiment(tuning=Tuning(trials=trials))
    known = {name: made for name, made in trials.items() if made and name in experiment.methods}
    experiment.methods |= {name: next(iter(made.values())) for name, made in known.items()}
    with pytest.raises(ConfigError, match=rf"^tuning\.{message}"):
        experiment.validate()


def test_equal_budgets_for_some_of_the_methods(tiny_experiment):
    trials = {
        "finetune": {
            f"{rate:g}": finetune().scheduled(learning_rate=rate, warmup_steps=1)
            for rate in (0.1, 0.2)
        },
        "carot": {
            f"{rate:g}": carot().scheduled(learning_rate=rate, warmup_steps=1)
            for rate in (0.3, 0.4)
        },
    }
    experiment = tiny_experiment(tuning=Tuning(trials=trials))
    experiment.methods |= {name: next(iter(made.values())) for name, made in trials.items()}
    experiment.validate()
    names = [phase.name for phase in experiment.phases()]
    assert names == [
        "pretrain",
        "zero_shot",
        "finetune.0.1",
        "finetune.0.2",
        "carot.0.3",
        "carot.0.4",
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"wise": WiseFT(of="carrot")}, r"weight_space\.wise\.of: got 'carrot', expected one of"),
        (
            {"soup": Soup(of="carot", num_models=3)},
            r"weight_space\.soup\.num_models: got 3, expec",
        ),
        (
            {"soup": Soup(of="carot")},
            r"weight_space\.soup: it mixes seeds, but each of them pre-trains a model of its own\.",
        ),
        (
            {"teacher": TeacherOf(of="carot"), "finetune": WiseFT(of="finetune")},
            r"weight_space: the name 'finetune' is a method's too\. Rename one of them\.",
        ),
    ],
)
def test_mistakes_about_the_weight_space(tiny_experiment, rows, message):
    with pytest.raises(ConfigError, match=f"^{message}"):
        tiny_experiment(weight_space=rows, seeds=(0, 1)).validate()


def test_seeds_of_one_pretrained_model_mix(tiny_experiment):
    rows = {"soup": Soup(of="carot"), "teacher": TeacherOf(of="carot")}
    tiny_experiment(weight_space=rows, seeds=(0, 1), pretrained="a/model").validate()


def test_captions_are_for_the_terms_that_need_them(tiny_experiment):
    experiment = tiny_experiment()
    (captioned,) = experiment.finetune.sources
    experiment.finetune.sources = (captioned, dataclasses.replace(captioned, templates=()))
    message = (
        r"^finetune\.sources\[1\]\.templates: got none, but term 'contrastive' of methods\.carot "
        r"needs a caption for each image\. Name at least one\."
    )
    with pytest.raises(ConfigError, match=message):
        experiment.validate()
    experiment.methods = {"finetune": finetune().scheduled(warmup_steps=1), "probe": linear_probe()}
    experiment.validate()


def test_sources_are_checked(tiny_experiment):
    experiment = tiny_experiment()
    (source,) = experiment.finetune.sources
    experiment.finetune.sources = (source, dataclasses.replace(source, repeats=0))
    message = r"^finetune\.sources\[1\]\.repeats: got 0, expected at least 1\. Correct it\."
    with pytest.raises(ConfigError, match=message):
        experiment.validate()


def test_cached_features_are_of_the_images_as_they_are(tiny_experiment):
    experiment = tiny_experiment(methods={"lp_ft": lp_ft().scheduled(warmup_steps=1)})
    source = experiment.finetune.sources[0]
    styled = Source(split=source.split, templates=(), style=lambda pixels, rng: pixels)
    experiment.finetune.sources = (source, styled)
    message = (
        r"^finetune\.sources\[1\]\.style: got a style, but methods\.lp_ft\.warm_start sees each "
        r"image once, as it is\. Set cached_features to false, or remove the source\."
    )
    with pytest.raises(ConfigError, match=message):
        experiment.validate()
    experiment.methods = {"finetune": finetune().scheduled(warmup_steps=1)}
    experiment.validate()


def test_spurious_texts_are_of_several_templates(tiny_experiment):
    experiment = tiny_experiment(methods={"starft": starft().scheduled(warmup_steps=1)})
    message = r"^evaluation\.templates: got 1, but methods\.starft compares the templates of the pr"
    with pytest.raises(ConfigError, match=message):
        experiment.validate()


def test_no_two_trainings_share_their_checkpoints(tiny_experiment):
    trials = Tuning(trials={"flyp": {"low": flyp().scheduled(warmup_steps=1)}})
    methods = {
        "flyp": flyp().scheduled(warmup_steps=1),
        "flyp.low": flyp().scheduled(warmup_steps=1),
    }
    message = r"^methods: two trainings would be called 'flyp.low' and share checkpoints. Rename"
    with pytest.raises(ConfigError, match=message):
        tiny_experiment(methods=methods, tuning=trials).validate()


def test_a_tuned_method_is_one_of_its_trials(tiny_experiment):
    trials = Tuning(trials={"flyp": {"low": flyp().scheduled(warmup_steps=1)}})
    methods = {"flyp": flyp(label_smoothing=0.1).scheduled(warmup_steps=1)}
    message = r"^methods.flyp: it is none of the trials of tuning.trials.flyp, of which one will"
    with pytest.raises(ConfigError, match=message):
        tiny_experiment(methods=methods, tuning=trials).validate()
