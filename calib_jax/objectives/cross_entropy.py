"""Cross-entropy of the class logits."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from calib_jax.core.errors import ConfigError
from calib_jax.objectives.term import Term
from calib_jax.objectives.views import Views


def cross_entropy(
    logits: Float[Array, "b c"], labels: Int[Array, " b"], *, label_smoothing: float = 0.0
) -> Float[Array, " b"]:
    """`-(1 - e) log p_label - e mean_k log p_k` of each example, in nats, `p = softmax(logits)`.

    The label has the share `1 - e + e / c` of the target and every other class `e / c`, with the
    label smoothing `e` (Szegedy et al., arXiv 1512.00567, section 7). In float32 or wider.
    """
    wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    log_probs = jax.nn.log_softmax(wide, axis=-1)
    loss = -jnp.take_along_axis(log_probs, labels[:, None], axis=-1)[:, 0]
    if not label_smoothing:
        return loss
    return (1 - label_smoothing) * loss - label_smoothing * jnp.mean(log_probs, axis=-1)


def check_label_smoothing(label_smoothing: float) -> None:
    """Raises a ConfigError for a label smoothing outside [0, 1)."""
    if not 0 <= label_smoothing < 1:
        raise ConfigError(
            f"label_smoothing: got {label_smoothing}, expected a number in [0, 1). Correct it."
        )


@dataclasses.dataclass(kw_only=True)
class CrossEntropy(Term):
    """Cross-entropy between the classifier's softmax and the label.

    Attributes:
        label_smoothing: The share of the target that is spread evenly over all classes.
    """

    label_smoothing: float = 0.0

    def validate(self) -> None:
        """Raises a ConfigError for a label smoothing outside [0, 1)."""
        super().validate()
        check_label_smoothing(self.label_smoothing)

    def __call__(self, views: Views) -> Float[Array, " b"]:
        """The loss of each example, in nats."""
        return cross_entropy(views.logits, views.labels, label_smoothing=self.label_smoothing)
