"""Keeping the start model's awareness of the context of an image."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from calib_jax.core.errors import ConfigError
from calib_jax.core.linalg import normalize
from calib_jax.objectives.distillation import kl_divergence
from calib_jax.objectives.term import Term
from calib_jax.objectives.views import Views


def context_divergence(
    image: Float[Array, "b d"],
    start_image: Float[Array, "b d"],
    contexts: Float[Array, "k d"],
    scale: Float[Array, ""],
) -> Float[Array, " b"]:
    """`KL(p_0 || p)` of each image, in nats, over the contexts: `p = softmax(scale z contexts^T)`.

    CAR-FT (arXiv 2211.16175): `p_0` is the start model's distribution, `p` the student's. The
    direction and the shared fixed scale are from memory.

    Args:
        image: Unit-norm image embeddings of the student.
        start_image: Those of the start model.
        contexts: Unit-norm context prototypes of the start model's text tower.
        scale: The start model's exponentiated logit scale, for both distributions.
    """
    logits, start_logits = (
        scale * jnp.matmul(x, contexts.T, precision=jax.lax.Precision.HIGHEST)
        for x in (image, start_image)
    )
    return kl_divergence(start_logits, logits)


@dataclasses.dataclass(kw_only=True)
class ContextAwareness(Term):
    """CAR-FT's term (arXiv 2211.16175): images keep the contexts that the start model saw.

    A context is a caption template (`a sketch of a {}`), its prototype the mean over the
    classes (`views.contexts`).
    """

    needs: ClassVar[frozenset[str]] = frozenset({"pretrained", "contexts"})

    def __call__(self, views: Views) -> Float[Array, " b"]:
        """The divergence of each image, in nats.

        Raises:
            ConfigError: The prompts have a single template: the term would be zero for ever.
        """
        if len(views.contexts) < 2:
            raise ConfigError(
                "templates: got 1 for the prompts of the classes, expected at least 2: a context "
                "is a template, and ContextAwareness compares them. Add templates."
            )
        return context_divergence(
            normalize(views.image_features),
            normalize(views.pretrained_image_features),
            views.contexts,
            views.encoder.logit_scale(views.start_params["encoder"]),
        )
