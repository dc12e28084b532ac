"""Whatever changes a number is in the identity, by content: no training is run here."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from calib_jax.classifiers.exported import ExportedHead
from calib_jax.classifiers.head import LinearMap
from calib_jax.classifiers.stored import write_head
from calib_jax.core.settings import differences
from calib_jax.core.sharding import make_mesh
from calib_jax.methods.baselines import zero_shot
from calib_jax.methods.method import Method
from calib_jax.runs.identity import Identities
from calib_jax.runs.splits import Splits
from calib_jax.runs.texts import read_texts


@pytest.fixture
def identity_of(from_pretrained, pretrained_folder, tiny_data, tmp_path):
    """A function: what the record of a method depends on, over copies of its folders.

    It takes a change of the model's folder and of the data's.
    """

    def find(model=lambda folder: None, data=lambda folder: None):
        number = len(list(tmp_path.iterdir()))
        # Another place each time: the path tells nothing.
        folder = shutil.copytree(pretrained_folder, tmp_path / f"{number}_model")
        data_dir = shutil.copytree(tiny_data, tmp_path / f"{number}_data")
        kernel = jnp.asarray(np.random.default_rng(0).normal(size=(8, 3)), jnp.float32)
        head = LinearMap(kernel=kernel, bias=jnp.zeros(3))
        write_head(folder / "classifier.safetensors", head, ("red", "green", "dark blue"))
        (folder / "SHA256SUMS").unlink()  # or a change would be refused
        model(folder), data(data_dir)
        exported = Method(classifier=ExportedHead(folder=str(folder)))
        methods = {"zero_shot": zero_shot(), "exported": exported}
        experiment = from_pretrained(
            pretrained=str(folder), data_dir=str(data_dir), methods=methods, model=None
        )
        texts = read_texts(experiment, make_mesh())
        splits = Splits(experiment, [data_dir], image_size=16)
        identities = Identities(experiment, texts, splits)
        found = {
            name: identities.evaluation(identities.training(name))
            | {"predictions": identities.predictions(identities.training(name))}
            for name in methods
        }
        return json.loads(json.dumps(found).replace(str(folder), "FOLDER"))

    return find


def edited(name, change):
    """A change of a JSON file."""

    def edit(folder):
        content = json.loads((folder / name).read_text())
        change(content)
        (folder / name).write_text(json.dumps(content))

    return edit


def other_activation(config):
    for part in ("text_config", "vision_config"):
        config[part]["hidden_act"] = "gelu"


def other_ids(tokenizer):
    ids = tokenizer["model"]["vocab"]
    ids["red"], ids["green"] = ids["green"], ids["red"]


def other_weights(folder, name="model.safetensors", tensor="visual_projection.weight"):
    path = folder / name
    with safetensors.safe_open(path, "np") as file:
        metadata = file.metadata()
    tensors = safetensors.numpy.load_file(path)
    tensors[tensor] = tensors[tensor] + 1
    safetensors.numpy.save_file(tensors, path, metadata=metadata)


MODEL = {
    "activation": (edited("config.json", other_activation), "model.model.activation: "),
    "mean": (
        edited("preprocessor_config.json", lambda said: said.update(image_mean=[0.5] * 3)),
        "model.model.pixel_mean: ",
    ),
    "scale": (
        edited("preprocessor_config.json", lambda said: said.update(rescale_factor=1 / 127.5)),
        "model.model.pixel_std: ",
    ),
    "joint file": (
        lambda folder: (folder / "processor_config.json").write_text(
            '{"image_processor": {"image_std": [1, 2, 3]}}'
        ),
        "model.model.pixel_std: ",
    ),
    "tokenizer": (edited("tokenizer.json", other_ids), "model.tokens_crc32: "),
    "weights": (other_weights, "model.pretrained_weights_crc32: "),
}


def test_a_copy_elsewhere_is_the_same(identity_of):
    found = differences(identity_of(), identity_of())
    # The path of an exported classifier is a setting.
    assert [one for one in found if not one.startswith("exported.predictions.")] == []


@pytest.mark.parametrize("change", MODEL)
def test_the_content_of_the_models_folder(identity_of, change):
    edit, said = MODEL[change]
    before, after = identity_of(), identity_of(model=edit)
    found = list(differences(before, after))
    for name in ("zero_shot", "exported"):
        assert any(one.startswith(f"{name}.{said}") for one in found), found
        # Kept predictions are of another model too.
        assert any(one.startswith(f"{name}.predictions.clean.model: ") for one in found)


def test_the_content_of_an_exported_classifier(identity_of):
    def edit(folder):
        other_weights(folder, "classifier.safetensors", "bias")

    found = list(differences(identity_of(), identity_of(model=edit)))
    assert any(
        one.startswith("exported.model.methods.exported.classifier.files_crc32: ") for one in found
    )
    assert not any(one.startswith("zero_shot.") for one in found)


@pytest.mark.parametrize(
    ("file", "splits"),
    [
        ("tiny_colours-test.", {"clean", "shifted"}),
        ("tiny_colours-validation.", {"validation"}),
        ("tiny_mixtures-near.", {"near"}),
        ("tiny_mixtures-far.", {"far"}),
    ],
)
def test_the_content_of_every_data_set(identity_of, file, splits):
    def edit(folder):
        (path,) = folder.rglob(f"{file}*")
        content = bytearray(path.read_bytes())
        content[-1] ^= 1  # what no reader looks at
        path.write_bytes(bytes(content))

    before, after = identity_of(), identity_of(data=edit)
    changed = {
        name
        for name in before["zero_shot"]["predictions"]
        if before["zero_shot"]["predictions"][name] != after["zero_shot"]["predictions"][name]
    }
    assert changed == splits
    data = (before["zero_shot"]["data"], after["zero_shot"]["data"])
    assert {name for name in data[0] if data[0][name] != data[1][name]} == splits
