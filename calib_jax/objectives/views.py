"""The quantities of one training step that a term may look at."""

from __future__ import annotations

import dataclasses
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8

from calib_jax.classifiers.head import Classifier, prompt_embeddings
from calib_jax.core import rngs
from calib_jax.core.linalg import normalize
from calib_jax.core.resampling import resample
from calib_jax.core.types import Batch, Embeddings, Params
from calib_jax.models.encoder import Encoder


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tables:
    """The texts of an experiment, tokenised once and kept on the device.

    Attributes:
        captions: One row for each (class, template) pair of the training captions; rows of zeros
            may follow.
        class_tokens: The prompts of the evaluated classes.
    """

    captions: Int[Array, "rows t"]
    class_tokens: Int[Array, "c k u"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Start:
    """The model that a training started from, for the terms that hold on to it.

    Attributes:
        params: `{"encoder": ..., "classifier": ...}`.
        contexts: Unit-norm text embeddings of the prompts without their class (see
            `context_embeddings`), where a term asks.
    """

    params: Any
    contexts: Any = None


def context_embeddings(
    encoder: Encoder, encoder_params: Params, class_tokens: Int[Array, "c k t"]
) -> Float[Array, "k d"]:
    """The unit-norm mean over the classes of the unit-norm text embeddings of each prompt.

    CAR-FT's context prototypes (arXiv 2211.16175, section 3.2), as Lipsum-FT's code makes them.
    """
    embeddings = prompt_embeddings(encoder, encoder_params, class_tokens)
    return normalize(jnp.mean(embeddings, axis=0))


@dataclasses.dataclass(frozen=True)
class Views:
    """Lazily computed quantities of one step: each at most once, and only if a term asks.

    Attributes:
        encoder: The towers.
        classifier: How images get their class logits.
        params: `{"encoder": ..., "classifier": ...}` of the student.
        teacher_params: The same of the EMA teacher, or None.
        tables: Tokenised texts.
        batch: The images, labels and caption rows.
        step: The number of updates applied so far.
        start: What the training started from, where a term needs it.
        seed: Of the random numbers.
    """

    encoder: Encoder
    classifier: Classifier
    params: Params
    teacher_params: Params | None
    tables: Tables
    batch: Batch
    step: Int[Array, ""]
    start: Start | None = None
    seed: int | Int[Array, ""] = 0

    def key(self, name: str) -> Key[Array, ""]:
        """A random key of this step alone."""
        return rngs.key(self.seed, self.step, name)

    @cached_property
    def images(self) -> UInt8[Array, "b h w 3"]:
        """The pixels that the encoder sees, in 0..255."""
        if self.batch.taps is None:
            return jnp.asarray(self.batch.image)
        return resample(self.batch.image, self.batch.taps)

    @cached_property
    def labels(self) -> Int[Array, " b"]:
        """The class indices."""
        return jnp.asarray(self.batch.label)

    @cached_property
    def tokens(self) -> Int[Array, "b t"]:
        """The caption of each image."""
        if not len(self.tables.captions):
            raise ValueError("a term asks for views.tokens, but the stage has no templates")
        return self.tables.captions[self.batch.caption]

    @cached_property
    def image_features(self) -> Float[Array, "b d"]:
        """The student's image features before normalisation: the batch's own, where it has them."""
        if self.batch.features is not None:
            return jnp.asarray(self.batch.features)
        return self.encoder.encode_image(self.params["encoder"], self.images)

    @cached_property
    def student(self) -> Embeddings:
        """Unit-norm embeddings of the student."""
        params = self.params["encoder"]
        return Embeddings(
            image=normalize(self.image_features),
            text=normalize(self.encoder.encode_text(params, self.tokens)),
            logit_scale=self.encoder.logit_scale(params),
        )

    @cached_property
    def teacher(self) -> Embeddings:
        """Unit-norm embeddings of the teacher for the same batch, under stop_gradient."""
        if self.teacher_params is None:
            raise ValueError("a term asks for views.teacher, but the method has no teacher")
        params = jax.lax.stop_gradient(self.teacher_params["encoder"])
        return Embeddings(
            image=normalize(self.encoder.encode_image(params, self.images)),
            text=normalize(self.encoder.encode_text(params, self.tokens)),
            logit_scale=self.encoder.logit_scale(params),
        )

    @cached_property
    def start_params(self) -> Params:
        """`{"encoder": ..., "classifier": ...}` that the training started from, held constant."""
        if self.start is None:
            raise ValueError("a term asks for views.start_params, but does not say so in `needs`")
        return jax.lax.stop_gradient(self.start.params)

    @cached_property
    def pretrained_image_features(self) -> Float[Array, "b d"]:
        """The start model's image features before normalisation."""
        return self.encoder.encode_image(self.start_params["encoder"], self.images)

    @cached_property
    def pretrained(self) -> Embeddings:
        """Unit-norm embeddings of the start model for the same batch."""
        params = self.start_params["encoder"]
        return Embeddings(
            image=normalize(self.pretrained_image_features),
            text=normalize(self.encoder.encode_text(params, self.tokens)),
            logit_scale=self.encoder.logit_scale(params),
        )

    @cached_property
    def contexts(self) -> Float[Array, "k d"]:
        """The start model's context embeddings."""
        if self.start is None or self.start.contexts is None:
            raise ValueError("a term asks for views.contexts, but does not say so in `needs`")
        return self.start.contexts

    @cached_property
    def logits(self) -> Float[Array, "b c"]:
        """The student's class logits."""
        head = self.classifier.head(
            self.params["classifier"],
            self.encoder,
            self.params["encoder"],
            self.tables.class_tokens,
        )
        return head.logits(self.image_features)

    @cached_property
    def image_projection(self) -> Float[Array, "w d"]:
        """The student's projection of image features into the shared space."""
        return self.encoder.image_projection(self.params["encoder"])

    @cached_property
    def text_projection(self) -> Float[Array, "v d"]:
        """The student's projection of text features into the shared space."""
        return self.encoder.text_projection(self.params["encoder"])
