import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors
import safetensors.numpy

from calib_jax.core.errors import WeightsError
from calib_jax.models.weights import export
from calib_jax.models.weights.load import read_model

IDS = {"bos": 1, "eot": 19, "pad": 0}


@pytest.mark.parametrize("model", ["vit", "odd_vit", "resnet"])
def test_what_is_read_back_is_the_same_bit_for_bit(request, tmp_path, assert_same, model):
    config, params = request.getfixturevalue(model)
    folder = tmp_path / "new" / "folder"
    export.write_model(folder, config, params, **IDS)
    again = read_model(str(folder))
    assert again.config == config
    assert (again.eot, again.folder) == (19, folder)
    assert_same(again.params, params)


def test_the_files_of_a_vit_are_hugging_faces(golden_dir, tmp_path):
    folder = golden_dir / "hf_tiny_clip_quick_gelu"
    source = read_model(str(folder))
    (tmp_path / "tokenizer.json").write_text("{}")
    export.write_model(tmp_path, source.config, source.params, bos=98, eot=99, pad=99)
    names = {"config.json", "model.safetensors", "preprocessor_config.json", "tokenizer.json"}
    assert {path.name for path in tmp_path.iterdir()} == names | {"SHA256SUMS"}
    listed = (tmp_path / "SHA256SUMS").read_text().splitlines()
    assert {line.split("  ")[1] for line in listed} == names - {"tokenizer.json"}
    golden, ours = (
        safetensors.numpy.load_file(path / "model.safetensors") for path in (folder, tmp_path)
    )
    assert ours.keys() == golden.keys()
    jax.tree.map(np.testing.assert_array_equal, ours, golden)
    with safetensors.safe_open(tmp_path / "model.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}
    original = json.loads((folder / "config.json").read_text())
    written = json.loads((tmp_path / "config.json").read_text())
    for part in ("text_config", "vision_config"):
        # CLIPModel takes the projection's size from the top.
        same = written[part].keys() & original[part].keys() - {"projection_dim"}
        assert {k: written[part][k] for k in same} == {k: original[part][k] for k in same}
        unset = {"attention_dropout", "initializer_factor", "initializer_range"}
        assert original[part].keys() - written[part].keys() == unset
    assert written["projection_dim"] == original["projection_dim"]
    assert (written["architectures"], written["model_type"]) == (["CLIPModel"], "clip")


def test_transformers_reads_the_config(odd_vit, tmp_path):
    pytest.importorskip("transformers")
    from transformers import CLIPConfig

    export.write_model(tmp_path, *odd_vit, **IDS)
    config = CLIPConfig.from_pretrained(tmp_path)
    assert (config.projection_dim, config.vision_config.intermediate_size) == (32, 96)
    assert (config.text_config.hidden_act, config.text_config.eos_token_id) == ("gelu", 19)
    preprocessor = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert preprocessor == {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": 16},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": 16, "width": 16},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.4, 0.3],
        "image_std": [0.1, 0.2, 0.3],
    }


def test_the_files_of_a_resnet_are_open_clips(golden_dir, tmp_path):
    path = golden_dir / "openai_tiny_rn" / "model.safetensors"
    source = read_model(str(path))
    export.write_model(tmp_path, source.config, source.params, bos=98, eot=99, pad=0)
    assert {file.name for file in tmp_path.iterdir()} == {
        "open_clip_config.json",
        "open_clip_model.safetensors",
        "SHA256SUMS",
    }
    golden = safetensors.numpy.load_file(path)
    ours = safetensors.numpy.load_file(tmp_path / "open_clip_model.safetensors")
    assert {k: (x.shape, x.dtype) for k, x in ours.items()} == {
        k: (x.shape, x.dtype) for k, x in golden.items()
    }
    for name in golden:
        if not name.endswith("num_batches_tracked"):
            np.testing.assert_array_equal(ours[name], golden[name])


def test_a_failed_export_leaves_what_was_there(vit, tmp_path, monkeypatch):
    config, params = vit
    export.write_model(tmp_path, config, params, **IDS)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def save_file(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(safetensors.numpy, "save_file", save_file)
    with pytest.raises(OSError, match="no space left"):
        export.write_model(tmp_path, config, params, **IDS)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_params_of_another_config_are_not_exported(vit, tmp_path):
    config, params = vit
    with pytest.raises(WeightsError, match=r"params: got 1 problem\(s\): logit_scale has shape"):
        export.write_model(tmp_path / "x", config, {**params, "logit_scale": jnp.zeros(2)}, **IDS)
    assert not (tmp_path / "x").exists()
