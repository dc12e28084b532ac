"""Geometries of OpenAI's models and of open_clip's ViT-H, and a tiny one for experiments."""

from __future__ import annotations

from calib_jax.models.config import ClipConfig, ResNetConfig, TextConfig, VisionConfig


def vit_b32() -> ClipConfig:
    """Returns ViT-B/32 at 224 px: 151,277,313 parameters."""
    return ClipConfig(vision=VisionConfig(patch_size=32))


def vit_b16() -> ClipConfig:
    """Returns ViT-B/16 at 224 px: 149,620,737 parameters."""
    return ClipConfig(vision=VisionConfig(patch_size=16))


def vit_l14() -> ClipConfig:
    """Returns ViT-L/14 at 224 px: 427,616,513 parameters."""
    return ClipConfig(
        embed_dim=768,
        vision=VisionConfig(patch_size=14, width=1024, num_layers=24, num_heads=16),
        text=TextConfig(width=768, num_heads=12),
    )


def vit_l14_336() -> ClipConfig:
    """Returns ViT-L/14 at 336 px: 427,944,193 parameters."""
    config = vit_l14()
    config.vision.image_size = 336
    return config


def vit_h14() -> ClipConfig:
    """Returns open_clip's ViT-H/14 at 224 px: 986,109,441 parameters, heads of 80 in the image."""
    return ClipConfig(
        embed_dim=1024,
        vision=VisionConfig(patch_size=14, width=1280, num_layers=32, num_heads=16),
        text=TextConfig(width=1024, num_layers=24, num_heads=16),
        activation="gelu",
    )


def rn50() -> ClipConfig:
    """Returns RN50 at 224 px: 102,007,137 parameters, besides the statistics of batch norms."""
    return ClipConfig(embed_dim=1024, vision=ResNetConfig())


def rn101() -> ClipConfig:
    """Returns RN101 at 224 px: 119,688,033 parameters, besides the statistics of batch norms."""
    return ClipConfig(embed_dim=512, vision=ResNetConfig(num_blocks=(3, 4, 23, 3)))


def tiny(
    *,
    vocab_size: int,
    context_length: int,
    image_size: int = 32,
    patch_size: int = 8,
    width: int = 128,
    num_layers: int = 3,
    text_width: int = 64,
    text_layers: int = 2,
    embed_dim: int = 64,
) -> ClipConfig:
    """Returns a model for small images on a CPU; heads of size 64, as OpenAI's naming implies."""
    return ClipConfig(
        embed_dim=embed_dim,
        vision=VisionConfig(
            image_size=image_size,
            patch_size=patch_size,
            width=width,
            num_layers=num_layers,
            num_heads=max(width // 64, 1),
        ),
        text=TextConfig(
            vocab_size=vocab_size,
            context_length=context_length,
            width=text_width,
            num_layers=text_layers,
            num_heads=max(text_width // 64, 1),
        ),
    )
