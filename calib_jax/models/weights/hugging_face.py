"""The Hugging Face layout of CLIP: the table of its tensors, and `config.json`.

Source: `transformers.models.clip` (`CLIPModel`, `CLIPConfig`), whose defaults stand in for what
an old `config.json` leaves out.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any

from calib_jax.core.errors import WeightsError
from calib_jax.models.config import ClipConfig, TextConfig, VisionConfig
from calib_jax.models.weights import preprocessing
from calib_jax.models.weights.fields import Fields
from calib_jax.models.weights.table import CONV, LINEAR, TensorRow, Tensors, linear, nested, norm

IGNORED = re.compile(r".*\.position_ids")  # 0, 1, 2, ... in files of transformers before 4.31

_VISION, _TEXT = "vision_model", "text_model"
_BLOCK = (
    *norm("layer_norm1", "norm_1"),
    *linear("self_attn.q_proj", "attention/query"),
    *linear("self_attn.k_proj", "attention/key"),
    *linear("self_attn.v_proj", "attention/value"),
    *linear("self_attn.out_proj", "attention/out"),
    *norm("layer_norm2", "norm_2"),
    *linear("mlp.fc1", "mlp/up"),
    *linear("mlp.fc2", "mlp/down"),
)
_TOP = (
    TensorRow(f"{_VISION}.embeddings.class_embedding", ("image/class_embedding",)),
    TensorRow(f"{_VISION}.embeddings.patch_embedding.weight", ("image/patch/kernel",), CONV),
    TensorRow(f"{_VISION}.embeddings.position_embedding.weight", ("image/position_embedding",)),
    *norm(f"{_VISION}.pre_layrnorm", "image/norm_pre"),  # their spelling
    *norm(f"{_VISION}.post_layernorm", "image/norm_post"),
    TensorRow("visual_projection.weight", ("image/projection/kernel",), LINEAR),
    TensorRow(f"{_TEXT}.embeddings.token_embedding.weight", ("text/token_embedding",)),
    TensorRow(f"{_TEXT}.embeddings.position_embedding.weight", ("text/position_embedding",)),
    *norm(f"{_TEXT}.final_layer_norm", "text/norm_final"),
    TensorRow("text_projection.weight", ("text/projection/kernel",), LINEAR),
    TensorRow("logit_scale", ("logit_scale",)),
)
_SHARED = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
_VISION_DEFAULTS = _SHARED | {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
}
_TEXT_DEFAULTS = _SHARED | {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
}
_LEGACY_EOS = 2  # in configs of transformers before 4.31: stands for the largest id


def is_own(tensors: Tensors) -> bool:
    """Whether the tensors are in Hugging Face's naming."""
    return any(name.startswith((f"{_VISION}.", f"{_TEXT}.")) for name in tensors)


def rows(config: ClipConfig) -> list[TensorRow]:
    """The table of a model of this depth; its image tower is a ViT."""
    vision = config.vision
    if not isinstance(vision, VisionConfig):
        raise WeightsError(
            "vision: got a ResNet, expected a ViT: Hugging Face's CLIP has no ResNets. "
            "Use the open_clip layout."
        )
    blocks = [(_VISION, "image", i) for i in range(vision.num_layers)]
    blocks += [(_TEXT, "text", i) for i in range(config.text.num_layers)]
    table = list(_TOP)
    for source, ours, i in blocks:
        table += nested(_BLOCK, f"{source}.encoder.layers.{i}", f"{ours}/block_{i}")
    return table


def config_of(model: Fields, preprocessor: Fields | None) -> tuple[ClipConfig, int]:
    """Returns the config and the id of the token that ends a text.

    The model's logit scale is among its weights, so `logit_scale_init_value` is not read.

    Args:
        model: The content of `config.json`.
        preprocessor: What is said of the image processor; None gives CLIP's own mean and std.

    Raises:
        WeightsError: Another kind of model, or a field that this library cannot express.
    """
    model.one_of("model_type", ["clip"])
    model = dataclasses.replace(model, defaults={"projection_dim": 512})
    vision = _tower_fields(model, "vision_config", _VISION_DEFAULTS)
    text = _tower_fields(model, "text_config", _TEXT_DEFAULTS)
    vision.one_of("num_channels", [3])
    activation = text.one_of("hidden_act", ["quick_gelu", "gelu"])
    vision.one_of("hidden_act", [activation])
    for fields in (vision, text):
        fields.one_of("layer_norm_eps", [1e-5])
    vocab_size = text.integer("vocab_size")
    eot = text.integer("eos_token_id")
    eot = vocab_size - 1 if eot == _LEGACY_EOS else eot
    if eot >= vocab_size:
        raise text.error("eos_token_id", f"an id below vocab_size = {vocab_size}")
    config = ClipConfig(
        embed_dim=model.integer("projection_dim"),
        vision=VisionConfig(
            image_size=vision.integer("image_size"),
            patch_size=vision.integer("patch_size"),
            width=vision.integer("hidden_size"),
            num_layers=vision.integer("num_hidden_layers"),
            num_heads=vision.integer("num_attention_heads"),
            mlp_ratio=vision.integer("intermediate_size") / vision.integer("hidden_size"),
        ),
        text=TextConfig(
            vocab_size=vocab_size,
            context_length=text.integer("max_position_embeddings"),
            width=text.integer("hidden_size"),
            num_layers=text.integer("num_hidden_layers"),
            num_heads=text.integer("num_attention_heads"),
            mlp_ratio=text.integer("intermediate_size") / text.integer("hidden_size"),
        ),
        activation=activation,
    )
    if preprocessor is not None:
        preprocessing.take_hugging_face(preprocessor, config)
    return config, eot


def describe(
    config: ClipConfig, *, bos: int, eot: int, pad: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the contents of `config.json` and of `preprocessor_config.json`.

    Args:
        config: A model whose image tower is a ViT.
        bos: The id of the token that begins a text.
        eot: The id of the token that ends a text.
        pad: The id of the token that follows the end.
    """
    vision, text = config.vision, config.text
    assert isinstance(vision, VisionConfig), "rows() refuses the others"
    shared = {"hidden_act": config.activation, "layer_norm_eps": 1e-5}
    model = {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "dtype": "float32",
        "projection_dim": config.embed_dim,
        "logit_scale_init_value": math.log(config.initial_logit_scale),
        "vision_config": {
            "model_type": "clip_vision_model",
            **shared,
            **_sizes(vision),
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "num_channels": 3,
            "projection_dim": config.embed_dim,
        },
        "text_config": {
            "model_type": "clip_text_model",
            **shared,
            **_sizes(text),
            "vocab_size": text.vocab_size,
            "max_position_embeddings": text.context_length,
            "bos_token_id": bos,
            "eos_token_id": eot,
            "pad_token_id": pad,
            "projection_dim": config.embed_dim,
        },
    }
    size = vision.image_size
    preprocessor = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": 3,  # bicubic
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(config.pixel_mean),
        "image_std": list(config.pixel_std),
    }
    return model, preprocessor


def _tower_fields(model: Fields, part: str, defaults: Mapping[str, Any]) -> Fields:
    """A tower's fields; `*_config_dict`, where an old file has it, replaces them all."""
    old = f"{part}_dict"
    return model.inner(part if model.get(old) is None else old, defaults)


def _sizes(tower: VisionConfig | TextConfig) -> dict[str, int]:
    return {
        "hidden_size": tower.width,
        "intermediate_size": tower.mlp_width,
        "num_hidden_layers": tower.num_layers,
        "num_attention_heads": tower.num_heads,
    }
