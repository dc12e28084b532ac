"""Cross-entropy on mixed images."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8

from calib_jax.core.errors import ConfigError
from calib_jax.objectives.cross_entropy import CrossEntropy, cross_entropy
from calib_jax.objectives.views import Views


def draw_mix(
    key: Key[Array, ""], alpha: float, size: int
) -> tuple[Float[Array, ""], Int[Array, " b"]]:
    """The share `m ~ Beta(alpha, alpha)` of each image, and a permutation: its partner."""
    share_key, partner_key = jax.random.split(key)
    share = jax.random.beta(share_key, alpha, alpha)
    return share, jax.random.permutation(partner_key, size)


def mix_images(
    images: UInt8[Array, "b h w 3"], partner: Int[Array, " b"], share: Float[Array, ""]
) -> UInt8[Array, "b h w 3"]:
    """`share x_i + (1 - share) x_partner(i)`, rounded to whole pixel values in 0..255."""
    pixels = images.astype(jnp.float32)
    return jnp.round(share * pixels + (1 - share) * pixels[partner]).astype(jnp.uint8)


@dataclasses.dataclass(kw_only=True)
class Mixup(CrossEntropy):
    """mixup (arXiv 1710.09412): the cross-entropy of mixed images, in the place of `CrossEntropy`.

    As its authors' code has it: one share `m ~ Beta(alpha, alpha)` and one permutation a batch;
    `m CE(f(x~), y) + (1 - m) CE(f(x~), y_partner)` with `x~ = m x + (1 - m) x_partner`. Deviation:
    the mixed pixels are rounded to the uint8 that encoders take.

    Attributes:
        alpha: Small: most images stay almost as they are; 1: any share is as likely. The paper
            has 0.2 for ImageNet and 1 for CIFAR-10.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"images"})

    alpha: float = 0.2

    def validate(self) -> None:
        """Raises a ConfigError for an alpha that is not a finite number above 0."""
        super().validate()
        if not 0 < self.alpha < math.inf:
            raise ConfigError(
                f"alpha: got {self.alpha}, expected a finite number > 0. "
                "Use CrossEntropy to mix nothing."
            )

    def __call__(self, views: Views) -> Float[Array, " b"]:
        """The loss of each mixed example, in nats."""
        share, partner = draw_mix(views.key("mixup"), self.alpha, views.labels.shape[0])
        batch = dataclasses.replace(
            views.batch, image=mix_images(views.images, partner, share), taps=None
        )
        logits = dataclasses.replace(views, batch=batch).logits
        own, other = (
            cross_entropy(logits, labels, label_smoothing=self.label_smoothing)
            for labels in (views.labels, views.labels[partner])
        )
        return share * own + (1 - share) * other
