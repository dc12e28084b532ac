"""The sizes of CLIP's towers (Radford et al. 2021, arXiv:2103.00020), and how they are computed.

No `from __future__ import annotations` here: it breaks typed flag overrides of the config.
"""

import math
from dataclasses import dataclass, field, fields

from calib_jax.core.errors import ConfigError, nearest
from calib_jax.models.layers import ACTIVATIONS, Kernel


@dataclass(kw_only=True)
class VisionConfig:
    """Size of a ViT image tower; sizes in pixels.

    `mlp_ratio` is the hidden width of each MLP over the width.
    """

    image_size: int = 224
    patch_size: int = 16
    width: int = 768
    num_layers: int = 12
    num_heads: int = 12
    mlp_ratio: float = 4.0

    @property
    def mlp_width(self) -> int:
        """The hidden width of each MLP."""
        return round(self.width * self.mlp_ratio)

    def validate(self) -> None:
        """Raises a ConfigError for the first field out of its range."""
        _validate_sizes("vision", self)
        _validate_divides(
            "vision.patch_size", self.patch_size, "vision.image_size", self.image_size
        )
        _validate_transformer("vision", self)


@dataclass(kw_only=True)
class ResNetConfig:
    """Size of a ModifiedResNet image tower (section 2.3 of the paper, and OpenAI's code).

    Attributes:
        image_size: Side of the square images in pixels; a multiple of 32.
        width: Channels of the first stage's bottlenecks; the features have 32 times as many.
        num_blocks: Bottlenecks of each of the four stages.
        num_heads: Of the attention pooling; OpenAI's have width / 2.
    """

    image_size: int = 224
    width: int = 64
    num_blocks: tuple[int, int, int, int] = (3, 4, 6, 3)
    num_heads: int = 32

    @property
    def num_features(self) -> int:
        """Channels of the last stage, which the attention pooling and `c_proj` take."""
        return 32 * self.width

    def validate(self) -> None:
        """Raises a ConfigError for the first field out of its range."""
        _validate_sizes("vision", self)
        if len(self.num_blocks) != 4 or min(self.num_blocks) < 1:
            raise ConfigError(
                f"vision.num_blocks: got {self.num_blocks}, expected four numbers of at least 1. "
                "RN50 has 3, 4, 6, 3."
            )
        if self.image_size % 32:
            raise ConfigError(
                f"vision.image_size: got {self.image_size}, expected a multiple of 32, by which "
                f"the stages shrink an image. Set it to {max(1, round(self.image_size / 32)) * 32}."
            )
        if self.width % 2:
            raise ConfigError(
                f"vision.width: got {self.width}, expected an even number: the stem has half as "
                "many channels. Change it by one."
            )
        _validate_divides(
            "vision.num_heads", self.num_heads, "32 x vision.width", self.num_features
        )


@dataclass(kw_only=True)
class TextConfig:
    """Size of the text tower; the largest token id of a row marks its end."""

    vocab_size: int = 49408
    context_length: int = 77
    width: int = 512
    num_layers: int = 12
    num_heads: int = 8
    mlp_ratio: float = 4.0

    @property
    def mlp_width(self) -> int:
        """The hidden width of each MLP."""
        return round(self.width * self.mlp_ratio)

    def validate(self) -> None:
        """Raises a ConfigError for the first field out of its range."""
        _validate_sizes("text", self)
        _validate_transformer("text", self)


@dataclass(kw_only=True)
class ClipConfig:
    """Both towers and what joins them.

    Attributes:
        embed_dim: Size of the shared embedding.
        vision: The image tower.
        text: The text tower.
        activation: `quick_gelu` (OpenAI's weights) or `gelu`.
        initial_logit_scale: Inverse temperature at initialisation; its log is the parameter.
        pixel_mean: Mean of red, green, blue, subtracted from pixels in [0, 1].
        pixel_std: Standard deviation of red, green, blue, pixels in [0, 1].
    """

    embed_dim: int = 512
    vision: VisionConfig | ResNetConfig = field(default_factory=VisionConfig)
    text: TextConfig = field(default_factory=TextConfig)
    activation: str = "quick_gelu"
    initial_logit_scale: float = 1 / 0.07
    pixel_mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    pixel_std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    def validate(self) -> None:
        """Passes when the towers can be built.

        Raises:
            ConfigError: The first field out of its range, with the value and the range.
        """
        if self.embed_dim < 1:
            raise ConfigError(f"embed_dim: got {self.embed_dim}, expected at least 1. Raise it.")
        self.vision.validate()
        self.text.validate()
        if self.activation not in ACTIVATIONS:
            raise ConfigError(
                f"activation: got {self.activation!r}, expected one of "
                f"{sorted(ACTIVATIONS)}.{nearest(self.activation, ACTIVATIONS)}"
            )
        if not 0 < self.initial_logit_scale < math.inf:
            raise ConfigError(
                f"initial_logit_scale: got {self.initial_logit_scale}, expected a finite number "
                "above 0. CLIP's is 1 / 0.07."
            )
        if len(self.pixel_mean) != 3 or not all(map(math.isfinite, self.pixel_mean)):
            raise ConfigError(
                f"pixel_mean: got {self.pixel_mean}, expected three finite numbers. "
                "Give red, green, blue in [0, 1]."
            )
        if len(self.pixel_std) != 3 or not all(0 < s < math.inf for s in self.pixel_std):
            raise ConfigError(
                f"pixel_std: got {self.pixel_std}, expected three finite numbers above 0. "
                "Give red, green, blue."
            )


def _validate_sizes(name: str, tower: VisionConfig | ResNetConfig | TextConfig) -> None:
    for f in fields(tower):
        size = getattr(tower, f.name)
        if isinstance(size, int) and size < 1:
            raise ConfigError(f"{name}.{f.name}: got {size}, expected at least 1. Raise it.")


def _validate_transformer(name: str, tower: VisionConfig | TextConfig) -> None:
    _validate_divides(f"{name}.num_heads", tower.num_heads, f"{name}.width", tower.width)
    if not 1 <= tower.width * tower.mlp_ratio < math.inf:
        raise ConfigError(
            f"{name}.mlp_ratio: got {tower.mlp_ratio}, expected a finite number, at least "
            f"1 / {name}.width. CLIP's is 4."
        )


def _validate_divides(name: str, divisor: int, of: str, size: int) -> None:
    if size % divisor:
        raise ConfigError(
            f"{name}: got {divisor}, expected a divisor of {of} = {size}. Change one of them."
        )


CHOICES = {
    "dtype": ("auto", "float32", "bfloat16"),
    "attention": ("auto", "xla", "cudnn"),
    "remat": ("none", "dots", "full"),
}


@dataclass(kw_only=True)
class Compute:
    """How the towers are computed; what they are stays the same.

    A platform is `cuda` (an NVIDIA GPU with bfloat16 and fused attention: Ampere or later), or
    JAX's name of another: `cpu`, `tpu`, `gpu`.

    Attributes:
        dtype: Of activations and matmuls: `float32`, `bfloat16`, or `auto` (bfloat16 on cuda and
            tpu, float32 elsewhere, where bfloat16 is slower). Parameters, norms, softmax,
            embeddings and logits are float32 always.
        attention: `xla`, `cudnn`, or `auto` (cuDNN's fused kernel on cuda in bfloat16).
        scan: One compiled block, scanned over the layers, instead of one for each layer; a
            ResNet's blocks differ, so its image tower has them unrolled always.
        remat: What the backward pass computes again: `none`, `dots` (all but the matmuls with
            weights and the convolutions; attention weights too), `full` (each block from its
            input).
    """

    dtype: str = "auto"
    attention: str = "auto"
    scan: bool = False
    remat: str = "none"

    def validate(self, field: str) -> None:
        """Passes when every choice is known and they go together.

        Args:
            field: The place of this in the config, for the messages.

        Raises:
            ConfigError: The first field that is wrong.
        """
        for name, known in CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise ConfigError(
                    f"{field}.{name}: got {value!r}, expected one of {', '.join(known)}."
                    f"{nearest(value, known) or ' Choose one of them.'}"
                )
        if self.attention == "cudnn" and self.dtype == "float32":
            raise ConfigError(
                f"{field}.attention: got 'cudnn' in float32, expected bfloat16, which its kernel "
                f"takes. Set {field}.dtype=bfloat16 or {field}.attention=auto."
            )

    def resolve_dtype(self, platform: str) -> str:
        """Returns `float32` or `bfloat16`."""
        if self.dtype != "auto":
            return self.dtype
        return "bfloat16" if platform in ("cuda", "tpu") else "float32"

    def resolve_attention(self, platform: str, *, head_size: int) -> Kernel:
        """Returns `xla` or `cudnn`, which takes heads of up to 128 in multiples of 8.

        Raises:
            ConfigError: cuDNN is asked for where it cannot run.
        """
        dtype = self.resolve_dtype(platform)
        fits = {
            f"on the platform {platform}": platform == "cuda",
            f"in {dtype}": dtype == "bfloat16",
            f"with heads of size {head_size}": head_size <= 128 and head_size % 8 == 0,
        }
        if self.attention == "cudnn" and not all(fits.values()):
            reason = next(reason for reason, fit in fits.items() if not fit)
            raise ConfigError(
                f"attention: got 'cudnn' {reason}, expected an NVIDIA GPU (Ampere or later), "
                "bfloat16 and heads of up to 128 in multiples of 8. Set attention=auto."
            )
        return "cudnn" if self.attention != "xla" and all(fits.values()) else "xla"
