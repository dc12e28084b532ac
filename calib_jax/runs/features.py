"""What models make of the images of an experiment: predictions, features, probes."""

from __future__ import annotations

import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float, Int

from calib_jax.core.linalg import normalize
from calib_jax.core.types import Params, Predictions
from calib_jax.data.features import feature_batches
from calib_jax.evaluation.diagnostics import spectrum
from calib_jax.evaluation.labelled import Labelled
from calib_jax.evaluation.posthoc import VALIDATION
from calib_jax.evaluation.predict import Predictor
from calib_jax.methods.method import Method
from calib_jax.runs.experiment import FINETUNE, Experiment
from calib_jax.runs.splits import Splits
from calib_jax.runs.texts import Texts
from calib_jax.training.loop import BatchIterator
from calib_jax.weight_space.rows import HeldOut, held_out

_PROBE_SIZE = 512


class Features:
    """Looks at the splits of an experiment with any method's classifier."""

    def __init__(self, experiment: Experiment, texts: Texts, splits: Splits, mesh: Mesh):
        """Keeps what it needs for any method.

        Args:
            experiment: Says how much is predicted at a time, and where heads are kept.
            texts: The towers and the prompts.
            splits: The opened images.
            mesh: All devices.
        """
        self._encoder = texts.encoder
        self._tables = texts.tables[FINETUNE]
        self._splits = splits
        self._mesh = mesh
        self._batch_size = experiment.evaluation.batch_size
        self._cache = pathlib.Path(experiment.cache_dir).expanduser() / "heads"
        self._of_training: dict[tuple[str, int], tuple[Params, np.ndarray, np.ndarray]] = {}

    def predictor(self, method: Method) -> Predictor:
        """What predicts splits with a method's classifier."""
        return Predictor(
            self._encoder,
            method.classifier,
            self._tables,
            mesh=self._mesh,
            batch_size=self._batch_size,
            cache=self._cache,
        )

    def held_out(self, method: Method) -> HeldOut:
        """The validation split, as a combination of a method's models looks at it."""
        return held_out(
            self._encoder,
            method.classifier,
            self._tables,
            self._splits.evaluated[VALIDATION],
            predictor=self.predictor(method),
            mesh=self._mesh,
        )

    def validation(self, method: Method, params: Params) -> Predictions:
        """What a model says of the validation split."""
        split = {VALIDATION: self._splits.evaluated[VALIDATION]}
        return self.predictor(method)(params, split, bar="validation")[VALIDATION]

    def judged(self, predictions: Predictions) -> Labelled:
        """What a model says of the validation split, over the classes of its data set.

        Args:
            predictions: Of the split, or of some of its examples at even distances.
        """
        return Labelled.of(predictions, self._splits.evaluated[VALIDATION])

    def probe(self, method: Method) -> Callable[[Params], dict[str, float]]:
        """What the history tells of parameters besides the loss."""
        predictor, validation = self.predictor(method), self._splits.evaluated.get(VALIDATION)

        def probe(params: Params) -> dict[str, float]:
            split = {} if validation is None else {VALIDATION: validation}
            predictions = predictor(params, split, limit=_PROBE_SIZE)[VALIDATION]
            kernel = self._encoder.image_projection(params["encoder"])
            projection = np.linalg.svd(np.asarray(kernel, np.float64), compute_uv=False)
            metrics = self.judged(predictions).metrics()
            judged = {f"validation_{key}": metrics[key] for key in ("accuracy", "nll")}
            return {
                "smallest_singular_value": spectrum(predictions.features)[-1],
                "projection_smallest_singular_value": projection[-1],
                **{key: value for key, value in judged.items() if value is not None},
            }

        return probe

    def reference(self, method: Method, params: Params) -> Predictions:
        """What a model says of the fine-tuning images, each once: scores are fitted to it."""
        images = self._splits.trained[FINETUNE]
        splits = {str(number): split for number, split in enumerate(images.splits)}
        parts = list(self.predictor(method)(params, splits, bar="reference").values())
        return Predictions(
            logits=np.concatenate([part.logits for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
            features=np.concatenate([part.features for part in parts]),
            class_embeddings=parts[0].class_embeddings,
        )

    def of_training(
        self, stage_name: str, method: Method, params: Params
    ) -> tuple[Float[np.ndarray, "n d"], Int[np.ndarray, " n"]]:
        """The image features of every training image, and the labels; kept for the next head."""
        # The tree itself is kept too, so that its id is not another's.
        key = (stage_name, id(params["encoder"]))
        if key not in self._of_training:
            images = self._splits.trained[stage_name]
            splits = {str(number): split for number, split in enumerate(images.splits)}
            found = self.predictor(method)(params, splits, bar="features")
            parts = [
                (found[str(number)], source.repeats) for number, source in enumerate(images.sources)
            ]
            features = np.concatenate([np.tile(p.features, (k, 1)) for p, k in parts])
            labels = np.concatenate([np.tile(p.labels, k) for p, k in parts])
            self._of_training = {key: (params["encoder"], features, labels)}
        return self._of_training[key][1:]

    def batches(
        self, stage_name: str, method: Method, params: Params, *, batch_size: int, seed: int
    ) -> BatchIterator:
        """Batches of these features: what a method with a frozen encoder is trained on."""
        features, labels = self.of_training(stage_name, method, params)
        return feature_batches(
            features,
            labels,
            batch_size=batch_size,
            seed=seed,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )


def unit(features: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "n d"]:
    """The rows as a head takes them."""
    return np.asarray(normalize(jnp.asarray(features)))
