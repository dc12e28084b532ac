import dataclasses
import json

import jax
import numpy as np
import pytest
import safetensors.numpy

from calib_jax.core.errors import ConfigError
from calib_jax.core.sharding import make_mesh
from calib_jax.methods.baselines import zero_shot
from calib_jax.models import presets
from calib_jax.models.encoder import Encoder
from calib_jax.models.weights import openai, table
from calib_jax.models.weights.export import write_model
from calib_jax.runs.texts import read_texts, with_class_names


@pytest.fixture
def written(tiny_experiment, tiny_model, tmp_path):
    """A folder with the weights of `tiny_model` but no tokenizer, and an experiment that uses it.

    The experiment trains nothing and takes the model from the folder.
    """
    encoder, params = tiny_model
    write_model(tmp_path, encoder.config, params, bos=1, eot=11, pad=0)
    changes = {"pretrain": None, "pretrain_method": None, "model": None}
    experiment = tiny_experiment(
        **changes, pretrained=str(tmp_path), methods={"zero_shot": zero_shot()}
    )
    return tmp_path, experiment


def test_texts_of_both_stages(tiny_experiment):
    """Each has the captions of its own sources; the prompts are the same."""
    experiment = tiny_experiment()
    (source,) = experiment.pretrain.sources
    experiment.pretrain.sources = (dataclasses.replace(source, templates=("a photo of {}.",)),)
    texts = read_texts(experiment, make_mesh())
    assert list(texts.tables) == ["pretrain", "finetune"]
    assert not texts.tables["pretrain"].captions[3:].any()  # as many rows for both
    for name, num_templates in (("pretrain", 1), ("finetune", 2)):
        tables = texts.tables[name]
        assert tables.captions.shape == (6, 8)
        assert tables.captions[: 3 * num_templates].any(axis=1).all()
        assert tables.class_tokens.shape == (3, 1, 8)
        np.testing.assert_array_equal(
            tables.class_tokens[:, 0], tables.captions[: 3 * num_templates : num_templates]
        )
    assert texts.pretrained is None
    words = {"a", "photo", "picture", "of", "red", "green", "dark", "blue", "."}
    assert set(texts.tokenizer.backend.get_vocab()) == words | {"[PAD]", "[BOS]", "[EOT]"}


def test_a_pretrained_model_brings_its_sizes(written, tiny_experiment, tiny_model):
    folder, experiment = written
    tokenizer = read_texts(tiny_experiment(), make_mesh()).tokenizer
    tokenizer.save(folder, context_length=16)
    texts = read_texts(experiment, make_mesh())
    assert [tables.captions.shape[0] for tables in texts.tables.values()] == [0, 0]
    assert texts.encoder.config.vision == tiny_model[0].config.vision
    assert texts.encoder.config.text == tiny_model[0].config.text
    assert texts.tokenizer.eot == 11
    np.testing.assert_array_equal(
        texts.pretrained["image"]["projection"]["kernel"],
        tiny_model[1]["image"]["projection"]["kernel"],
    )
    experiment.image_size = 32
    assert read_texts(experiment, make_mesh()).encoder.config.vision.image_size == 32


def test_the_folder_needs_a_tokenizer(written, tiny_experiment):
    folder, experiment = written
    path = folder / "tokenizer.json"
    with pytest.raises(ConfigError, match=r"pretrained: no tokenizer.json in .*--config.tokenizer"):
        read_texts(experiment, make_mesh())
    path.write_text("{")
    with pytest.raises(ConfigError, match=r"pretrained: .*tokenizer.json cannot be read \("):
        read_texts(experiment, make_mesh())
    tokenizer = read_texts(tiny_experiment(), make_mesh()).tokenizer
    content = json.loads(tokenizer.backend.to_str())
    content["model"]["vocab"]["<|endoftext|>"] = content["model"]["vocab"].pop("[EOT]")
    content["post_processor"] = None
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"tokenizer.json has no token '\[EOT\]', expected"):
        read_texts(experiment, make_mesh())


def test_a_tokenizer_of_another_model_is_refused(written, tiny_experiment, tmp_path_factory):
    """One word more: the end of text has another id than the text tower was trained with."""
    folder, experiment = written
    other = tiny_experiment()
    other.finetune.class_names = ("red", "green", "dark blue", "pink")
    read_texts(other, make_mesh()).tokenizer.save(folder, context_length=16)
    message = r"pretrained: got a tokenizer of 13 ids .* is 12, expected .* 32 ids .* with 11"
    with pytest.raises(ConfigError, match=message):
        read_texts(experiment, make_mesh())
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    read_texts(tiny_experiment(), make_mesh()).tokenizer.save(elsewhere, context_length=16)
    experiment.tokenizer = str(elsewhere)
    assert read_texts(experiment, make_mesh()).tokenizer.eot == 11


def test_clips_tokenizer_needs_clips_vocabulary(written, golden_dir):
    _, experiment = written
    experiment.tokenizer = str(golden_dir / "clip_tokenizer")
    with pytest.raises(ConfigError, match=r"tokenizer: got a tokenizer of 49408 ids .* 32 ids"):
        read_texts(experiment, make_mesh())


def test_a_model_from_scratch_can_have_clips_tokenizer(tiny_experiment, golden_dir):
    experiment = tiny_experiment(tokenizer=str(golden_dir / "clip_tokenizer"))
    experiment.model = presets.tiny(
        vocab_size=49_408, context_length=77, image_size=16, width=64, num_layers=1, text_layers=1
    )
    tables = read_texts(experiment, make_mesh()).tables["finetune"]
    np.testing.assert_array_equal(tables.captions[0], [49406, 320, 1125, 539, 736, 269, 49407, 0])


def test_a_hub_id_without_a_network_says_how_to_go_on(tiny_experiment, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    changes = {"pretrain": None, "pretrain_method": None, "model": None}
    experiment = tiny_experiment(**changes, pretrained="nobody/no-such-model")
    with pytest.raises(ConfigError, match=r"set --config.pretrained=FOLDER"):
        read_texts(experiment, make_mesh())


def test_the_class_names_can_be_the_data_sets(tiny_experiment):
    experiment = tiny_experiment()
    assert with_class_names(experiment) is experiment
    nameless = dataclasses.replace(experiment.finetune, class_names=())
    experiment = with_class_names(dataclasses.replace(experiment, finetune=nameless))
    assert experiment.finetune.class_names == ("red", "green", "dark blue")


@pytest.mark.parametrize("names", [("0", "1"), ("n01440764", "n01443537")])
def test_numbers_are_no_class_names(tiny_experiment, monkeypatch, names):
    class Numbers:
        label_names = names
        description = "numbers[test]"

        def __init__(self, *args, **kwargs):
            pass

    experiment = tiny_experiment()
    experiment.finetune = dataclasses.replace(experiment.finetune, class_names=())
    monkeypatch.setattr("calib_jax.runs.texts.ImageSplit", Numbers)
    with pytest.raises(
        ConfigError, match=r"numbers\[test\] has only numbers, first '(0|n01440764)'. Set"
    ):
        with_class_names(experiment)


def test_one_warning_counts_all_captions_that_are_too_long(written, tiny_experiment, caplog):
    """Prompts and captions share a text: it counts once."""
    folder, experiment = written
    long = "a photo of a photo of a photo of a photo of a photo of {}."
    source = dataclasses.replace(experiment.finetune.sources[0], templates=(long,))
    experiment.finetune.sources = (source,)
    experiment.evaluation.templates = (long, "a photo of {}.")
    experiment.methods = tiny_experiment().methods
    read_texts(tiny_experiment(), make_mesh()).tokenizer.save(folder, context_length=16)
    texts = read_texts(experiment, make_mesh())
    (message,) = caplog.messages
    assert message.startswith("3 of 6 captions are longer than 16 tokens")
    np.testing.assert_array_equal(texts.tables["finetune"].captions[:, -1], [11, 11, 11])


def test_a_weight_file_alone_needs_the_activation(tiny_model, tmp_path, tiny_experiment, caplog):
    encoder, params = tiny_model
    file = tmp_path / "weights.safetensors"
    config = presets.tiny(vocab_size=16, context_length=8, image_size=16, width=64, embed_dim=8)
    params = jax.tree.map(
        lambda shape: np.full(shape.shape, 0.1, np.float32),
        jax.eval_shape(Encoder(config).init, jax.random.key(0)),
    )
    safetensors.numpy.save_file(table.store(config, params, openai.rows(config)), file)
    tokenizer = read_texts(tiny_experiment(), make_mesh()).tokenizer
    tokenizer.save(tmp_path / "tokenizer", context_length=8)
    changes = {"pretrain": None, "pretrain_method": None, "model": None}
    experiment = tiny_experiment(
        **changes,
        pretrained=str(file),
        tokenizer=str(tmp_path / "tokenizer"),
        methods={"zero_shot": zero_shot()},
    )
    experiment.activation = "gelu"
    with pytest.raises(ConfigError, match=r"whose end of text is 11, .* 16 ids that ends with 15"):
        read_texts(experiment, make_mesh())
    assert not caplog.messages
    experiment.activation = ""
    with pytest.raises(ConfigError, match="end of text"):
        read_texts(experiment, make_mesh())
    (message,) = caplog.messages
    assert "assuming quick_gelu" in message
    assert "--config.activation" in message
