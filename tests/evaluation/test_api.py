"""The suite for the predictions of any framework, against other code and on bad input."""

import inspect
import json
import re

import hypothesis
import hypothesis.extra.numpy as arrays
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import sklearn.metrics
from hypothesis import strategies

from calib_jax.calibrators.distance_aware import DistanceAwareScale
from calib_jax.calibrators.sample_adaptive import SampleAdaptiveScaling
from calib_jax.calibrators.temperature import TemperatureScaling
from calib_jax.core.errors import CalibJaxError, ConfigError, DataError
from calib_jax.evaluation.api import evaluate_predictions
from calib_jax.metrics.calibration import calibration_error
from calib_jax.metrics.robustness import Trend, accuracy_trend, effective_robustness

QUIET = {"num_resamples": 0}


def split(num_examples, seed, num_classes=6):
    rng = np.random.default_rng(seed)
    logits = 3 * rng.normal(size=(num_examples, num_classes)).astype(np.float32)
    noisy = logits + 3 * rng.normal(size=logits.shape)
    return logits, noisy.argmax(axis=1)


LOGITS, LABELS = split(300, 0)
PROBS = scipy.special.softmax(LOGITS.astype(np.float64), axis=1)
HELD_OUT = split(200, 1)


def ece_by_loop(confidence, is_right, num_bins):
    total = 0.0
    for b in range(num_bins):
        last = b == num_bins - 1
        inside = [b / num_bins <= c and (last or c < (b + 1) / num_bins) for c in confidence]
        total += abs(sum((c - r) * i for c, r, i in zip(confidence, is_right, inside, strict=True)))
    return total / len(confidence)


def test_numbers_of_other_code():
    metrics = evaluate_predictions(LOGITS, LABELS, **QUIET)["metrics"]["reported"]
    predicted, classes = PROBS.argmax(axis=1), range(6)
    confidence, is_right = PROBS.max(axis=1), predicted == LABELS
    order = np.argsort(-confidence)
    risks = np.cumsum(~is_right[order]) / np.arange(1, 301)
    wrong_kept = np.concatenate([[0], np.cumsum(~is_right[order])]) / 300
    # Of probabilities: frequency and mean probability, class by class.
    per_class = [ece_by_loop(PROBS[:, k], np.equal(LABELS, k), 15) for k in classes]
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(LABELS, predicted),
        "top5_accuracy": sklearn.metrics.top_k_accuracy_score(LABELS, PROBS, k=5, labels=classes),
        "balanced_accuracy": sklearn.metrics.balanced_accuracy_score(LABELS, predicted),
        "macro_f1": sklearn.metrics.f1_score(LABELS, predicted, average="macro"),
        "nll": sklearn.metrics.log_loss(LABELS, PROBS, labels=classes),
        "brier": ((PROBS - np.eye(6)[LABELS]) ** 2).sum(axis=1).mean(),
        "ece_10": ece_by_loop(confidence, is_right, 10),
        "ece_15": ece_by_loop(confidence, is_right, 15),
        "classwise_ece": np.mean(per_class),
        "ece_10_per_batch_512": ece_by_loop(confidence, is_right, 10),
        "ks": np.abs(np.cumsum((confidence - is_right)[order[::-1]])).max() / 300,
        "aurc": risks.mean(),
        "augrc": ((wrong_kept[1:] + wrong_kept[:-1]) / 2).mean(),
        "brier_uncertainty": is_right.mean() * (1 - is_right.mean()),
        "mean_confidence": confidence.mean(),
    }
    assert {key: metrics[key] for key in expected} == pytest.approx(expected, abs=1e-6)
    parts = metrics["brier_reliability"] - metrics["brier_resolution"]
    two_class = sklearn.metrics.brier_score_loss(is_right, confidence)
    assert parts + metrics["brier_uncertainty"] == pytest.approx(two_class, abs=2e-3)


def test_the_golden_file(golden_dir):
    """Outputs of the field's PyTorch code for logits that it was given too."""
    golden = np.load(golden_dir / "scores_and_metrics.npz")
    given = (golden["test_logits"], golden["test_labels"])
    got = evaluate_predictions(*given, **QUIET)["metrics"]["reported"]
    tens = evaluate_predictions(*given, **QUIET, num_bins=10)["metrics"]["reported"]
    expected = {
        "accuracy": golden["calibration/accuracy"],
        "nll": golden["calibration/nll"],
        "brier": golden["calibration/brier"],
        "ece_10": golden["calibration/ece_l1_10bins"],
        "ece_15": golden["calibration/ece_l1_15bins"],
        "ece_15_l2": golden["calibration/ece_l2_15bins"],
        "mce": golden["calibration/ece_max_15bins"],
    }
    assert {key: got[key] for key in expected} == pytest.approx(
        {key: float(value) for key, value in expected.items()}, abs=1e-6
    )
    assert tens["ece_10_l2"] == pytest.approx(float(golden["calibration/ece_l2_10bins"]), abs=1e-6)


def test_a_whole_record():
    shift = split(100, 2)
    names = tuple("abcdef")
    got = evaluate_predictions(
        LOGITS,
        LABELS,
        calibration=HELD_OUT,
        shifts={"blur": shift},
        class_names=names,
        num_resamples=20,
        level=0.5,
    )
    assert json.loads(json.dumps(got, allow_nan=False)) == got
    assert list(got["metrics"]) == list(got["intervals"]) == ["reported", "validation", "blur"]
    assert list(got["mistakes"]) == ["reported", "blur"]
    assert got["mistakes"]["blur"][0]["label"] in names
    scaled = got["calibrated"]["temperature"]
    fitted = TemperatureScaling().fit(*HELD_OUT)
    assert scaled["parameters"] == {"temperature": fitted.temperature}
    expected = evaluate_predictions(
        LOGITS,
        LABELS,
        calibration=HELD_OUT,
        shifts={"blur": (fitted.logits(shift[0]), shift[1])},
        num_resamples=20,
        level=0.5,
    )
    assert set(scaled["intervals"]["blur"]) == set(scaled["metrics"]["blur"])
    for key, value in scaled["metrics"]["blur"].items():
        assert value == pytest.approx(expected["metrics"]["blur"][key], abs=1e-9)
        ends = pytest.approx(expected["intervals"]["blur"][key], abs=1e-9)
        assert scaled["intervals"]["blur"][key] == ends
    calibrated = got["summary_intervals"]["ood_ece_calibrated"]
    assert calibrated == scaled["intervals"]["blur"]["ece_15"]
    assert got["summary"] == {
        "id_accuracy": got["metrics"]["reported"]["accuracy"],
        "ood_accuracy": got["metrics"]["blur"]["accuracy"],
        "id_ece": got["metrics"]["reported"]["ece_15"],
        "ood_ece": got["metrics"]["blur"]["ece_15"],
        "near_auroc": None,
        "far_auroc": None,
        "worst_shift_accuracy": got["metrics"]["blur"]["accuracy"],
        "worst_shift_ece": got["metrics"]["blur"]["ece_15"],
        "effective_robustness": None,
        "ood_ece_calibrated": scaled["metrics"]["blur"]["ece_15"],
    }
    wide = evaluate_predictions(LOGITS, LABELS, num_resamples=20, level=0.9)["intervals"]
    low, high = wide["reported"]["smooth_ece"]
    narrow = got["intervals"]["reported"]["smooth_ece"]
    assert low < narrow[0] < narrow[1] < high


def test_robustness_beyond_a_line():
    trend = accuracy_trend(np.array([0.3, 0.7]), np.array([0.2, 0.5]))
    got = evaluate_predictions(
        LOGITS, LABELS, shifts={"blur": split(100, 2)}, trends={"blur": trend}, num_resamples=9
    )
    pair = [np.array([got["metrics"][name]["accuracy"]]) for name in ("reported", "blur")]
    (beyond,) = effective_robustness(*pair, trend=trend)
    assert got["metrics"]["blur"]["effective_robustness"] == beyond
    assert got["summary"]["effective_robustness"] == beyond
    low, high = got["summary_intervals"]["effective_robustness"]
    assert low < high


def test_probabilities_and_their_logits_are_one():
    held_out = (scipy.special.softmax(HELD_OUT[0], 1), HELD_OUT[1])
    got = evaluate_predictions(PROBS, LABELS, probs=True, calibration=held_out, **QUIET)
    expected = evaluate_predictions(LOGITS, LABELS, calibration=HELD_OUT, **QUIET)
    assert got["metrics"]["reported"] == pytest.approx(expected["metrics"]["reported"])
    assert got["summary"] == pytest.approx(expected["summary"])
    temperatures = [r["calibrated"]["temperature"]["parameters"] for r in (got, expected)]
    assert temperatures[0] == pytest.approx(temperatures[1], rel=1e-5)


def test_calibrators_without_a_fit():
    zero_shot = split(300, 7)[0]
    scale = DistanceAwareScale(factor=np.linspace(0.5, 1, 6))
    got = evaluate_predictions(
        LOGITS,
        LABELS,
        calibrators={"sals": SampleAdaptiveScaling(), "dac": scale},
        zero_shot={"reported": zero_shot},
        **QUIET,
    )
    for name, logits in (
        ("sals", SampleAdaptiveScaling().scaled(LOGITS, zero_shot)),
        ("dac", scale.logits(LOGITS)),
    ):
        after = evaluate_predictions(logits, LABELS, **QUIET)["metrics"]["reported"]
        metrics = got["calibrated"][name]["metrics"]["reported"]
        assert metrics == pytest.approx({key: after[key] for key in metrics})
        assert got["calibrated"][name]["fitted_on"] is None


def test_arrays_of_any_kind(tmp_path):
    expected = evaluate_predictions(LOGITS, LABELS, **QUIET)
    np.save(tmp_path / "logits.npy", LOGITS)
    mapped = np.load(tmp_path / "logits.npy", mmap_mode="r")
    assert evaluate_predictions(mapped, LABELS.astype(np.int8), **QUIET) == expected
    assert evaluate_predictions(LOGITS.tolist(), LABELS.tolist(), **QUIET) == expected
    assert evaluate_predictions(jnp.asarray(LOGITS), jnp.asarray(LABELS), **QUIET) == expected
    half = evaluate_predictions(jnp.asarray(LOGITS, jnp.bfloat16), LABELS, **QUIET)
    rounded = np.asarray(jnp.asarray(LOGITS, jnp.bfloat16), np.float32)
    assert half == evaluate_predictions(rounded, LABELS, **QUIET)


class OnAGPU:
    """As a torch tensor that NumPy cannot read (there is no torch in these tests)."""

    def __array__(self, dtype=None, copy=None):
        raise TypeError("can't convert cuda:0 device type tensor to numpy")


@pytest.mark.parametrize("name", ["logits", "labels"])
def test_a_tensor_that_numpy_cannot_read(name):
    unchecked = inspect.unwrap(evaluate_predictions)
    message = f"^{name}: got OnAGPU that NumPy cannot read .can't convert cuda.*detach"
    with pytest.raises(DataError, match=message):
        unchecked(**{"logits": LOGITS, "labels": LABELS, name: OnAGPU()}, **QUIET)


def test_probabilities_are_no_logits():
    probs = scipy.special.softmax(LOGITS, axis=1)
    with pytest.raises(DataError, match=r"^logits: got rows that are at least 0 .*probs=True"):
        evaluate_predictions(probs, LABELS, **QUIET)
    shifts = {"blur": (probs, LABELS)}
    with pytest.raises(DataError, match=r"^shifts.blur.logits: got rows that are at least 0"):
        evaluate_predictions(LOGITS, LABELS, shifts=shifts, **QUIET)
    options = {"calibrators": {"sals": SampleAdaptiveScaling()}, **QUIET}
    with pytest.raises(DataError, match=r"^zero_shot.reported: got rows that are at least 0"):
        evaluate_predictions(LOGITS, LABELS, zero_shot={"reported": probs}, **options)
    meant = evaluate_predictions(probs, LABELS, probs=False, **QUIET)
    assert meant["metrics"]["reported"]["mean_confidence"] < 0.5


def changed(array, index, value):
    array = np.array(array)
    array[index] = value
    return array


COPY = changed(HELD_OUT[0], 3, LOGITS[8])


@pytest.mark.parametrize(
    ("error", "arguments", "changes", "message"),
    [
        (DataError, (changed(LOGITS, (7, 2), np.nan), LABELS), {}, r"^logits: got nan at \[7, 2\]"),
        (
            DataError,
            (changed(LOGITS, (7, 0), -np.inf), LABELS),
            {},
            r"logits: got -inf at \[7, 0\]",
        ),
        (
            DataError,
            (LOGITS, changed(LABELS, 5, 6)),
            {},
            r"labels: got 6 at \[5\], expected a class",
        ),
        (DataError, (LOGITS, LABELS[:-1]), {}, r"labels: got shape \(299,\), expected \(300,\)"),
        (DataError, (LOGITS, LABELS * 1.0), {}, r"labels: got dtype float64, expected integers"),
        (DataError, (LOGITS[0], LABELS), {}, r"logits: got shape \(6,\), expected \(examples, cl"),
        (DataError, (LOGITS[:0], LABELS[:0]), {}, r"logits: got 0 examples"),
        (DataError, (LOGITS.astype(str), LABELS), {}, r"logits: got dtype <U.*, expected real"),
        (DataError, ([[1.0, 2.0], [3.0]], [0, 1]), {}, r"^logits: got rows of different lengths"),
        (DataError, (2 * PROBS, LABELS), {"probs": True}, r"probs: got a sum of 2 in row \[0\]"),
        (DataError, (LOGITS, LABELS), {"probs": True}, r"probs: got -.* expected at least 0"),
        (DataError, (LOGITS[:0], LABELS[:0]), {}, r"^logits: got 0 examples, expected at least 1"),
        (
            ConfigError,
            (LOGITS, LABELS),
            {"num_bins": 10**7},
            r"at least 1 and at most 1,000,000",
        ),
        (
            ConfigError,
            (LOGITS, LABELS),
            {"num_resamples": 10**9},
            r"got 1000000000, expected 0",
        ),
        (
            ConfigError,
            (LOGITS, LABELS),
            {"calibrators": {"t": TemperatureScaling(lowest=-1.0)}},
            r"^calibrators\.t\.lowest: got -1\.0, expected a finite number > 0",
        ),
        (
            DataError,
            (LOGITS, LABELS),
            {"calibration": (COPY, HELD_OUT[1])},
            (r"calibration.logits: got in row \[3\] what logits has in row \[8\]"),
        ),
        (
            DataError,
            HELD_OUT,
            {"calibration": (COPY, HELD_OUT[1]), "shifts": {"a": HELD_OUT}},
            (r"calibration.logits: got in row \[0\] what logits has in row \[0\]"),
        ),
        (
            DataError,
            (LOGITS, LABELS),
            {"calibration": split(50, 3, 5)},
            (r"calibration.logits: got 5 classes, expected 6 as in those that are reported"),
        ),
        (
            DataError,
            (LOGITS, LABELS),
            {"shifts": {"blur": (LOGITS, LABELS - 1)}},
            (r"shifts.blur.labels: got -1 at"),
        ),
        (ConfigError, (LOGITS, LABELS), {"shifts": {"reported": HELD_OUT}}, r"'reported' is taken"),
        (ConfigError, (LOGITS, LABELS), {"class_names": "abc"}, r"class_names: got 3, expected 6"),
        (
            ConfigError,
            (LOGITS, LABELS),
            {"calibrators": {"t": TemperatureScaling()}},
            (r"calibrators: got t, but no calibration split to fit it to"),
        ),
        (ConfigError, (LOGITS, LABELS), {"name": "validation"}, r"^name: 'validation' is taken"),
        (
            ConfigError,
            (LOGITS, LABELS),
            {"calibrators": {"sals": SampleAdaptiveScaling()}, "shifts": {"blur": HELD_OUT}},
            r"sals needs the pre-trained model's scores of 'reported'",
        ),
        (ConfigError, (LOGITS, LABELS), {"zero_shot": {"blurr": LOGITS}}, r"no split 'blurr'"),
        (
            DataError,
            (LOGITS, LABELS),
            {"zero_shot": {"reported": LOGITS[:, :5]}},
            r"^zero_shot.reported: got shape \(300, 5\), expected \(300, 6\) as of the split",
        ),
        (
            DataError,
            (LOGITS, LABELS),
            {"zero_shot": {"reported": changed(LOGITS, (7, 2), np.nan)}},
            r"^zero_shot.reported: got nan at \[7, 2\]",
        ),
        (
            ConfigError,
            (LOGITS, LABELS),
            {"trends": {"fog": Trend(slope=1.0, intercept=0.0, scale="logit")}},
            r"^trends: there is no shift 'fog'",
        ),
        (ConfigError, (LOGITS, LABELS), {"num_bins": 0}, r"num_bins: got 0, expected at least 1"),
        (ConfigError, (LOGITS, LABELS), {"num_resamples": 1}, r"num_resamples: got 1, expected 0"),
        (ConfigError, (LOGITS, LABELS), {"num_resamples": -1}, r"num_resamples: got -1"),
        (ConfigError, (LOGITS, LABELS), {"num_resamples": 2, "level": 95.0}, r"level: got 95.0"),
    ],
)
def test_mistakes_are_named(error, arguments, changes, message):
    with pytest.raises(error, match=message) as caught:
        evaluate_predictions(*arguments, **QUIET | changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shifts": [HELD_OUT]}, "shifts: got list, expected pairs by name"),
        ({"shifts": {"blur": (*HELD_OUT, None)}}, "shifts.blur: got tuple, expected a pair"),
        ({"calibration": LOGITS}, "calibration: got ndarray, expected a pair"),
        ({"calibrators": {"x": 3}}, "calibrators.x: got 3 of type int, expected Calibrator"),
        ({"trends": {"x": 3}}, "trends.x: got 3 of type int, expected Trend"),
        ({"probs": "no"}, "probs: got 'no' of type str, expected"),
        ({"num_bins": 2.5}, "num_bins: got 2.5 of type float, expected int"),
        ({"num_bins": True}, "num_bins: got True of type bool, expected int"),
        ({"num_resamples": 2.5}, "num_resamples: got 2.5 of type float, expected int"),
        ({"level": "a"}, "level: got 'a' of type str, expected float"),
    ],
)
def test_arguments_of_another_type(changes, message):
    # Beneath the run-time checks of the tests.
    unchecked = inspect.unwrap(evaluate_predictions)
    with pytest.raises(ConfigError, match=f"^{message}"):
        unchecked(LOGITS, LABELS, **QUIET | changes)


@pytest.mark.parametrize("name", ["logits", "labels"])
def test_a_mask_is_not_ignored(name):
    arrays = {"logits": np.zeros((20, 3)), "labels": np.zeros(20, int)}
    arrays[name] = np.ma.masked_array(arrays[name], mask=np.zeros(arrays[name].shape, bool))
    evaluate_predictions(**arrays, num_resamples=0)
    arrays[name][1] = np.ma.masked
    message = (
        rf"^{name}: got masked entries, expected a number in each\. Drop the masked examples\."
    )
    with pytest.raises(DataError, match=message):
        evaluate_predictions(**arrays, num_resamples=0)


@hypothesis.settings(max_examples=60, deadline=None, derandomize=True)
@hypothesis.given(
    logits=arrays.arrays(
        strategies.sampled_from([np.float16, np.float32, np.float64, np.int64]),
        arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5),
    ),
    labels=arrays.arrays(
        strategies.sampled_from([np.int32, np.uint8, np.float32, bool]),
        arrays.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=5),
    ),
    probs=strategies.booleans(),
)
def test_any_input_gives_json_or_one_line_that_names_an_array(logits, labels, probs):
    try:
        got = evaluate_predictions(logits, labels, probs=probs, num_bins=1, **QUIET)
    except CalibJaxError as error:
        message = str(error)
        assert message.startswith(("logits: ", "labels: ", "probs: "))
        assert "\n" not in message
        return
    json.dumps(got, allow_nan=False)
    metrics = got["metrics"]["reported"]
    assert 0 <= metrics["accuracy"] <= 1 and 0 <= metrics["ece_1"] <= 1 + 1e-9


@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
@hypothesis.given(
    row=strategies.integers(0, 299),
    column=strategies.integers(0, 5),
    bad=strategies.sampled_from([np.nan, np.inf, -np.inf]),
    label=strategies.sampled_from([-1, 6, 100]),
    part=strategies.sampled_from(["", "calibration.", "shifts.blur."]),
)
def test_the_first_bad_entry_is_named_wherever_it_is(row, column, bad, label, part):
    good = {"": (LOGITS, LABELS), "shifts.blur.": (LOGITS + 1, LABELS), "calibration.": None}
    good["calibration."] = (LOGITS[::-1] * 2, LABELS)
    for values in (
        (changed(changed(good[part][0], (row, column), bad), (299, 5), bad), good[part][1]),
        (good[part][0], changed(changed(good[part][1], 299, label), row, label)),
    ):
        splits = good | {part: values}
        with pytest.raises(DataError) as caught:
            evaluate_predictions(
                *splits[""],
                calibration=splits["calibration."],
                shifts={"blur": splits["shifts.blur."]},
                **QUIET,
            )
        is_label = values[0] is good[part][0]
        name, where = ("labels", f"[{row}]") if is_label else ("logits", f"[{row}, {column}]")
        assert str(caught.value).startswith(f"{part}{name}: got ")
        assert f" at {where}, expected" in str(caught.value)


@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
@hypothesis.given(
    rows=strategies.lists(strategies.integers(0, 299), min_size=1, max_size=5, unique=True),
    others=strategies.permutations(range(5)),
    part=strategies.sampled_from(["", "shifts.blur."]),
    dtype=strategies.sampled_from([np.float16, np.float32, np.float64]),
)
def test_the_first_shared_example_is_named_wherever_it_is(rows, others, part, dtype):
    held_out = HELD_OUT[0].astype(dtype)
    splits = {"": (LOGITS, LABELS), "shifts.blur.": (LOGITS[::-1] + 1, LABELS)}
    logits = np.array(splits[part][0])
    for row, other in zip(rows, others, strict=False):
        logits[row] = held_out[other]
    splits[part] = (logits, LABELS)
    first, match = min(zip(others, rows, strict=False))
    message = f"calibration.logits: got in row [{first}] what {part}logits has in row [{match}], "
    with pytest.raises(DataError, match="^" + re.escape(message)):
        evaluate_predictions(
            *splits[""],
            calibration=(held_out, HELD_OUT[1]),
            shifts={"blur": splits["shifts.blur."]},
            **QUIET,
        )


@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
@hypothesis.given(
    row=strategies.integers(0, 299),
    column=strategies.integers(0, 5),
    change=strategies.floats(0.01, 10) | strategies.floats(-10, -1.01),
    part=strategies.sampled_from(["", "calibration.", "shifts.blur."]),
)
def test_the_first_row_that_is_no_distribution_is_named_wherever_it_is(row, column, change, part):
    good = {
        "": scipy.special.softmax(LOGITS, axis=1),
        "shifts.blur.": scipy.special.softmax(LOGITS + np.arange(6), axis=1),
        "calibration.": scipy.special.softmax(2 * LOGITS[::-1], axis=1),
    }
    bad = changed(good[part], (299, 0), 7)
    bad[row, column] += change
    where = f"probs: got a sum of {bad[row].sum():.6g} in row [{row}], expected 1"
    if change < 0:
        where = f"probs: got {bad[row, column]} at [{row}, {column}], expected at least 0"
    splits = good | {part: bad}
    with pytest.raises(DataError, match="^" + re.escape(part + where)):
        evaluate_predictions(
            splits[""],
            LABELS,
            probs=True,
            calibration=(splits["calibration."], LABELS),
            shifts={"blur": (splits["shifts.blur."], LABELS)},
            **QUIET,
        )


@hypothesis.settings(max_examples=40, deadline=None, derandomize=True)
@hypothesis.given(
    num_bins=strategies.integers(1, 20),
    num_examples=strategies.integers(0, 20),
    part=strategies.sampled_from(["", "calibration.", "shifts.blur."]),
)
def test_a_split_may_be_smaller_than_the_bins(num_bins, num_examples, part):
    splits = {"": LOGITS, "shifts.blur.": LOGITS + 1, "calibration.": LOGITS[::-1] * 2}
    splits = {name: logits[:20] for name, logits in splits.items()}
    splits[part] = splits[part][:num_examples]
    labels = {name: LABELS[: len(logits)] for name, logits in splits.items()}
    options = {
        "calibration": (splits["calibration."], labels["calibration."]),
        "shifts": {"blur": (splits["shifts.blur."], labels["shifts.blur."])},
        "calibrators": {},
        "num_bins": num_bins,
    }
    if num_examples:  # as torchmetrics and a run have it
        record = evaluate_predictions(splits[""], labels[""], **QUIET | options)
        probs = scipy.special.softmax(splits[""].astype(np.float64), axis=1)
        hits = probs.argmax(axis=1) == labels[""]
        error = calibration_error(probs.max(axis=1), hits, num_bins=num_bins)
        assert record["metrics"]["reported"][f"ece_{num_bins}"] == pytest.approx(error)
        return
    with pytest.raises(DataError, match=f"^{re.escape(part)}logits: got 0 examples"):
        evaluate_predictions(splits[""], labels[""], **QUIET | options)
