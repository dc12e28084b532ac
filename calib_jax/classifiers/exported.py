"""The head that an export has left beside its model."""

import dataclasses
import pathlib

from jaxtyping import Array, Int, Key

from calib_jax.classifiers.linear import LinearHead
from calib_jax.classifiers.stored import CLASSIFIER_FILE, read_head
from calib_jax.core.errors import WeightsError
from calib_jax.core.paths import expanded
from calib_jax.core.types import Params
from calib_jax.models.encoder import Encoder


@dataclasses.dataclass(kw_only=True)
class ExportedHead(LinearHead):
    """A linear head from a file, to be tested as it is.

    Attributes:
        folder: Of the exported model; its class names are to be those of the config.
    """

    folder: str

    def files(self) -> tuple[pathlib.Path, ...]:
        """What it reads: a run depends on the content."""
        return (expanded(self.folder, field="folder") / CLASSIFIER_FILE,)

    def init(
        self,
        key: Key[Array, ""],
        encoder: Encoder,
        encoder_params: Params,
        class_tokens: Int[Array, "c k t"],
    ) -> Params:
        """`kernel [d c]` and `bias [c]` of the file.

        Raises:
            WeightsError: The file is missing or damaged, or fits neither model nor classes.
        """
        (path,) = self.files()
        head, _ = read_head(path)
        expected = (encoder.config.embed_dim, len(class_tokens))
        if head.kernel.shape != expected:
            raise WeightsError(
                f"classifier: {path} maps {head.kernel.shape[0]} features to "
                f"{head.kernel.shape[1]} classes, expected {expected[0]} and {expected[1]}. Name "
                "the model that it was exported with, and its classes."
            )
        return {"kernel": head.kernel, "bias": head.bias}
