"""Every number of a split, and of OOD detection, against scikit-learn and torchmetrics.

    pip install torch torchmetrics        # not of this package; in an environment of its own
    python benchmarks/metrics.py          # 100,000 x 1,000 logits, 2 million scores

Both sides use all threads they know how to use and take turns in every round; the ratio is of
medians in one run. Where both peers have a number, the faster one is charged. Theirs get float32
probabilities of torch, ours works in float64.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import importlib.util
import os
import pathlib
import resource
import statistics
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import sklearn.metrics
from jaxtyping import Bool, Float, Int

from calib_jax.core import numerics
from calib_jax.core.types import Predictions
from calib_jax.evaluation import intervals
from calib_jax.evaluation.detection import detection_record, quantities_of, score_split
from calib_jax.evaluation.labelled import Labelled
from calib_jax.metrics import calibration, classification
from calib_jax.metrics.detection import detection
from calib_jax.metrics.outcomes import of_logits
from calib_jax.scores.energy import Energy
from calib_jax.scores.max_logit import MaxLogit
from calib_jax.scores.max_similarity import MaxSimilarity
from calib_jax.scores.mcm import MCM
from calib_jax.scores.msp import MSP
from calib_jax.scores.score import Score

Numbers = dict[str, float]
Ways = dict[tuple[str, str], Callable[[], float]]  # (number, peer) -> its value
BINS = 15


@contextlib.contextmanager
def made(
    num_examples: int, num_classes: int, *, mapped: bool
) -> Iterator[tuple[Float[np.ndarray, "n c"], Int[np.ndarray, " n"]]]:
    """Float32 logits, in memory or in a file, of a model that is right on about 70 %."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, num_classes, num_examples)
    shape = (num_examples, num_classes)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "logits.npy"
        logits: np.ndarray = (
            np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
            if mapped
            else np.empty(shape, np.float32)
        )
        for rows in numerics.row_blocks(*shape):
            block = 2 * rng.standard_normal((rows.stop - rows.start, num_classes), np.float32)
            block[np.arange(len(block)), labels[rows]] += 8
            logits[rows] = block
        if mapped:
            del logits
            logits = np.load(path, mmap_mode="r")
        yield logits, labels


def ours(logits: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]) -> Numbers:
    """All numbers from one pass."""
    outcomes = of_logits(logits, labels, num_bins=BINS)
    correct, classes = outcomes.correct, (outcomes.predicted, outcomes.labels)
    error = functools.partial(
        calibration.calibration_error, outcomes.confidence, correct, num_bins=BINS
    )
    num_classes = outcomes.num_classes
    return {
        "accuracy": float(correct.mean()),
        "top-5 accuracy": float((outcomes.rank < 5).mean()),
        "balanced accuracy": classification.balanced_accuracy(*classes, num_classes=num_classes),
        "macro-F1": classification.macro_f1(*classes, num_classes=num_classes),
        "NLL": float(outcomes.nll.mean()),
        "Brier": float(outcomes.brier.mean()),
        "ECE l1": error(norm="l1"),
        "ECE l2": error(norm="l2"),
        "ECE max": error(norm="max"),
        "class-wise ECE": outcomes.classwise_calibration_error,
    }


def theirs(
    logits: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"]
) -> tuple[Numbers, dict[tuple[str, str], tuple[float, float]]]:
    """Their values, and the wall and CPU seconds of every number by every peer that has it."""
    torch = importlib.import_module("torch")
    torchmetrics = importlib.import_module("torchmetrics.functional.classification")
    sk, num_classes, target = sklearn.metrics, logits.shape[1], torch.from_numpy(labels)
    times: dict[tuple[str, str], tuple[float, float]] = {}
    start = clocks()
    probs = torch.from_numpy(logits).softmax(dim=1)
    array, predicted = probs.numpy(), probs.argmax(dim=1).numpy()
    times["(softmax and argmax)", "torch"] = since(start)
    every, plain = range(num_classes), {"num_classes": num_classes, "validate_args": False}

    def ece(norm: str) -> float:
        error = torchmetrics.multiclass_calibration_error
        return error(probs, target, n_bins=BINS, norm=norm, **plain)

    def classwise() -> float:
        error = torchmetrics.binary_calibration_error
        columns = zip(probs.T.contiguous(), every, strict=True)
        return np.mean(
            [error(p, (target == k).int(), n_bins=BINS, validate_args=False) for p, k in columns]
        )

    def accuracy(average: str, top_k: int) -> float:
        return torchmetrics.multiclass_accuracy(
            probs, target, average=average, top_k=top_k, **plain
        )

    ways: Ways = {
        ("accuracy", "scikit-learn"): lambda: sk.accuracy_score(labels, predicted),
        ("accuracy", "torchmetrics"): lambda: accuracy("micro", 1),
        ("top-5 accuracy", "scikit-learn"): lambda: sk.top_k_accuracy_score(
            labels, array, k=5, labels=every
        ),
        ("top-5 accuracy", "torchmetrics"): lambda: accuracy("micro", 5),
        ("balanced accuracy", "scikit-learn"): lambda: sk.balanced_accuracy_score(
            labels, predicted
        ),
        ("balanced accuracy", "torchmetrics"): lambda: accuracy("macro", 1),
        ("macro-F1", "scikit-learn"): lambda: sk.f1_score(labels, predicted, average="macro"),
        ("macro-F1", "torchmetrics"): lambda: torchmetrics.multiclass_f1_score(
            probs, target, average="macro", **plain
        ),
        ("NLL", "scikit-learn"): lambda: sk.log_loss(labels, array, labels=every),
        ("Brier", "scikit-learn"): lambda: sk.brier_score_loss(
            labels, array, labels=every, scale_by_half=False
        ),
        ("ECE l1", "torchmetrics"): lambda: ece("l1"),
        ("ECE l2", "torchmetrics"): lambda: ece("l2"),
        ("ECE max", "torchmetrics"): lambda: ece("max"),
        ("class-wise ECE", "torchmetrics"): classwise,
    }
    numbers: Numbers = {}
    for (name, peer), way in ways.items():
        start = clocks()
        numbers.setdefault(name, float(way()))
        times[name, peer] = since(start)
    return numbers, times


def detection_theirs(scores: Float[np.ndarray, " n"], is_id: Bool[np.ndarray, " n"]) -> Numbers:
    """The numbers of `detection` by scikit-learn."""
    sk, numbers = sklearn.metrics, {"auroc": sklearn.metrics.roc_auc_score(is_id, scores)}
    for name, hits, values in (("id", is_id, scores), ("ood", ~is_id, -scores)):
        numbers[f"aupr_{name}"] = sk.average_precision_score(hits, values)
        false, true, _ = sk.roc_curve(hits, values, drop_intermediate=False)
        numbers[f"fpr95_{name}_positive"] = false[np.argmax(true >= 0.95)]
    return numbers


def clocks() -> tuple[float, float]:
    """Wall and CPU seconds."""
    return time.perf_counter(), time.process_time()


def since(start: tuple[float, float]) -> tuple[float, float]:
    """Wall and CPU seconds that have passed."""
    now = clocks()
    return now[0] - start[0], now[1] - start[1]


def peak() -> str:
    """The largest resident memory of the process so far, mapped pages of files included."""
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB"


def medians(rounds: list[tuple[float, float]]) -> tuple[float, float]:
    """Of the wall and of the CPU seconds."""
    wall, cpu = zip(*rounds, strict=True)
    return statistics.median(wall), statistics.median(cpu)


def difference(first: Numbers, second: Numbers) -> str:
    """The largest one and where it is."""
    name = max(first, key=lambda key: abs(first[key] - second[key]))
    return f"{abs(first[name] - second[name]):.1e} ({name})"


def compare_splits(args: argparse.Namespace, *, alone: bool) -> None:
    """Prints the seconds of every number of a split, and their ratio."""
    with made(args.examples, args.classes, mapped=args.mapped) as (logits, labels):
        place = "a mapped file" if args.mapped else "memory"
        print(f"\n{args.examples} x {args.classes} float32 logits in {place}; peak {peak()}")
        tracemalloc.start()
        found = ours(logits, labels)
        beyond = tracemalloc.get_traced_memory()[1] / 2**20
        tracemalloc.stop()
        print(f"ours: {beyond:.0f} MiB beyond the logits; peak {peak()}")
        mine, peers = [], []
        for _ in range(args.rounds):
            start = clocks()
            ours(logits, labels)
            mine.append(since(start))
            if not alone:
                expected, times = theirs(logits, labels)
                peers.append(times)
    wall, cpu = medians(mine)
    print(f"ours: all numbers in {wall:.2f} s (CPU {cpu:.2f} s), median of {args.rounds}")
    if alone:
        return
    print("\n| number | peer | s | CPU s |\n|---|---|---|---|")
    cost: dict[str, tuple[float, float]] = {}
    for name, peer in peers[0]:
        each = medians([times[name, peer] for times in peers])
        cost[name] = min(cost.get(name, each), each)
        print(f"| {name} | {peer} | {each[0]:.3f} | {each[1]:.3f} |")
    for title, left_out in (("all numbers", ()), ("without class-wise", ("class-wise ECE",))):
        total = [
            sum(each[i] for name, each in cost.items() if name not in left_out) for i in (0, 1)
        ]
        print(
            f"\n{title}: theirs {total[0]:.2f} s (CPU {total[1]:.2f} s), the faster peer each; "
            f"ratio {total[0] / wall:.1f} (CPU {total[1] / cpu:.1f})"
        )
    print(f"largest difference {difference(found, expected)}; theirs: peak {peak()}")


def compare_detection(num_scores: int, rounds: int) -> None:
    """Prints the seconds of AUROC, AUPR and FPR95, either class positive, and their ratio."""
    is_id = np.arange(num_scores) < num_scores // 2
    scores = np.random.default_rng(0).standard_normal(num_scores) + is_id
    mine, peers = [], []
    for _ in range(rounds):
        start = clocks()
        found = detection(scores[is_id], scores[~is_id])
        mine.append(since(start))
        start = clocks()
        expected = detection_theirs(scores, is_id)
        peers.append(since(start))
    (wall, cpu), (their_wall, their_cpu) = medians(mine), medians(peers)
    print(
        f"\nOOD detection, {num_scores} scores, 5 numbers: {wall:.2f} s, scikit-learn "
        f"{their_wall:.2f} s; ratio {their_wall / wall:.1f} (CPU {their_cpu / cpu:.1f}); "
        f"largest difference {difference(found, expected)}"
    )


def compare_scores(num_examples: int, num_classes: int, rounds: int) -> None:
    """Prints what five scores and one OOD set take beside the metrics of the ID split.

    With 200 resamples each; the ID split and the OOD set are of this size.
    """
    rng = np.random.default_rng(0)
    bank = rng.standard_normal((num_classes, 128), np.float32)
    bank /= np.linalg.norm(bank, axis=1, keepdims=True)
    sets = {}
    for name, scale in (("id", 1.0), ("ood", 0.6)):
        labels = rng.integers(0, num_classes, num_examples, np.int32)
        noise = 0.12 * rng.standard_normal((num_examples, 128), np.float32)
        features = np.float32(scale) * bank[labels] + noise
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        sets[name] = Predictions(100 * (unit @ bank.T), labels, features, bank)
    scores: dict[str, Score] = {
        "msp": MSP(),
        "max_logit": MaxLogit(),
        "energy": Energy(),
        "mcm": MCM(),
        "max_similarity": MaxSimilarity(),
    }
    split = Labelled(scores=sets["id"].logits, labels=sets["id"].labels)
    outcomes = split.outcomes()
    parts: dict[str, Callable[[], object]] = {
        "metrics": lambda: split.metrics(),
        "intervals": lambda: intervals.resampled(split, outcomes, num_resamples=200),
        "scores": lambda: {k: score_split(scores, quantities_of(v)) for k, v in sets.items()},
    }
    scored = {k: score_split(scores, quantities_of(v)) for k, v in sets.items()}
    parts["detection"] = lambda: detection_record(scored, id_name="id", num_resamples=200)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in parts}
    for _ in range(rounds):
        for name, part in parts.items():
            start = clocks()
            part()
            times[name].append(since(start))
    found = {name: medians(each) for name, each in times.items()}
    print(f"\n{num_examples} x {num_classes} logits, 5 scores, one OOD set, 200 resamples")
    for name, (wall, cpu) in found.items():
        print(f"{name}: {wall:.2f} s (CPU {cpu:.2f} s)")
    ratio = [
        (found["scores"][i] + found["detection"][i]) / (found["metrics"][i] + found["intervals"][i])
        for i in (0, 1)
    ]
    print(f"scores and detection over metrics and intervals: {ratio[0]:.2f} (CPU {ratio[1]:.2f})")


def main() -> None:
    """Prints all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--mapped", action="store_true", help="logits in a file, memory-mapped")
    parser.add_argument("--ours", action="store_true", help="without the peers")
    parser.add_argument("--scores", type=int, default=2_000_000, help="of OOD detection")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    missing = [n for n in ("torch", "torchmetrics") if importlib.util.find_spec(n) is None]
    if missing and not args.ours:
        print(f"{' and '.join(missing)} missing: ours alone. pip install torch torchmetrics.")
    print(f"{os.cpu_count()} threads; load of the machine {os.getloadavg()[0]:.1f}")
    warnings.simplefilter("ignore")  # of read-only arrays, and of rows that sum to 1 in float32
    compare_splits(args, alone=bool(missing) or args.ours)
    compare_scores(args.examples // 5, args.classes, args.rounds)
    if not args.ours:
        compare_detection(args.scores, args.rounds)
    print(f"\nload of the machine {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
