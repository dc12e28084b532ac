import json
import pathlib
import shutil

import huggingface_hub
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from calib_jax.core.errors import ConfigError, WeightsError
from calib_jax.models.encoder import Encoder
from calib_jax.models.weights import export, hugging_face, open_clip, openai, table
from calib_jax.models.weights.load import read_model

IDS = {"bos": 1, "eot": 19, "pad": 0}


@pytest.fixture
def folder(tmp_path, odd_vit):
    """A ViT in Hugging Face's layout, whose files a test may change: without checksums."""
    export.write_model(tmp_path / "model", *odd_vit, **IDS)
    (tmp_path / "model" / "SHA256SUMS").unlink()
    return tmp_path / "model"


@pytest.fixture
def open_clip_folder(tmp_path, odd_vit):
    """The same model in open_clip's layout."""
    config, params = odd_vit
    path = tmp_path / "open_clip"
    path.mkdir()
    tensors = table.store(config, params, openai.rows(config))
    safetensors.numpy.save_file(tensors, path / "open_clip_model.safetensors")
    description = json.dumps(open_clip.describe(config, eot=19))
    (path / "open_clip_config.json").write_text(description)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "hf_tiny_clip_quick_gelu",
        "hf_tiny_clip_gelu",
        "openai_tiny_vit/model.safetensors",
        "openai_tiny_rn/model.safetensors",
    ],
)
def test_golden_models(golden_dir, name):
    path = golden_dir / name
    model = read_model(str(path))
    assert (model.eot, model.folder) == (99, path if path.is_dir() else path.parent)
    expected, encoder = np.load(model.folder / "expected.npz"), Encoder(model.config)

    @jax.jit
    def embed(params, images, tokens):
        embeddings = encoder.encode_image(params, images), encoder.encode_text(params, tokens)
        return [x / jnp.linalg.norm(x, axis=-1, keepdims=True) for x in embeddings]

    tokens = jnp.asarray(expected["tokens"], jnp.int32)
    image, text = embed(model.params, jnp.asarray(expected["images_uint8"]), tokens)
    logits = encoder.logit_scale(model.params) * image @ text.T
    np.testing.assert_allclose(image, expected["image_emb"], atol=1e-5)
    np.testing.assert_allclose(text, expected["text_emb"], atol=1e-5)
    np.testing.assert_allclose(logits, expected["logits_per_image"], rtol=1e-5, atol=1e-5)


def test_the_home_folder_of_nobody():
    with pytest.raises(ConfigError, match="pretrained: got '~nobodyx/clip.pt', expected the home"):
        read_model("~nobodyx/clip.pt")


def test_old_files_of_hugging_face(folder, odd_vit, torch, assert_same):
    config, params = odd_vit
    tensors = table.store(config, params, hugging_face.rows(config))
    positions = {"text_model.embeddings.position_ids": np.arange(8)[None]}
    path = torch.save_table(folder / "pytorch_model.bin", tensors | positions)
    (folder / "model.safetensors").unlink()
    assert_same(read_model(str(folder)).params, params)
    # The file itself is read with the config beside it.
    assert read_model(str(path)).config == config


def test_shards_in_half_precision(folder, odd_vit, assert_same):
    config, params = odd_vit
    tensors = table.store(config, params, hugging_face.rows(config))
    (folder / "model.safetensors").unlink()
    weight_map = {}
    for part, dtype in (
        *(("vision_", ml_dtypes.bfloat16), ("text_", ml_dtypes.bfloat16)),
        *(("visual_", np.float16), ("logit_", ml_dtypes.bfloat16)),
    ):
        shard = {k: x.astype(dtype) for k, x in tensors.items() if k.startswith(part)}
        safetensors.numpy.save_file(shard, folder / f"model-{part}.safetensors")
        weight_map |= dict.fromkeys(shard, f"model-{part}.safetensors")
    index = {"weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    half = jax.tree.map(lambda x: np.asarray(x).astype(ml_dtypes.bfloat16), params)
    projection = params["image"]["projection"]["kernel"]
    half["image"]["projection"]["kernel"] = np.asarray(projection).astype(np.float16)
    half = jax.tree.map(lambda x: x.astype(np.float32), half)
    assert_same(read_model(str(folder)).params, half)


def test_open_clips_layout(open_clip_folder, odd_vit, assert_same):
    config, params = odd_vit
    file = open_clip_folder / "open_clip_model.safetensors"
    for source in (open_clip_folder, file):
        model = read_model(str(source))
        assert (model.config, model.eot) == (config, 19)
        assert_same(model.params, params)


def test_a_folder_of_both_layouts(folder, open_clip_folder, odd_vit):
    shutil.copytree(folder, open_clip_folder, dirs_exist_ok=True)
    path = open_clip_folder / "open_clip_config.json"
    path.write_text(path.read_text().replace('"quick_gelu": false', '"quick_gelu": true'))
    assert read_model(str(open_clip_folder)).config.activation == "gelu"  # config.json's
    (open_clip_folder / "model.safetensors").unlink()
    assert read_model(str(open_clip_folder)).config.activation == "quick_gelu"
    # timm's config.json beside it describes no CLIP.
    (open_clip_folder / "config.json").write_text('{"architecture": "vit_base_patch32"}')
    assert read_model(str(open_clip_folder)).config.activation == "quick_gelu"


def test_a_file_alone(vit, tmp_path, torch, assert_same):
    config, params = vit
    tensors = table.store(config, params, openai.rows(config))
    sizes = {"vocab_size": np.array(20, np.int64)}
    path = torch.save_table(tmp_path / "ViT.pt", tensors | sizes)
    model = read_model(str(path))
    assert (model.config, model.eot, model.folder) == (config, 19, tmp_path)
    assert_same(model.params, params)
    assert read_model(str(path), activation="gelu").config.activation == "gelu"
    with pytest.raises(WeightsError, match=r"ViT\.pt: activation: got 'relu', expected one of"):
        read_model(str(path), activation="relu")


def test_a_file_of_hugging_face_alone(folder, odd_vit, tmp_path, torch):
    config, params = odd_vit
    tensors = table.store(config, params, hugging_face.rows(config))
    for path in (
        torch.save_table(tmp_path / "mine.pt", tensors),
        (folder / "model.safetensors").rename(tmp_path / "model.safetensors"),
    ):
        message = (
            rf"^weights: got .*{path.name}, whose tensors have Hugging Face's names, without "
            r"config\.json, expected it beside the file\. Put the model's config\.json there\.$"
        )
        with pytest.raises(WeightsError, match=message):
            read_model(str(path))


def test_another_image_size(folder, odd_vit, caplog):
    model = read_model(str(folder), image_size=24)
    assert model.config.vision.image_size == 24
    assert model.params["image"]["position_embedding"].shape == (37, 48)
    assert "interpolated to 6 x 6" in caplog.text
    with pytest.raises(
        ConfigError, match="image_size: got 23, expected a multiple of 4 .*image_size=24"
    ):
        read_model(str(folder), image_size=23)


def test_tensors_of_another_model(folder, resnet):
    config, params = resnet
    tensors = table.store(config, params, openai.rows(config))
    safetensors.numpy.save_file(tensors, folder / "model.safetensors")
    message = r"model\.safetensors: got \d+ problem\(s\): vision_model\..* is missing; .* more, exp"
    with pytest.raises(WeightsError, match=message):
        read_model(str(folder))


def test_sizes_that_the_config_does_not_say(folder, open_clip_folder):
    path = folder / "config.json"
    path.write_text(path.read_text().replace('"vocab_size": 20', '"vocab_size": 21'))
    message = r"1 problem\(s\): text_model\.\S+ has shape \(20, 64\), not \(21, 64\), expected"
    with pytest.raises(WeightsError, match=message):
        read_model(str(folder))
    path.write_text(path.read_text().replace('"image_size": 16', '"image_size": 18'))
    with pytest.raises(WeightsError, match=r"config\.json: vision\.patch_size: got 4, expected"):
        read_model(str(folder))
    path = open_clip_folder / "open_clip_config.json"
    path.write_text(path.read_text().replace('"layers": 1', '"layers": 2'))
    with pytest.raises(WeightsError, match=r"12 problem\(s\): visual\.transformer\.resblocks\.1\."):
        read_model(str(open_clip_folder))


def test_folders_that_hold_no_clip(folder, tmp_path):
    (folder / "model.safetensors").rename(tmp_path / "hugging.safetensors")
    with pytest.raises(WeightsError, match=r"without weights, expected model\.safetensors, .* or "):
        read_model(str(folder))
    with pytest.raises(WeightsError, match=r"without config\.json, expected it beside the file"):
        read_model(str(tmp_path / "hugging.safetensors"))
    (folder / "config.json").unlink()
    with pytest.raises(WeightsError, match=r"without config\.json and open_clip_config\.json, exp"):
        read_model(str(folder))
    (folder / "config.json").write_text('{"model_type": "siglip"}')
    with pytest.raises(WeightsError, match="model_type: got 'siglip', expected 'clip'"):
        read_model(str(folder))


def test_a_half_finished_download_is_told(folder):
    (folder / "model.safetensors").unlink()
    (folder / ".cache" / "huggingface" / "download").mkdir(parents=True)
    (folder / ".cache/huggingface/download/model.safetensors.ab12.incomplete").write_bytes(b"1")
    message = r"without weights, but with a half-finished download \(model\.safetensors\.ab12"
    with pytest.raises(WeightsError, match=message):
        read_model(str(folder))


def test_a_pointer_of_git_lfs_in_place_of_weights(folder):
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"
    (folder / "model.safetensors").write_text(pointer)
    with pytest.raises(WeightsError, match=r"model\.safetensors: got a pointer of Git LFS"):
        read_model(str(folder))


def test_whole_weights_come_before_shards(folder, assert_same):
    """As in transformers: an index beside them, here of files that are not there, is not read."""
    before = read_model(str(folder))
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"x": "absent"}}')
    assert_same(read_model(str(folder)).params, before.params)


def test_a_foreign_folder_is_announced_once(folder, caplog):
    read_model(str(folder))
    read_model(str(folder))
    message = f"{folder} has no SHA256SUMS: its files are taken as they are"
    assert [one for one in caplog.messages if "SHA256SUMS" in one] == [message]


def test_an_activation_that_the_config_contradicts(folder):
    assert read_model(str(folder), activation="gelu").config.activation == "gelu"
    with pytest.raises(WeightsError, match="model.pretrained: got activation 'quick_gelu', expect"):
        read_model(str(folder), activation="quick_gelu", field="model.pretrained")


def test_of_a_hub_id_one_format_is_downloaded(folder, tmp_path, monkeypatch):
    hub, asked = tmp_path / "hub", []
    hub.mkdir()

    def snapshot_download(source, *, allow_patterns):
        asked.append((source, allow_patterns))
        for pattern in allow_patterns:
            for path in folder.glob(pattern):
                shutil.copy(path, hub)
        return str(hub)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    model = read_model("org/name")
    assert model.folder == hub
    assert asked == [
        ("org/name", ["*.json", "*.txt", "SHA256SUMS"]),
        ("org/name", ["model*.safetensors"]),
    ]
    (folder / "model.safetensors").rename(folder / "unknown.safetensors")
    pathlib.Path(hub / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="without weights"):
        read_model("org/name")
    assert asked[-1] == ("org/name", ["pytorch_model*.bin"])


def test_of_another_model_of_the_hub_no_weights_are_downloaded(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"model_type": "siglip"}')
    asked = []

    def snapshot_download(source, *, allow_patterns):
        asked.extend(allow_patterns)
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(WeightsError, match="model_type: got 'siglip', expected 'clip'"):
        read_model("google/siglip")
    assert asked == ["*.json", "*.txt", "SHA256SUMS"]


def test_neither_file_nor_folder_nor_hub_id(tmp_path):
    with pytest.raises(ConfigError, match="pretrained: got '.*nowhere', expected a file or folder"):
        read_model(str(tmp_path / "nowhere"))
