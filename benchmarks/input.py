"""Images per second and core from encoded bytes to the model's size, against CLIP's reference.

    python benchmarks/input.py --data_dir ../shared/tfds

One process and one thread; the encoded bytes lie in memory. Times are CPU times, all ways take
turns in every round, and ratios are taken within a round: a busy machine disturbs them little.
"""

from __future__ import annotations

import argparse
import io
import os
import pathlib
import time
from collections.abc import Callable, Sequence

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

import jax
import numpy as np
from PIL import Image

from calib_jax.core.resampling import resample
from calib_jax.data.datasets.records import Record, RecordSplit, Split
from calib_jax.data.images import Framing, Resize

SIZE = 224
MEAN = np.array([0.48145466, 0.4578275, 0.40821073], np.float32)[:, None, None]
STD = np.array([0.26862954, 0.26130258, 0.27577711], np.float32)[:, None, None]
REFERENCE, DEVICE_BATCH = "CLIP's reference (Pillow, float32)", 16


def pillow(record: Record) -> np.ndarray:
    """CLIP's evaluation view: `Resize`, `CenterCrop` and `convert` of its reference."""
    with Image.open(io.BytesIO(record.encoded)) as image:
        shorter = min(image.size)
        shape = (SIZE * image.width // shorter, SIZE * image.height // shorter)
        resized = image.resize(shape, Image.Resampling.BICUBIC)
        left, top = round((resized.width - SIZE) / 2), round((resized.height - SIZE) / 2)
        cropped = resized.crop((left, top, left + SIZE, top + SIZE))
        return np.asarray(cropped.convert("RGB"))


def reference(record: Record) -> np.ndarray:
    """With torchvision's `ToTensor` and `Normalize`, operation by operation, in NumPy."""
    values = np.ascontiguousarray(np.array(pillow(record)).transpose(2, 0, 1))
    values = values.astype(np.float32) / np.float32(255)
    values = values.copy()
    values -= MEAN
    values /= STD
    return values


def _way(resize: Resize) -> Callable[[Record], np.ndarray]:
    framing = Framing(SIZE, resize)
    return lambda record: framing.whole(record.pixels()).pixels


WAYS: dict[str, Callable[[Record], np.ndarray]] = {
    REFERENCE: reference,
    "Pillow, uint8": pillow,
    "host": _way("host"),
    "device (the host's part)": _way("device"),
    "decoding alone": Record.pixels,
}


def seconds(way: Callable[[Record], np.ndarray], records: Sequence[Record]) -> float:
    """The CPU time that all records take, one after the other."""
    start = time.process_time()
    for record in records:
        way(record)
    return time.process_time() - start


def differences(records: Sequence[Record]) -> tuple[dict[str, list[np.ndarray]], float]:
    """Each way's distances to Pillow's pixels, and the device's seconds per image."""
    found: dict[str, list[np.ndarray]] = {"host": [], "device": []}
    resize, framing, elapsed = jax.jit(resample), Framing(SIZE, "device"), []
    for start in range(0, len(records), DEVICE_BATCH):
        some = records[start : start + DEVICE_BATCH]
        expected = [pillow(record).astype(np.int16) for record in some]
        found["host"] += [np.abs(WAYS["host"](r) - e) for r, e in zip(some, expected, strict=True)]
        frames = [framing.whole(record.pixels()) for record in some]
        batch = jax.device_put([np.stack(arrays) for arrays in zip(*frames, strict=True)])
        begin = time.perf_counter()
        images = np.asarray(resize(*jax.block_until_ready(batch)))
        elapsed.append((time.perf_counter() - begin) / len(some))
        found["device"] += [np.abs(i - e) for i, e in zip(images, expected, strict=True)]
    return found, float(np.median(elapsed))


def main() -> None:
    """Prints two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", type=pathlib.Path, default=pathlib.Path("../shared/tfds"))
    parser.add_argument("--limit", type=int, default=1000, help="photographs")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    opened = RecordSplit(Split(name="imagenet_sample", split="validation"), [args.data_dir])
    records = [opened.read(index) for index in range(min(args.limit, len(opened)))]
    shapes = np.array([record.pixels().shape[:2] for record in records])
    print(
        f"{len(records)} photographs of {np.mean([len(r.encoded) for r in records]) / 1000:.0f} kB"
        f" and {shapes[:, 1].mean():.0f} x {shapes[:, 0].mean():.0f} pixels (means) to {SIZE}; "
        f"{args.rounds} rounds, one thread, Pillow {Image.__version__}\n"
    )
    WAYS["host"](records[0])  # compiles
    rounds = [
        {name: seconds(way, records) for name, way in WAYS.items()} for _ in range(args.rounds)
    ]
    print("| way | images/s/core | x reference (lowest to highest round) |\n|---|---|---|")
    for name in WAYS:
        ratios = [took[REFERENCE] / took[name] for took in rounds]
        rate = len(records) / np.median([took[name] for took in rounds])
        print(
            f"| {name} | {rate:.0f} | {np.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}) |"
        )
    found, device_seconds = differences(records)
    print("\n| way | highest difference to Pillow (0..255) | mean | values that differ | by 2 |")
    print("|---|---|---|---|---|")
    for name, each in found.items():
        values = np.concatenate([difference.ravel() for difference in each])
        share, twice = np.mean(values > 0), np.sum(values > 1)
        print(f"| {name} | {values.max()} | {values.mean():.2g} | {share:.2%} | {twice} |")
    print(
        f"\nThe device's part of `device`: {1000 * device_seconds:.1f} ms an image, in batches of "
        f"{DEVICE_BATCH} on {jax.devices()[0].device_kind}."
    )


if __name__ == "__main__":
    main()
