"""Keeping the start model's view of what is beside the class: background, texture, style."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from calib_jax.core.linalg import normalize
from calib_jax.core.types import Embeddings
from calib_jax.objectives.contrastive import pair_logits
from calib_jax.objectives.distillation import kl_divergence
from calib_jax.objectives.term import Term
from calib_jax.objectives.views import Views

_MASKED = -1e8  # the authors' value: finite, so that a row may be masked as a whole


def spurious_divergence(
    student: Embeddings, start: Embeddings, labels: Int[Array, " b"]
) -> Float[Array, " b"]:
    """`KL(p_0 || p)` of each image, in nats, over the spurious texts of the other classes.

    StarFT (arXiv 2505.13232; the authors' code): `p = softmax(s_0 z t^T)` of the student's images
    and spurious texts, `p_0` that of the start model, with the start's scale `s_0` for both. Texts
    of the image's own class are left out; where no other is left, the divergence is zero.

    Args:
        student: Of the images and of the spurious texts, a text an image.
        start: The same of the start model.
        labels: The class of each image and of its text.
    """
    same = labels[:, None] == labels[None, :]
    logits, start_logits = (
        jnp.where(same, _MASKED, pair_logits(x))
        for x in (dataclasses.replace(student, logit_scale=start.logit_scale), start)
    )
    return kl_divergence(start_logits, logits)


@dataclasses.dataclass(kw_only=True)
class SpuriousTexts(Term):
    """StarFT's term (arXiv 2505.13232): what images share with spurious texts stays as it was.

    Deviations: the authors have a language model list attributes (backgrounds, textures) and put
    the caption of each image into a random one. Here the spurious text of an image is a random
    prompt of its class, whose template (`a sketch of a {}`) stands in for the attribute. The
    authors' weight falls to zero over the epochs (`--diminishing`); this one stays.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"pretrained", "templates"})

    weight: float = 0.5

    def __call__(self, views: Views) -> Float[Array, " b"]:
        """The divergence of each image, in nats."""
        prompts = views.tables.class_tokens
        columns = jax.random.randint(
            views.key("spurious_text"), views.labels.shape, 0, prompts.shape[1]
        )
        tokens = prompts[views.labels, columns]
        features = (views.image_features, views.pretrained_image_features)
        models = (views.params["encoder"], views.start_params["encoder"])
        student, start = (
            Embeddings(
                image=normalize(images),
                text=normalize(views.encoder.encode_text(params, tokens)),
                logit_scale=views.encoder.logit_scale(params),
            )
            for images, params in zip(features, models, strict=True)
        )
        return spurious_divergence(student, start, views.labels)
