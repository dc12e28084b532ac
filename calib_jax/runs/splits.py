"""The data sets of an experiment, opened and checked before anything expensive."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, cast

from calib_jax.core.errors import ConfigError
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.data.datasets.records import Split
from calib_jax.data.images import Resize
from calib_jax.data.pipeline import CaptionedImages
from calib_jax.runs.experiment import Experiment


class Splits:
    """Every split that an experiment reads, each opened and decoded once.

    Attributes:
        evaluated: Labelled splits and OOD sets, by their names in `evaluation`.
        trained: The captioned images of each stage in which something is trained.
    """

    def __init__(self, experiment: Experiment, folders: Sequence[pathlib.Path], *, image_size: int):
        """Opens all data sets and reads the first image of each.

        Args:
            experiment: Names the splits.
            folders: Where prepared data sets lie; the first that holds one counts.
            image_size: Side of the square pixels that the model sees.

        Raises:
            ConfigError: A data set or a class name does not fit, or there are fewer images than
                one batch needs.
            DataError: An image cannot be read.
        """
        self._folders = tuple(folders)
        self._image_size = image_size
        self._resize = cast(Resize, experiment.resize)
        self._opened: dict[tuple[Any, ...], ImageSplit] = {}
        evaluation = experiment.evaluation
        class_names = experiment.finetune.class_names
        self.evaluated = {
            **{k: self._open(v, class_names) for k, v in evaluation.labelled().items()},
            **{k: self._open_unknown(v, class_names) for k, v in evaluation.unknown().items()},
        }
        absent = self.evaluated[evaluation.id_name].absent
        if absent:
            raise ConfigError(
                f"finetune.class_names: {len(absent)} of the {len(class_names)} are no class of "
                f"{self.evaluated[evaluation.id_name].description}, first {absent[0]!r}. Remove "
                "them, or choose another id_split."
            )
        stages = dict.fromkeys(p.stage for p in experiment.phases() if p.method.terms)
        self.trained = {name: self._captioned(experiment, name) for name in stages}

    def _captioned(self, experiment: Experiment, stage_name: str) -> CaptionedImages:
        stage = experiment.stage(stage_name)
        splits = [self._open(source.split, stage.class_names) for source in stage.sources]
        images = CaptionedImages(stage.sources, splits, stage.captions())
        if len(images) < stage.training.batch_size:
            raise ConfigError(
                f"{stage_name}.training.batch_size: got {stage.training.batch_size}, expected at "
                f"most the {len(images)} training images. Lower it."
            )
        return images

    def _open_unknown(self, split: Split, known: tuple[str, ...]) -> ImageSplit:
        """An OOD set, which must hold none of the known classes."""
        images = self._open(split, ())
        left_out = tuple(name.replace("_", " ") for name in split.without)
        shared = tuple(n for n in images.label_names if n in known and n not in left_out)
        if shared:
            raise ConfigError(
                f"OOD set {images.description}: {len(shared)} of its classes are classes of the "
                f"model, first {shared[0]!r}. Leave them out: without={left_out + shared}."
            )
        return images

    def _open(self, split: Split, class_names: tuple[str, ...]) -> ImageSplit:
        key = (type(split), *dataclasses.astuple(split), class_names)
        if key not in self._opened:
            self._opened[key] = ImageSplit(
                split,
                self._folders,
                image_size=self._image_size,
                class_names=class_names,
                resize=self._resize,
            )
            self._opened[key].image(0)
        return self._opened[key]
