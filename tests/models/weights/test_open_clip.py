import json

import pytest

from calib_jax.core.errors import WeightsError
from calib_jax.models import presets
from calib_jax.models.weights import open_clip
from calib_jax.models.weights.fields import Fields

VISION = {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32}
TEXT = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}
MODEL = {"embed_dim": 512, "vision_cfg": VISION, "text_cfg": TEXT}


def config_of(model, **pixels):
    return open_clip.config_of(Fields({"model_cfg": model, "preprocess_cfg": pixels}, "FILE"))


def test_published_models():
    expected = presets.vit_b32()
    assert config_of(MODEL | {"quick_gelu": True}) == (expected, 49407)
    expected.activation = "gelu"
    assert config_of(MODEL) == (expected, 49407)
    resnet = {"image_size": 224, "layers": [3, 4, 6, 3], "width": 64, "patch_size": None}
    model = MODEL | {"embed_dim": 1024, "quick_gelu": True, "vision_cfg": resnet}
    assert config_of(model) == (presets.rn50(), 49407)
    giant = {"layers": 48, "width": 1664, "head_width": 104, "mlp_ratio": 4.9231, "patch_size": 14}
    vision = config_of(MODEL | {"vision_cfg": giant})[0].vision
    assert (vision.num_heads, vision.mlp_width) == (16, 8192)


def test_mean_and_deviation():
    config, _ = config_of(MODEL, mean=[0.5, 0.5, 0.5], std=[0.1, 0.2, 0.3], mode="RGB")
    assert (config.pixel_mean, config.pixel_std) == ((0.5, 0.5, 0.5), (0.1, 0.2, 0.3))


@pytest.mark.parametrize("model", ["odd_vit", "resnet"])
@pytest.mark.parametrize("eot", [19, 17])
def test_the_description_is_read_back(request, model, eot):
    config, _ = request.getfixturevalue(model)
    described = json.loads(json.dumps(open_clip.describe(config, eot=eot)))
    assert open_clip.config_of(Fields(described, "FILE")) == (config, eot)
    assert ("eos_id" in described["model_cfg"]["text_cfg"]) == (eot == 17)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("", {"custom_text": True}, "FILE: model_cfg.custom_text: got True, expected None or Fal"),
        ("", {"multimodal_cfg": {"width": 3}}, "model_cfg.multimodal_cfg: got .*no such field: th"),
        ("", {"embed_dim": None}, "model_cfg.embed_dim: got None, expected a whole number"),
        ("vision_cfg", {"timm_model_name": "vit"}, "vision_cfg.timm_model_name: got 'vit', expec"),
        ("vision_cfg", {"pool_type": "avg"}, "vision_cfg.pool_type: got 'avg', expected None or "),
        ("vision_cfg", {"no_ln_pre": True}, "vision_cfg.no_ln_pre: got True"),
        ("vision_cfg", {"ls_init_value": 0.1}, "vision_cfg.ls_init_value: got 0.1, expected None"),
        ("vision_cfg", {"head_width": 60}, "head_width: got 60, expected a divisor of 768"),
        ("vision_cfg", {"layers": [3, 4, 6]}, r"layers: got \[3, 4, 6\], expected four numbers"),
        (
            "text_cfg",
            {"hf_model_name": "bert"},
            "text_cfg.hf_model_name: got 'bert', expected None",
        ),
        ("text_cfg", {"pool_type": "last"}, "text_cfg.pool_type: got 'last', expected None or 'ar"),
        ("text_cfg", {"rope": True}, "model_cfg.text_cfg.rope: got True, expected no such field"),
    ],
)
def test_what_cannot_be_expressed_is_named(part, change, message):
    model = MODEL | ({part: MODEL[part] | change} if part else change)
    with pytest.raises(WeightsError, match=message):
        config_of(model)


@pytest.mark.parametrize(
    ("name", "value"), [("resize_mode", "squash"), ("interpolation", "bilinear")]
)
def test_other_views_than_ours_are_refused(name, value):
    config = presets.rn50()
    content = open_clip.describe(config, eot=config.text.vocab_size - 1)
    content["preprocess_cfg"][name] = value
    with pytest.raises(WeightsError, match=rf"preprocess_cfg\.{name}: got '{value}', expected"):
        open_clip.config_of(Fields(content, "open_clip_config.json"))
