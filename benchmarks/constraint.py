"""The cost of the smallest-singular-value constraint, and how good its gradient is.

    python benchmarks/constraint.py            # `--quick`: tiny sizes, in seconds

Each way's value and gradient, beside the library's exact one, beside one FLYP step of a ViT-B/16
at batch 512, and against float64. On a CPU all times are CPU times of one thread: a busy machine
disturbs them little; the step runs at batch 4 and is scaled linearly. An accelerator runs it whole.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from calib_jax.core.linalg import gram, smallest_singular_value, standardize
from calib_jax.core.sharding import make_mesh
from calib_jax.core.types import Batch
from calib_jax.methods.robust import flyp
from calib_jax.models import presets
from calib_jax.models.encoder import Encoder
from calib_jax.objectives.spectral import orthogonality_norm
from calib_jax.objectives.views import Tables
from calib_jax.optim.optimizers import AdamW, make_optimizer
from calib_jax.training.state import create_state
from calib_jax.training.step import make_train_step

BATCH, LENGTH, EXACT = 512, 24, "svd (the reference)"
Value = Callable[[Float[Array, "r s"]], Float[Array, ""]]
Step = Callable[..., Any]


def product(a: Float[Array, "r k"], b: Float[Array, "k s"]) -> Float[Array, "r s"]:
    """Their product in full precision."""
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def at(vector: Callable[[Float[Array, "r s"]], Float[Array, " s"]]) -> Value:
    """`||M v||` at the vector of a solver, which is a constant of the gradient."""

    def value(matrix: Float[Array, "r s"]) -> Float[Array, ""]:
        return jnp.linalg.norm(matrix @ jax.lax.stop_gradient(vector(matrix)))

    return value


def by_solves(lower: Float[Array, "s s"], matrix: Float[Array, "r s"]) -> Float[Array, " s"]:
    """Inverse iteration with a triangular factor of M^T M: 8 times 2 solves for 32 vectors."""
    block = jax.random.normal(jax.random.key(0), (matrix.shape[1], 32))
    for _ in range(8):
        for transpose in (False, True):
            block = jax.lax.linalg.triangular_solve(
                lower, block, left_side=True, lower=True, transpose_a=transpose
            )
        block = block / jnp.linalg.norm(block)
    basis = jnp.linalg.qr(block)[0]
    return basis @ jnp.linalg.svd(product(matrix, basis), full_matrices=False)[2][-1]


def shifted_cholesky(matrix: Float[Array, "r s"]) -> Float[Array, "s s"]:
    """L of `M^T M` plus its rounding error."""
    square = gram(matrix)
    shift = 4 * jnp.finfo(square.dtype).eps * jnp.linalg.norm(square)
    return jnp.linalg.cholesky(square + shift * jnp.eye(len(square)), symmetrize_input=False)


def before(matrix: Float[Array, "r s"]) -> Float[Array, " s"]:
    """The exact vector of a matrix 1 % away, as an earlier step has left it in a state."""
    noise = jax.random.normal(jax.random.key(1), matrix.shape) / matrix.size**0.5
    earlier = matrix + 0.01 * jnp.linalg.norm(matrix) * noise
    return jnp.linalg.svd(earlier, full_matrices=False)[2][-1]


def two_iterations(matrix: Float[Array, "r s"], vector: Float[Array, " s"]) -> Float[Array, " s"]:
    """The vector of a warm start."""
    lower = shifted_cholesky(matrix)
    for _ in range(2):
        vector = jax.scipy.linalg.cho_solve((lower, True), vector)
        vector = vector / jnp.linalg.norm(vector)
    return vector


def log_determinant(matrix: Float[Array, "r s"]) -> Float[Array, ""]:
    """`sum_k log sigma_k`, by Cholesky: raises all values, the smallest most."""
    return jnp.sum(jnp.log(jnp.diagonal(shifted_cholesky(matrix))))


def soft_minimum(matrix: Float[Array, "r s"]) -> Float[Array, ""]:
    """`sqrt(-log(tr exp(-beta M^T M)) / beta)` without the bias log(s), by repeated squaring."""
    square = gram(matrix)
    beta = 2**12 / jnp.linalg.norm(jax.lax.stop_gradient(square))
    power = jnp.eye(len(square)) - beta / 2**12 * square  # between 0 and 1
    for _ in range(12):
        power = product(power, power)
    smallest = -jnp.log(jnp.trace(power) / len(square)) / beta
    return jnp.sqrt(jnp.maximum(smallest, 1e-12))


WAYS: dict[str, Value] = {
    "inverse iteration (the default)": smallest_singular_value,
    EXACT: lambda m: smallest_singular_value(m, solver="svd"),
    "eigh of the Gram matrix": at(lambda m: jnp.linalg.eigh(gram(m))[1][:, 0]),
    "one Cholesky factor, 16 solves": at(lambda m: by_solves(shifted_cholesky(m), m)),
    "Householder QR, 16 solves": at(lambda m: by_solves(jnp.linalg.qr(m, mode="r").T, m)),
    "warm-started vector, 2 solves each": at(lambda m: two_iterations(m, before(m))),
    "exact vector every 8 steps": at(before),
    "log-determinant": log_determinant,
    "soft minimum": soft_minimum,
    "(||W^T W - I||_F, for comparison)": orthogonality_norm,
}
# Their earlier vector comes from a state: it costs nothing, or an eighth of the exact one.
FROM_STATE: dict[str, Value] = {
    "warm-started vector, 2 solves each": at(lambda m: two_iterations(m, m[0])),
    "exact vector every 8 steps": at(lambda m: m[0]),
}


def compiled(ways: dict[str, Value]) -> dict[str, Step]:
    """Value and gradient of each."""
    return {name: jax.jit(jax.value_and_grad(way)) for name, way in ways.items()}


def seconds(function: Callable[[], Any]) -> float:
    """Of one run: CPU time of the process on a CPU, else wall time."""
    clock = time.process_time if jax.default_backend() == "cpu" else time.perf_counter
    start = clock()
    jax.block_until_ready(function())
    return clock() - start


def costs(
    steps: dict[str, Step], matrices: dict[str, Float[Array, "r s"]], rounds: int
) -> dict[str, list[float]]:
    """The median seconds of each way's value and gradient, one for each matrix."""
    table: dict[str, list[float]] = {name: [] for name in steps}
    for matrix in matrices.values():
        for step in steps.values():
            jax.block_until_ready(step(matrix))
        times: dict[str, list[float]] = {name: [] for name in steps}
        for _ in range(rounds):
            for name, step in steps.items():
                times[name].append(seconds(functools.partial(step, matrix)))
        for name in steps:
            table[name].append(statistics.median(times[name]))
        table["exact vector every 8 steps"][-1] += table[EXACT][-1] / 8
    return table


def spectra(rows: int, width: int) -> dict[str, Float[np.ndarray, "r s"]]:
    """Matrices with known smallest singular values."""
    rng = np.random.default_rng(0)
    top = np.linspace(2.0, 1.0, width)

    def made(values: Float[np.ndarray, " s"]) -> Float[np.ndarray, "r s"]:
        u = np.linalg.qr(rng.normal(size=(rows, width)))[0]
        return (u * values) @ np.linalg.qr(rng.normal(size=(width, width)))[0]

    return {
        "separated": made(np.append(top[1:], 0.3)),
        "8 within 0.7 %": made(np.append(top[8:], 0.3 * (1 + 1e-3 * np.arange(8)))),
        "Gaussian": rng.normal(size=(rows, width)),
        "1 / k": made(1.0 / np.arange(1, width + 1)),
        "1e-4": made(np.append(top[1:], 1e-4)),
        "8 from 1e-4": made(np.append(top[8:], 1e-4 * np.arange(1, 9))),
        "1e-6": made(np.append(top[1:], 1e-6)),
    }


def after(matrix: Float[np.ndarray, "r s"], direction: Float[np.ndarray, "r s"]) -> float:
    """The smallest singular value after a step of length 0.001 ||M||_2."""
    step = 1e-3 * np.linalg.norm(matrix, 2) * direction / np.linalg.norm(direction)
    return float(np.linalg.svd(matrix + step, compute_uv=False)[-1])


def quality(
    steps: dict[str, Step], matrices: dict[str, Float[np.ndarray, "r s"]]
) -> dict[str, list[str]]:
    """For each way and matrix: error of the value / cosine to the exact gradient / gain ratio."""
    table: dict[str, list[str]] = {name: [] for name in steps if not name.startswith("(")}
    for matrix in matrices.values():
        single = matrix.astype(np.float32)
        wide = single.astype(np.float64)
        u, values, v = np.linalg.svd(wide, full_matrices=False)
        exact = np.outer(u[:, -1], v[-1])
        best = after(wide, exact) - values[-1]
        for name, cells in table.items():
            value, gradient = (np.asarray(x, np.float64) for x in steps[name](single))
            if not np.isfinite(gradient).all() or not gradient.any():
                cells.append("no gradient")
                continue
            cosine = np.sum(exact * gradient) / np.linalg.norm(gradient)
            gain = (after(wide, gradient) - values[-1]) / best
            cells.append(f"{value / values[-1] - 1:+.0e} / {cosine:.4f} / {gain:.2f}")
    return table


def flyp_step_seconds(batch: int, *, quick: bool) -> float:
    """One train step: towers, contrastive loss, gradients and AdamW, the second run of two."""
    tiny = presets.tiny(vocab_size=99, context_length=LENGTH)
    config = tiny if quick else presets.vit_b16()
    encoder, method, mesh = Encoder(config), flyp(), make_mesh()
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(encoder.init, jax.random.key(0))
    draw = {"encoder": shapes, "classifier": {}}
    params = jax.tree.map(lambda x: 0.02 * rng.standard_normal(x.shape, np.float32), draw)
    tx = make_optimizer(
        AdamW(learning_rate=1e-5), params, num_steps=9, trainable=method.trainable, teacher=None
    )
    state = create_state(params, tx, mesh)
    size, length = config.vision.image_size, min(LENGTH, config.text.context_length)
    tokens = rng.integers(0, config.text.vocab_size, (batch, length), np.int32)
    data = Batch(
        image=rng.integers(0, 256, (batch, size, size, 3), np.uint8),
        label=np.zeros(batch, np.int32),
        caption=np.arange(batch, dtype=np.int32),
        mask=np.ones(batch, bool),
    )
    tables = Tables(captions=jnp.asarray(tokens), class_tokens=jnp.asarray(tokens[:2, None]))
    step = make_train_step(encoder, method, tx, mesh=mesh, state=state)
    state, _ = step(state, data, tables)
    jax.block_until_ready(state)
    return seconds(lambda: step(state, data, tables))


def show(title: str, columns: list[str], table: dict[str, list[str]]) -> None:
    """Prints a table."""
    print(f"\n{title}\n\n| way | {' | '.join(columns)} |\n|---{'|---' * len(columns)}|")
    for name, cells in table.items():
        print(f"| {name} | {' | '.join(cells)} |")


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, meaningless times")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--step_batch", type=int, help="4 on a CPU, else 512")
    options = parser.parse_args()
    on_cpu = jax.default_backend() == "cpu"
    width, wide = (64, 96) if options.quick else (512, 768)
    batch = options.step_batch or (4 if on_cpu else BATCH)
    print(f"{jax.devices()[0].device_kind}; load of the machine {os.getloadavg()[0]:.1f}")
    rng = np.random.default_rng(0)
    matrices = {f"projection {wide} x {width}": jnp.asarray(rng.normal(size=(wide, width)) / 9)}
    for size in (width, 2 * width):
        features = jnp.asarray(rng.normal(size=(size, width)))
        matrices[f"correlation {size} x {width}"] = standardize(features, scale=True)
    step = flyp_step_seconds(batch, quick=options.quick) * BATCH / batch
    print(
        f"FLYP step at batch {BATCH}: {step:.3g} s"
        + (f" (measured at batch {batch}, scaled linearly)" if batch != BATCH else "")
    )
    steps = compiled(WAYS)
    times = costs(steps | compiled(FROM_STATE), matrices, options.rounds)
    rows = {
        name: [
            cell
            for t, base in zip(row, times[EXACT], strict=True)
            for cell in (f"{1e3 * t:.1f}", f"{t / base:.2f}", f"{t / step:.3%}")
        ]
        for name, row in times.items()
    }
    columns = [x for name in matrices for x in (f"{name}: ms", "of exact", "of the step")]
    show("Value and gradient (in the library, b <= d costs nothing)", columns, rows)
    known = spectra(wide, width)
    title = "Error of the value / cosine to the exact gradient / gain of a step, of the exact one's"
    show(title, list(known), quality(steps, known))
    print(f"\nload of the machine {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
