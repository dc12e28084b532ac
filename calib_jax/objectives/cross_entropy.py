"""Cross-entropy of the class logits."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from calib_jax.objectives.term import Term
from calib_jax.objectives.views import Views


def cross_entropy(logits: Float[Array, "b c"], labels: Int[Array, " b"]) -> Float[Array, " b"]:
    """`-log softmax(logits)_label` of each example, in nats."""
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
    return -jnp.take_along_axis(log_probs, labels[:, None], axis=-1)[:, 0]


@dataclasses.dataclass(kw_only=True)
class CrossEntropy(Term):
    """Cross-entropy between the classifier's softmax and the label."""

    def __call__(self, views: Views) -> Float[Array, " b"]:
        """The loss of each example, in nats."""
        return cross_entropy(views.logits, views.labels)
