"""The open_clip layout: `open_clip_config.json` beside weights in OpenAI's naming.

Source: open_clip's `model.py` (`CLIPVisionCfg`, `CLIPTextCfg`) and `factory.py`, whose defaults
stand in for what the file leaves out.
"""

from __future__ import annotations

from typing import Any

from calib_jax.models.config import ClipConfig, ResNetConfig, TextConfig, VisionConfig
from calib_jax.models.weights import preprocessing
from calib_jax.models.weights.fields import Fields

_MODEL = ("embed_dim", "quick_gelu", "vision_cfg", "text_cfg")
_VISION_DEFAULTS = {
    "image_size": 224,
    "layers": 12,
    "width": 768,
    "head_width": 64,
    "mlp_ratio": 4.0,
    "patch_size": 16,
}
_TEXT_DEFAULTS = {
    "context_length": 77,
    "vocab_size": 49408,
    "width": 512,
    "heads": 8,
    "layers": 12,
    "mlp_ratio": 4.0,
}
# What changes the model where it is set; what we compute is each field's first value.
_MODEL_FIXED: dict[str, list[Any]] = {"custom_text": [None, False], "init_logit_bias": [None]}
_TOWER_FIXED: dict[str, list[Any]] = {
    "ls_init_value": [None],
    "final_ln_after_pool": [None, False],
    "norm_kwargs": [None, {}],
    "act_kwargs": [None, {}],
    "block_type": [None, "default"],
    "qk_norm": [None, False],
    "scaled_cosine_attn": [None, False],
    "scale_heads": [None, False],
    "scale_attn_inner": [None, False],
    "scale_attn": [None, False],
    "scale_fc": [None, False],
}
_VISION_FIXED = _TOWER_FIXED | {
    "timm_model_name": [None],
    "attentional_pool": [None, False, ""],
    "no_ln_pre": [None, False],
    "pos_embed_type": [None, "learnable"],
    "pool_type": [None, "tok"],
    "input_patchnorm": [None, False],
    "global_average_pool": [None, False],
}
_TEXT_FIXED = _TOWER_FIXED | {
    "hf_model_name": [None],
    "embed_cls": [None, False],
    "no_causal_mask": [None, False],
    "pool_type": [None, "argmax"],
    "proj_bias": [None, False],
    "proj_type": [None, "linear"],
}
# What only training, tokenization or the form of the output depends on.
_NEUTRAL = (
    "init_logit_scale",
    "nonscalar_logit_scale",
    "output_dict",
    "cast_dtype",
    "patch_dropout",
    "output_tokens",
    "attn_pooler_queries",
    "attn_pooler_heads",
    "attn_pooler_dim",
    "timm_model_pretrained",
    "timm_pool",
    "timm_proj",
    "timm_proj_bias",
    "timm_drop",
    "timm_drop_path",
    "hf_tokenizer_name",
    "hf_model_pretrained",
    "hf_proj_type",
    "hf_pooler_type",
    "tokenizer_mode",
    "tokenizer_kwargs",
    "pad_id",
    "eos_id",
)
_UNSET_EOS = 2  # open_clip's default; its towers pool at the largest id


def config_of(file: Fields) -> tuple[ClipConfig, int]:
    """Returns the config of `open_clip_config.json`, and the id of the token that ends a text.

    Raises:
        WeightsError: A field that this library cannot express, by name.
    """
    model = file.inner("model_cfg")
    vision = model.inner("vision_cfg", _VISION_DEFAULTS)
    text = model.inner("text_cfg", _TEXT_DEFAULTS)
    for fields, fixed, read in (
        (model, _MODEL_FIXED, _MODEL),
        (vision, _VISION_FIXED, _VISION_DEFAULTS),
        (text, _TEXT_FIXED, _TEXT_DEFAULTS),
    ):
        for name, allowed in fixed.items():
            fields.one_of(name, allowed)
        fields.refuse_unknown([*read, *fixed, *_NEUTRAL])
    quick_gelu = model.one_of("quick_gelu", [None, False, True])
    config = ClipConfig(
        embed_dim=model.integer("embed_dim"),
        vision=_resnet(vision) if isinstance(vision.get("layers"), list) else _vit(vision),
        text=TextConfig(
            vocab_size=text.integer("vocab_size"),
            context_length=text.integer("context_length"),
            width=text.integer("width"),
            num_layers=text.integer("layers"),
            num_heads=text.integer("heads"),
            mlp_ratio=_mlp_ratio(text),
        ),
        activation="quick_gelu" if quick_gelu else "gelu",
    )
    preprocessing.take_open_clip(file.inner("preprocess_cfg"), config)
    is_unset = text.get("eos_id") in (None, _UNSET_EOS)
    return config, config.text.vocab_size - 1 if is_unset else text.integer("eos_id")


def describe(config: ClipConfig, *, eot: int) -> dict[str, Any]:
    """Returns the content of `open_clip_config.json`.

    Args:
        config: The model.
        eot: The id of the token that ends a text; said only where it is not the largest, because
            old versions of open_clip do not know the field.
    """
    vision, text = config.vision, config.text
    image: dict[str, Any] = {"image_size": vision.image_size, "width": vision.width}
    if isinstance(vision, ResNetConfig):
        head_width = vision.num_features // vision.num_heads
        image |= {"layers": list(vision.num_blocks), "head_width": head_width, "patch_size": None}
    else:
        image |= {
            "layers": vision.num_layers,
            "head_width": vision.width // vision.num_heads,
            "patch_size": vision.patch_size,
            "mlp_ratio": vision.mlp_ratio,
        }
    return {
        "model_cfg": {
            "embed_dim": config.embed_dim,
            "quick_gelu": config.activation == "quick_gelu",
            "vision_cfg": image,
            "text_cfg": {
                "context_length": text.context_length,
                "vocab_size": text.vocab_size,
                "width": text.width,
                "heads": text.num_heads,
                "layers": text.num_layers,
                "mlp_ratio": text.mlp_ratio,
                **({} if eot == text.vocab_size - 1 else {"eos_id": eot}),
            },
        },
        "preprocess_cfg": {
            "mean": list(config.pixel_mean),
            "std": list(config.pixel_std),
            "interpolation": "bicubic",
            "resize_mode": "shortest",
        },
    }


def _vit(vision: Fields) -> VisionConfig:
    return VisionConfig(
        image_size=vision.integer("image_size"),
        patch_size=vision.integer("patch_size"),
        width=vision.integer("width"),
        num_layers=vision.integer("layers"),
        num_heads=_divided(vision, vision.integer("width")),
        mlp_ratio=_mlp_ratio(vision),
    )


def _resnet(vision: Fields) -> ResNetConfig:
    layers = vision.get("layers")
    if len(layers) != 4 or any(type(n) is not int or n < 1 for n in layers):
        raise vision.error("layers", "four numbers of blocks")
    one, two, three, four = layers
    width = vision.integer("width")
    return ResNetConfig(
        image_size=vision.integer("image_size"),
        width=width,
        num_blocks=(one, two, three, four),
        num_heads=_divided(vision, 32 * width),
    )


def _divided(vision: Fields, features: int) -> int:
    """The heads among which the features are divided."""
    head_width = vision.integer("head_width")
    if features % head_width:
        raise vision.error("head_width", f"a divisor of {features}")
    return features // head_width


def _mlp_ratio(fields: Fields) -> float:
    """Of the hidden width, which open_clip rounds down."""
    width = fields.integer("width")
    return int(width * fields.number("mlp_ratio") + 1e-6) / width
