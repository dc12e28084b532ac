"""Scanned against unrolled layers: compile time, step time and memory, as ratios of one run.

A step is the value and the gradient of the contrastive loss with random weights.

    python benchmarks/towers.py --models vit_b16:4 vit_l14:2 --dtype float32 --remat none
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from calib_jax.core.linalg import normalize
from calib_jax.core.types import Embeddings, Params
from calib_jax.models import presets
from calib_jax.models.config import CHOICES, ClipConfig, Compute
from calib_jax.models.encoder import Encoder
from calib_jax.objectives.contrastive import contrastive_loss


@dataclasses.dataclass
class Candidate:
    """A compiled step, what compiling it took, and the times of its runs in seconds."""

    step: Callable[..., Any]
    compile_s: float
    temporary_gib: float
    times: list[float] = dataclasses.field(default_factory=list)

    def row(self, reference: Candidate) -> str:
        """Its columns of the table, with ratios to the reference."""
        step, base = statistics.median(self.times), statistics.median(reference.times)
        half_range = (max(self.times) - min(self.times)) / step / 2
        best, best_base = min(self.times), min(reference.times)
        return (
            f"{self.compile_s:.1f} | {self.compile_s / reference.compile_s:.2f} | "
            f"{1e3 * step:.0f} ± {half_range:.0%} | {step / base:.2f} | "
            f"{1e3 * best:.0f} | {best / best_base:.2f} | {self.temporary_gib:.2f}"
        )


def compile_step(config: ClipConfig, compute: Compute, arguments: tuple[Any, ...]) -> Candidate:
    """The step of one setting, traced and compiled from nothing."""
    encoder = Encoder(config, compute)

    def loss(
        params: Params, images: UInt8[Array, "b h w 3"], tokens: Int[Array, "b t"]
    ) -> Float[Array, ""]:
        embeddings = Embeddings(
            image=normalize(encoder.encode_image(params, images)),
            text=normalize(encoder.encode_text(params, tokens)),
            logit_scale=encoder.logit_scale(params),
        )
        return jnp.mean(contrastive_loss(embeddings))

    jax.clear_caches()
    start = time.perf_counter()
    step = jax.jit(jax.value_and_grad(loss)).lower(*arguments).compile()
    seconds = time.perf_counter() - start
    memory = step.memory_analysis()
    return Candidate(step, seconds, memory.temp_size_in_bytes / 2**30 if memory else float("nan"))


def random_arguments(config: ClipConfig, batch: int, length: int) -> tuple[Any, ...]:
    """Weights, images and tokens drawn by NumPy: nothing is compiled for them."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(Encoder(config).init, jax.random.key(0))
    params = jax.tree.map(
        lambda x: jnp.asarray(0.02 * rng.standard_normal(x.shape, np.float32)), shapes
    )
    size = config.vision.image_size
    images = jnp.asarray(rng.integers(0, 256, (batch, size, size, 3), np.uint8))
    tokens = jnp.asarray(rng.integers(0, config.text.vocab_size, (batch, length), np.int32))
    return params, images, tokens


def measure(config: ClipConfig, compute: Compute, options: argparse.Namespace, batch: int) -> str:
    """Two rows of the table: unrolled, then scanned; their runs alternate."""
    arguments = random_arguments(config, batch, options.length)
    candidates = [
        compile_step(config, dataclasses.replace(compute, scan=scan), arguments)
        for scan in (False, True)
    ]
    losses = [float(c.step(*arguments)[0]) for c in candidates]  # the first run is slower
    for repeat in range(options.repeats):
        for candidate in candidates[:: -1 if repeat % 2 else 1]:
            start = time.perf_counter()
            jax.block_until_ready(candidate.step(*arguments))
            candidate.times.append(time.perf_counter() - start)
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-2)  # in bfloat16 too
    return "\n".join(
        f"| {name} | {candidate.row(candidates[0])} |"
        for name, candidate in zip(("unrolled", "scanned"), candidates, strict=True)
    )


def main() -> None:
    """Prints one table for each model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["vit_b16:4", "vit_l14:2"])
    parser.add_argument("--dtype", choices=CHOICES["dtype"], default="auto")
    parser.add_argument("--attention", choices=CHOICES["attention"], default="auto")
    parser.add_argument("--remat", choices=CHOICES["remat"], default="none")
    parser.add_argument("--length", type=int, default=24, help="tokens of each text")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    compute = Compute(dtype=options.dtype, attention=options.attention, remat=options.remat)
    # Modules are imported and backends started while the first model is compiled: not one of ours.
    tiny = presets.tiny(vocab_size=99, context_length=options.length, num_layers=1, text_layers=1)
    compile_step(tiny, compute, random_arguments(tiny, 1, options.length))
    for model in options.models:
        name, _, batch = model.partition(":")
        rows = measure(getattr(presets, name)(), compute, options, int(batch or 4))
        print(
            f"\n{name}, batch {batch or 4}, {options.length} tokens, {options.dtype}, "
            f"remat {options.remat}, {jax.devices()[0].device_kind}\n\n"
            "| layers | compile s | ratio | median step ms | ratio | fastest ms | ratio | "
            f"temporary GiB |\n|---|---|---|---|---|---|---|---|\n{rows}",
            flush=True,
        )


if __name__ == "__main__":
    main()
