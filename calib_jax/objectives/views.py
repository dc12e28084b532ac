"""The quantities of one training step that a term may look at."""

from __future__ import annotations

import dataclasses
from functools import cached_property

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt8

from calib_jax.classifiers.head import Classifier
from calib_jax.core.linalg import normalize
from calib_jax.core.resampling import resample
from calib_jax.core.types import Batch, Embeddings, Params
from calib_jax.models.encoder import Encoder


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Tables:
    """The texts of an experiment, tokenised once and kept on the device.

    Attributes:
        captions: One row for each (class, template) pair of the training captions.
        class_tokens: The prompts of the evaluated classes.
    """

    captions: Int[Array, "rows t"]
    class_tokens: Int[Array, "c k u"]


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
    """

    encoder: Encoder
    classifier: Classifier
    params: Params
    teacher_params: Params | None
    tables: Tables
    batch: Batch
    step: Int[Array, ""]

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
        return self.tables.captions[self.batch.caption]

    @cached_property
    def image_features(self) -> Float[Array, "b d"]:
        """The student's image features before normalisation."""
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
