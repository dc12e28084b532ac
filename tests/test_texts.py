import dataclasses
import json

import numpy as np
import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.core.sharding import make_mesh
from calib_jax.methods.baselines import zero_shot
from calib_jax.models import presets
from calib_jax.models.weights.export import write_model
from calib_jax.texts import read_texts, with_class_names


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


def test_texts_of_every_phase(tiny_experiment):
    texts = read_texts(tiny_experiment(), make_mesh())
    assert list(texts.tables) == ["pretrain", "zero_shot", "finetune", "carot"]
    assert texts.tables["carot"].captions.shape == (6, 8)
    assert texts.tables["zero_shot"].captions.shape == (0, 8)
    assert texts.tables["carot"].class_tokens.shape == (3, 1, 8)
    assert texts.pretrained is None
    words = {"a", "photo", "picture", "of", "red", "green", "dark", "blue", "."}
    assert set(texts.tokenizer.backend.get_vocab()) == words | {"[PAD]", "[BOS]", "[EOT]"}


def test_a_pretrained_model_brings_its_sizes(written, tiny_experiment, tiny_model):
    folder, experiment = written
    tokenizer = read_texts(tiny_experiment(), make_mesh()).tokenizer
    tokenizer.save(folder, context_length=16)
    texts = read_texts(experiment, make_mesh())
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


def test_clips_tokenizer_needs_clips_vocabulary(written, shared):
    _, experiment = written
    experiment.tokenizer = str(shared / "clip_tokenizer")
    with pytest.raises(ConfigError, match=r"tokenizer: got a tokenizer of 49408 ids .* 32 ids"):
        read_texts(experiment, make_mesh())


def test_a_model_from_scratch_can_have_clips_tokenizer(tiny_experiment, shared):
    experiment = tiny_experiment(tokenizer=str(shared / "clip_tokenizer"))
    experiment.model = presets.tiny(
        vocab_size=49_408, context_length=77, image_size=16, width=64, num_layers=1, text_layers=1
    )
    tables = read_texts(experiment, make_mesh()).tables["carot"]
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


def test_numbers_are_no_class_names(tiny_experiment, monkeypatch):
    class Numbers:
        label_names = ("0", "1")
        description = "numbers[test]"

        def __init__(self, *args, **kwargs):
            pass

    experiment = tiny_experiment()
    experiment.finetune = dataclasses.replace(experiment.finetune, class_names=())
    monkeypatch.setattr("calib_jax.texts.ImageSplit", Numbers)
    with pytest.raises(ConfigError, match=r"numbers\[test\] has only numbers, first '0'. Set them"):
        with_class_names(experiment)
