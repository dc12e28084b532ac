import json

import pytest
import safetensors.numpy

from calib_jax.core.errors import WeightsError
from calib_jax.models import presets
from calib_jax.models.config import ClipConfig, TextConfig, VisionConfig
from calib_jax.models.weights import hugging_face, table
from calib_jax.models.weights.fields import Fields


def config_of(model, preprocessor=None):
    preprocessor = None if preprocessor is None else Fields(preprocessor, "PREPROCESSOR")
    return hugging_face.config_of(Fields(model, "FILE"), preprocessor)


def test_full_size_model():
    config = presets.vit_l14()
    rows = hugging_face.rows(config)
    shapes = table.shapes_of(config)
    assert len(rows) == len({row.source for row in rows}) == 590  # transformers' CLIPModel
    assert sorted(path for row in rows for path in row.ours) == sorted(shapes)
    assert not any(hugging_face.IGNORED.fullmatch(row.source) for row in rows)


def test_golden_names(golden_dir):
    folder = golden_dir / "hf_tiny_clip_gelu"
    config, eot = config_of(json.loads((folder / "config.json").read_text()))
    golden = safetensors.numpy.load_file(folder / "model.safetensors")
    assert {row.source for row in hugging_face.rows(config)} == golden.keys()
    assert hugging_face.is_own(golden)
    assert (config.activation, config.vision.mlp_ratio, config.text.num_heads, eot) == (
        *("gelu", 2.0, 2),
        99,
    )


def test_what_an_old_config_leaves_out_is_vit_b32():
    assert config_of({"model_type": "clip"}) == (
        ClipConfig(vision=VisionConfig(patch_size=32), text=TextConfig()),
        49407,
    )


def test_the_dicts_of_old_configs_override():
    model = {
        "model_type": "clip",
        "projection_dim": 768,
        "text_config": {"hidden_size": 512, "num_hidden_layers": 99},
        "text_config_dict": {"hidden_size": 768, "num_attention_heads": 12},
        "vision_config": {"patch_size": 14},
        "vision_config_dict": None,
    }
    config, _ = config_of(model)
    assert (config.embed_dim, config.text.width, config.text.num_layers) == (768, 768, 12)
    assert config.vision.patch_size == 14


def test_the_legacy_end_of_text_is_the_largest_id():
    text = {"vocab_size": 100, "eos_token_id": 2}
    assert config_of({"model_type": "clip", "text_config": text})[1] == 99


def test_the_preprocessor_gives_mean_and_deviation():
    config, _ = config_of(
        {"model_type": "clip"}, {"image_mean": [0.5, 0.5, 0.5], "image_std": [1, 0.5, 0.25]}
    )
    assert config.pixel_mean == (0.5, 0.5, 0.5)
    assert config.pixel_std == (1.0, 0.5, 0.25)
    assert config_of({"model_type": "clip"}, {})[0] == ClipConfig(
        vision=VisionConfig(patch_size=32)
    )


@pytest.mark.parametrize("model", ["vit", "odd_vit"])
def test_the_description_is_read_back(request, model):
    config, _ = request.getfixturevalue(model)
    described = hugging_face.describe(config, bos=1, eot=17, pad=0)
    assert config_of(*json.loads(json.dumps(described))) == (config, 17)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "siglip"}, "FILE: model_type: got 'siglip', expected 'clip'. Choose"),
        ({"model_type": None}, "FILE: model_type: got None, expected 'clip'"),
        ({"vision_config": {"hidden_act": "gelu"}}, "hidden_act: got 'gelu', expected 'quick_gelu"),
        ({"text_config": {"hidden_act": "relu"}}, "text_config.hidden_act: got 'relu', expected"),
        ({"text_config": {"layer_norm_eps": 1e-6}}, "layer_norm_eps: got 1e-06, expected 1e-05"),
        ({"vision_config": {"num_channels": 4}}, "vision_config.num_channels: got 4, expected 3"),
        ({"vision_config": {"image_size": [2, 3]}}, r"image_size: got \[2, 3\], expected a whole"),
        ({"text_config": {"eos_token_id": 49408}}, "eos_token_id: got 49408, expected an id below"),
        ({"projection_dim": 0}, "FILE: projection_dim: got 0, expected a whole number"),
        ({"vision_config": 3}, "FILE: vision_config: got 3, expected an object"),
    ],
)
def test_what_cannot_be_expressed_is_named(change, message):
    with pytest.raises(WeightsError, match=message):
        config_of({"model_type": "clip"} | change)


def test_there_are_no_resnets(resnet):
    with pytest.raises(WeightsError, match="vision: got a ResNet, expected a ViT.*open_clip"):
        hugging_face.rows(resnet[0])


@pytest.mark.parametrize(("name", "value"), [("do_center_crop", False), ("resample", 2)])
def test_other_views_than_ours_are_refused(name, value):
    model, preprocessor = hugging_face.describe(presets.vit_b32(), bos=0, eot=49407, pad=0)
    preprocessor[name] = value
    with pytest.raises(WeightsError, match=rf"{name}: got {value}, expected None or"):
        hugging_face.config_of(Fields(model, "config.json"), Fields(preprocessor, "p.json"))
