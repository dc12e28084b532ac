"""What is wrong with a config is found before any training."""

import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.data.pipeline import Source
from calib_jax.runs.run import run


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda e: setattr(e.finetune.training, "batch_size", 12),
            r"finetune.training.batch_size: got 12, expected a positive multiple of the 8 devices",
        ),
        (
            lambda e: setattr(e.methods["carot"], "trainable", ("encoder/imgae/.*",)),
            r"methods.carot.trainable: regex 'encoder/imgae/.\*' matches no parameter",
        ),
        (
            lambda e: setattr(e, "data_dir", "no_such_folder"),
            r"data set 'tiny_colours': no prepared TFDS folder in .* or no_such_folder",
        ),
        (
            lambda e: setattr(e.evaluation.id_split, "split", "tset"),
            r"got split 'tset'.*Did you mean 'test'",
        ),
        (
            lambda e: setattr(e.finetune, "class_names", ("red", "green", "blue")),
            r"1 of its 3 classes are not among the 3 class names, first 'dark blue'",
        ),
        (
            lambda e: setattr(e.finetune, "class_names", ("red", "green", "dark blue", "ochre")),
            r"finetune.class_names: 1 of the 4 are no class of tiny_colours\[test\], first 'ochre'",
        ),
        (
            lambda e: setattr(e.model.text, "vocab_size", 5),
            r"model.text.vocab_size: got 5, expected at least the \d+ words",
        ),
        (
            lambda e: setattr(e.model.text, "context_length", 4),
            r"model.text.context_length: got 4, expected at least the 8 tokens",
        ),
        (lambda e: setattr(e, "seeds", 3), r"config.seeds: got 3 of type int, expected tuple"),
        (
            lambda e: setattr(e, "fsdp", "two"),
            r"config.fsdp: got 'two' of type str, expected int",
        ),
        (
            lambda e: setattr(e.methods["carot"], "keeps", "teachr"),
            r"config.methods.carot.keeps: got 'teachr' of type str, expected 'student' or 'tea",
        ),
        (lambda e: setattr(e, "fsdp", 3), r"fsdp: got 3, expected a divisor of the 8 devices"),
        (
            lambda e: setattr(e.finetune.training, "batch_size", 32),
            r"finetune.training.batch_size: got 32, expected at most the 24 training images",
        ),
        (
            lambda e: setattr(e, "pretrained", "no_such_folder"),
            r"pretrained: got 'no_such_folder', expected a file or folder",
        ),
    ],
)
def test_mistakes_are_found_before_any_training(tiny_experiment, tmp_path, change, message):
    experiment = tiny_experiment()
    change(experiment)
    with pytest.raises(ConfigError, match=message):
        run(experiment, tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()
    assert not (tmp_path / "config.json").exists()


def prepare_nothing(data_dir, output_dir):
    (output_dir / "set").mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize("is_new", [True, False])
def test_a_run_that_is_refused_leaves_no_data_of_its_own(tiny_experiment, tmp_path, is_new):
    """Data sets are prepared before splits are looked for in them."""
    experiment, workdir = tiny_experiment(), tmp_path / "a/run"
    experiment.prepare = (prepare_nothing,)
    experiment.evaluation.id_split.split = "tset"
    if not is_new:
        (workdir / "data/mine").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"got split 'tset'"):
        run(experiment, workdir)
    assert (tmp_path / "a").exists() is not is_new
    assert (workdir / "data/mine").exists() is not is_new


def test_pretrained_weights_must_fit_the_model(from_pretrained, tmp_path):
    experiment = from_pretrained()
    experiment.model.embed_dim = 16
    with pytest.raises(ConfigError, match=r"holds another model: model.embed_dim: 16 -> 8"):
        run(experiment, tmp_path)


def test_words_that_the_pretrained_tokenizer_does_not_know(from_pretrained, tmp_path):
    experiment = from_pretrained()
    source = experiment.finetune.sources[0]
    experiment.finetune.sources = (Source(split=source.split, templates=("a painting of {}.",)),)
    with pytest.raises(ConfigError, match=r"does not know the word 'painting'"):
        run(experiment, tmp_path)
