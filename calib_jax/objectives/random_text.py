"""Matching the start model's energies of random texts."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from calib_jax.core.errors import ConfigError
from calib_jax.core.linalg import normalize
from calib_jax.objectives.term import Term
from calib_jax.objectives.views import Views


def energy_gap(
    image: Float[Array, "b d"],
    start_image: Float[Array, "b d"],
    texts: Float[Array, "m d"],
    scale: Float[Array, ""],
) -> Float[Array, " b"]:
    """`||scale (z - z_0) texts^T||^2 / (2 m)` of each image: how far its energies have moved.

    Lipsum-FT (arXiv 2404.00860; the authors' code).

    Args:
        image: Unit-norm image embeddings of the student.
        start_image: Those of the start model.
        texts: Unit-norm text embeddings of the start model.
        scale: The start model's exponentiated logit scale.
    """
    gap = jnp.matmul(image - start_image, texts.T, precision=jax.lax.Precision.HIGHEST)
    return 0.5 * jnp.mean(jnp.square(scale * gap), axis=1)


def random_texts(
    key: Key[Array, ""],
    *,
    bos: Int[Array, ""],
    eot: Int[Array, ""],
    num_texts: int,
    num_words: int,
) -> Int[Array, "m t"]:
    """Token ids: each row BOS, `num_words` ids uniform over those below EOT but BOS, EOT.

    Of CLIP's vocabulary (BOS 49406, EOT 49407) these are ids in [0, 49406), the authors' rule.
    """
    words = jax.random.randint(key, (num_texts, num_words), 0, eot - 1, dtype=jnp.int32)
    words += words >= bos
    begin, end = (jnp.full((num_texts, 1), x, jnp.int32) for x in (bos, eot))
    return jnp.concatenate([begin, words, end], axis=1)


@dataclasses.dataclass(kw_only=True)
class RandomTextMatching(Term):
    """Lipsum-FT's term (arXiv 2404.00860): `energy_gap` on texts drawn anew at every step.

    The texts pass through the start model's text tower. BOS and EOT are those of the prompts.

    Attributes:
        num_texts: The number of texts a step.
        num_words: Random ids of each text; fewer where the tower's context is shorter.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"pretrained"})

    num_texts: int = 80
    num_words: int = 8

    def validate(self) -> None:
        """Raises a ConfigError for a number below one."""
        super().validate()
        for name in ("num_texts", "num_words"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"{name}: got {getattr(self, name)}, expected at least 1. Raise it."
                )

    def __call__(self, views: Views) -> Float[Array, " b"]:
        """The gap of each image."""
        start = views.start_params["encoder"]
        prompt = views.tables.class_tokens[0, 0]
        tokens = random_texts(
            views.key("random_text"),
            bos=prompt[0],
            eot=jnp.max(prompt),  # towers pool at the largest id
            num_texts=self.num_texts,
            num_words=min(self.num_words, views.encoder.config.text.context_length - 2),
        )
        return energy_gap(
            normalize(views.image_features),
            normalize(views.pretrained_image_features),
            normalize(views.encoder.encode_text(start, tokens)),
            views.encoder.logit_scale(start),
        )
