"""What every builder needs to write reproducible ArrayRecord data sets without TensorFlow."""

from __future__ import annotations

import contextlib
import hashlib
import io
import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds
from jaxtyping import UInt8

from calib_jax.core import progress


def seed_of(*parts: str | int) -> int:
    """A 64-bit number that depends on the parts alone: the head of their SHA-256.

    Unlike Python's `hash`, it is the same in every process.
    """
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def rng_of(*parts: str | int) -> np.random.Generator:
    """A generator seeded by `seed_of(*parts)`."""
    return np.random.default_rng(seed_of(*parts))


def png_bytes(image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """The image as a PNG file: TFDS writes encoded bytes without TensorFlow, arrays only with it.

    OpenCV writes it in half of Pillow's time, or a third where it is small.
    """
    _, encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    return encoded.tobytes()


class RecordBuilder(tfds.core.GeneratorBasedBuilder):
    """Base of our builders: ArrayRecord files, nothing to download; none is a data set of TFDS."""

    # TFDS would look for download checksums with a package it does not install (4.9.10).
    url_infos = None

    def __init_subclass__(cls) -> None:
        """Keeps TFDS from listing it: its name alone, without what it reads, prepares nothing."""
        super().__init_subclass__(skip_registration=True)

    def __init__(self, *, file_format: str = "array_record", **kwargs: Any) -> None:
        """A builder; the other keywords are those of the TFDS base class."""
        super().__init__(file_format=file_format, **kwargs)

    def is_written(self) -> bool:
        """Whether the data set is on disk; TFDS's `is_prepared` warns when it is not."""
        return (pathlib.Path(self.data_dir) / "dataset_info.json").is_file()

    def write(self) -> None:
        """Writes the data set, without TFDS's own output.

        TFDS fills a temporary folder and renames it: an interruption leaves no half data set.
        """
        title = f"prepare {self.info.full_name}"
        tfds.display_progress_bar(enable=False)
        try:
            with (
                contextlib.redirect_stdout(io.StringIO()),
                progress.board().stage(
                    title, total=self.num_examples(), unit="image", is_minor=True
                ) as self._stage,
            ):
                self.download_and_prepare()
        finally:
            tfds.display_progress_bar(enable=True)

    def generators(self) -> dict[str, Iterable[Any]]:
        """Keys and examples of each split, as TFDS wants them."""
        raise NotImplementedError

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        del dl_manager
        return {split: self._counted(examples) for split, examples in self.generators().items()}

    def _counted(self, examples: Iterable[Any]) -> Iterator[Any]:
        """The examples, each counted once it is written."""
        for example in examples:
            yield example
            self._stage.advance()

    def num_examples(self) -> int | None:
        """How many it will write, where that is known before."""
        return None
