"""Distance-aware calibration of fine-tuned CLIP on classes that it was not fine-tuned on."""

import dataclasses

import numpy as np
import scipy.spatial
from jaxtyping import Float

from calib_jax.calibrators import checks
from calib_jax.core import inputs, numerics
from calib_jax.core.errors import DataError


@dataclasses.dataclass(frozen=True, kw_only=True)
class DistanceAwareScale:
    """Logits times the factor of the predicted class; predictions stay.

    Attributes:
        factor: Of each class, above 0: below 1 where fine-tuning has moved its text away from
            those of the base classes.
    """

    factor: Float[np.ndarray, " c"]

    def logits(self, logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """The logits `factor_{argmax l} l` in float64.

        For a temperature fitted on the base classes as well, divide by it before or after.
        """
        checks.check_fitted(logits, len(self.factor))
        return logits.astype(np.float64) * self.factor[logits.argmax(axis=1), None]

    def probs(self, logits: Float[np.ndarray, "n c"]) -> Float[np.ndarray, "n c"]:
        """Their softmax."""
        return numerics.softmax(self.logits(logits))


@dataclasses.dataclass(kw_only=True)
class DistanceAwareCalibration:
    """DAC of Wang et al. 2024, "Open-Vocabulary Calibration for Fine-tuned CLIP" (2402.04655).

    Attributes:
        num_neighbors: K, of the base classes next to a class.
        base_distance: A class with a base class closer than this, after fine-tuning, counts as
            one and keeps the factor 1.
    """

    num_neighbors: int = 5
    base_distance: float = 0.05

    def validate(self) -> None:
        """Raises a ConfigError for no neighbours, or a distance below 0 or infinite."""
        checks.check_count(self.num_neighbors, name="num_neighbors")
        checks.check_not_negative(self.base_distance, name="base_distance")

    def of_texts(
        self,
        *,
        zero_shot: Float[np.ndarray, "c d"],
        zero_shot_base: Float[np.ndarray, "k d"],
        tuned: Float[np.ndarray, "c e"],
        tuned_base: Float[np.ndarray, "k e"],
    ) -> DistanceAwareScale:
        """`exp(-D_tuned) / exp(-D_zero_shot)`, D a class's mean distance to its K base classes.

        As in the authors' code; no images and no labels are needed. The K nearest are found in
        each model by itself.

        Args:
            zero_shot: Unit-norm class text embeddings of the pre-trained model.
            zero_shot_base: The same of the classes that the model was fine-tuned on.
            tuned: As `zero_shot`, of the fine-tuned model.
            tuned_base: As `zero_shot_base`, of the fine-tuned model.

        Raises:
            ConfigError: No neighbours, or a negative distance.
            DataError: Embeddings that are empty or not finite, or fewer base classes than
                neighbours.
        """
        self.validate()
        if len(tuned_base) < self.num_neighbors:
            raise DataError(
                f"tuned_base: got {len(tuned_base)} classes, expected at least "
                f"num_neighbors={self.num_neighbors}. Ask for fewer neighbours."
            )
        before, _ = self._distances(zero_shot, zero_shot_base, "zero_shot")
        after, nearest = self._distances(tuned, tuned_base, "tuned")
        factor = np.exp(before - after)
        return DistanceAwareScale(factor=np.where(nearest < self.base_distance, 1.0, factor))

    def _distances(
        self, classes: np.ndarray, base: np.ndarray, name: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean distance to the K nearest base classes, and the distance to the nearest."""
        inputs.check_unlabelled(classes, name=name)
        inputs.check_unlabelled(base, name=f"{name}_base")
        distances = np.sort(scipy.spatial.distance.cdist(classes, base), axis=1)
        return distances[:, : self.num_neighbors].mean(axis=1), distances[:, 0]
