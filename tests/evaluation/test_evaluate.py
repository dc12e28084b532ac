import dataclasses

import numpy as np
import pytest

from calib_jax.calibrators.temperature import TemperatureScaling
from calib_jax.core.errors import ConfigError
from calib_jax.core.types import Predictions
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.data.datasets.records import Split
from calib_jax.evaluation.evaluate import (
    VALIDATION,
    Evaluation,
    evaluate,
    score_splits,
    with_scores,
)
from calib_jax.metrics import calibration, classification
from calib_jax.metrics.robustness import Trend
from calib_jax.scores.energy import Energy
from calib_jax.scores.mcm import MCM
from calib_jax.scores.msp import MSP
from calib_jax.scores.score import Score

CLASSES = ("a", "b", "c")


TREND = Trend(slope=1.0, intercept=0.0, scale="logit")


class Bare(ImageSplit):
    """What an evaluation asks of a split beside its images."""

    def __init__(self, groups=None, right=None):
        self.groups, self.right = groups, right
        self.has_answers = right is not None

    def __len__(self):
        return len(self.right)

    def answers(self, indices=None):
        return self.right[indices]


def make(**changes):
    fields = {
        "id_split": Split(name="x"),
        "validation": Split(name="x", split="validation"),
        "shifts": {"blurred": Split(name="y"), "noisy": Split(name="z")},
        "near": {"near": Split(name="n")},
        "far": {"far": Split(name="f")},
        "templates": ("a {}",),
        "num_examples": 2,
    }
    return Evaluation(**{**fields, **changes})


def test_names():
    evaluation = make()
    evaluation.validate()
    assert list(evaluation.labelled()) == [VALIDATION, "clean", "blurred", "noisy"]
    assert list(evaluation.unknown()) == ["near", "far"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": "mmc"}, r"evaluation.score: got 'mmc', expected one of .*Did you mean 'mcm'"),
        ({"scores": {}}, r"evaluation.score: got 'mcm', expected one of evaluation.scores: none"),
        (
            {"scores": {"mcm": MCM(), "sharp": MCM(temperature=0.0)}},
            r"^evaluation.scores.sharp.temperature: got 0.0, expected a finite number above 0",
        ),
        ({"near": {"far": Split(name="n")}}, r"the name 'far' stands for two splits"),
        ({"id_name": VALIDATION}, r"the name 'validation' stands for two splits"),
        ({"num_examples": -1}, r"evaluation.num_examples: got -1, expected at least 0"),
        ({"num_resamples": -2}, r"evaluation.num_resamples: got -2, expected 0 for no int"),
        ({"num_resamples": 1}, r"evaluation.num_resamples: got 1, expected 0 for no int"),
        ({"num_resamples": 10**9}, r"num_resamples: got 1000000000, expected 0 .* 1,000,000\. Use"),
        ({"templates": ("a {}", "a dog")}, r"^evaluation.templates: got 0 places '{}' .* 'a dog'"),
        ({"near": {"../x": Split(name="n")}}, r"^evaluation: got the name '../x', expected one"),
        (
            {"near": {"n": Split(name="n", share=(0.5, 0.5))}},
            r"^evaluation, split 'n': got share \(0.5, 0.5\), expected 0 <= low < high <= 1",
        ),
        (
            {"calibrators": {"t": TemperatureScaling(lowest=-1.0)}},
            r"^evaluation.calibrators.t.lowest: got -1.0, expected a finite number > 0",
        ),
        ({"trends": {"noise": TREND}}, r"evaluation.trends: there is no shift 'noise'.*'noisy'"),
        ({"conformal_alpha": 1.0}, r"evaluation.conformal_alpha: got 1.0, expected a share in"),
    ],
)
def test_mistakes(changes, message):
    with pytest.raises(ConfigError, match=message):
        make(**changes).validate()


@pytest.fixture(scope="module")
def record():
    """Right on clean images, on half of the shifted ones, and sure of what is inside."""
    evaluation = make(trends={"blurred": TREND})
    rng = np.random.default_rng(0)

    def predictions(labels, correct, scale):
        labels = np.asarray(labels, np.int32)
        features = np.eye(3, dtype=np.float32)[np.where(correct, labels, (labels + 1) % 3)]
        features = features + 0.05 * rng.normal(size=features.shape).astype(np.float32)
        embeddings = np.eye(3, dtype=np.float32)
        unit = features / np.linalg.norm(features, axis=1, keepdims=True)
        return Predictions(
            logits=scale * unit @ embeddings.T,
            labels=labels,
            features=features,
            class_embeddings=embeddings,
        )

    labels = np.arange(60) % 3
    half = np.arange(60) < 30
    outside = Predictions(
        logits=np.full((20, 3), 1.0, np.float32),
        labels=np.zeros(20, np.int32),
        features=np.ones((20, 3), np.float32),
        class_embeddings=np.eye(3, dtype=np.float32),
    )
    known = {
        VALIDATION: predictions(labels, True, 10.0),
        "clean": predictions(labels, True, 10.0),
        "blurred": predictions(labels, half, 10.0),
        "noisy": predictions(labels, False, 10.0),
        "near": outside,
        "far": outside,
    }
    splits = {name: Bare() for name in known}
    return evaluate(known, splits, evaluation, CLASSES)


def test_record_of_known_predictions(record):
    assert record["summary"]["id_accuracy"] == 1.0
    assert record["summary"]["ood_accuracy"] == pytest.approx(0.25)
    assert record["metrics"]["noisy"]["accuracy"] == 0.0
    assert record["summary"]["ood_ece"] == pytest.approx(
        (record["metrics"]["blurred"]["ece_15"] + record["metrics"]["noisy"]["ece_15"]) / 2
    )
    assert record["summary"]["near_auroc"] == 1.0
    assert sum(record["reliability"]["clean"]["count"]) == 60
    assert record["examples"]["clean"][1]["index"] == 30
    assert record["examples"]["clean"][1]["prediction"] == "a"
    assert VALIDATION not in record["examples"]
    assert len(record["spectrum"]["singular_values"]) == 3
    assert record["spectrum"]["smallest_singular_value"] == min(
        record["spectrum"]["singular_values"]
    )


def test_what_the_record_says_beside_the_plain_metrics(record):
    assert VALIDATION not in record["mistakes"]
    assert [row["index"] for row in record["mistakes"]["clean"]] == []
    assert len(record["mistakes"]["noisy"]) == 8
    assert {row["label"] for row in record["mistakes"]["noisy"]} <= set(CLASSES)
    without = set(record["metrics"]["noisy"]) - set(record["intervals"]["noisy"])
    assert without == {"ece_10_per_batch_512"}
    low, high = record["summary_intervals"]["ood_accuracy"]
    assert low < record["summary"]["ood_accuracy"] < high
    low, high = record["intervals"]["blurred"]["accuracy"]
    assert 0.3 < low < 0.5 < high < 0.7
    assert record["summary"]["worst_shift_accuracy"] == 0.0
    assert record["summary"]["worst_shift_ece"] == record["metrics"]["noisy"]["ece_15"]
    scaled = record["calibrated"]["temperature"]
    assert scaled["fitted_on"] == VALIDATION
    assert list(scaled["metrics"]) == ["clean", "blurred", "noisy"]
    assert record["summary"]["ood_ece_calibrated"] == pytest.approx(
        (scaled["metrics"]["blurred"]["ece_15"] + scaled["metrics"]["noisy"]["ece_15"]) / 2
    )
    assert "conformal" not in record
    # All clean images are right, and by the line all others would be.
    assert record["metrics"]["blurred"]["effective_robustness"] == -0.5
    assert record["summary"]["effective_robustness"] == -0.5


def test_what_is_said_of_unknown_classes(record):
    found = record["detection_intervals"]
    assert list(found) == ["near", "far"]
    for name, of_set in found.items():
        assert list(of_set) == list(record["detection"][name])
        for score, ends in of_set.items():
            numbers = record["detection"][name][score]
            assert all(ends[key][0] <= numbers[key] <= ends[key][1] for key in numbers)
    assert set(record["summary_intervals"]) == {
        *("ood_accuracy", "ood_ece", "worst_shift_accuracy", "worst_shift_ece"),
        *("near_auroc", "far_auroc", "ood_ece_calibrated", "effective_robustness"),
    }
    assert record["summary_intervals"]["near_auroc"] == [1.0, 1.0]


def test_without_resamples_there_are_no_intervals():
    given = scored(40, 3, 3)
    evaluation = make(validation=None, shifts={}, far={}, num_resamples=0)
    splits = {"clean": Bare(), "near": Bare()}
    got = evaluate(dict.fromkeys(splits, given), splits, evaluation, CLASSES)
    assert got["detection"]["near"]["msp"]["auroc"] == 0.5
    assert not [key for key in got if "intervals" in key]


def scored(num_examples, num_classes, seed):
    rng = np.random.default_rng(seed)
    logits = 3 * rng.normal(size=(num_examples, num_classes)).astype(np.float32)
    labels = (logits + 3 * rng.normal(size=logits.shape)).argmax(axis=1).astype(np.int32)
    features = rng.normal(size=(num_examples, 2)).astype(np.float32)
    embeddings = np.ones((num_classes, 2), np.float32) / np.float32(np.sqrt(2))
    return Predictions(logits=logits, labels=labels, features=features, class_embeddings=embeddings)


@dataclasses.dataclass(kw_only=True)
class Counted(Score):
    """Minus the distance to the mean of the reference; counts its calls."""

    needs = frozenset({"features"})
    fit_needs = frozenset({"features", "labels"})
    offset: float = 0.0

    def fit(self, reference):
        return dataclasses.replace(self, offset=float(reference.features.mean()))

    def __call__(self, quantities):
        CALLS.append(self.offset)
        return -np.abs(quantities.features.mean(axis=1) - self.offset).astype(np.float64)


CALLS = []


def test_each_split_is_scored_once_and_a_score_added_later_alone():
    sizes = {"clean": 40, "near": 30, "far": 20}
    known = {name: scored(size, 3, size) for name, size in sizes.items()}
    splits = {name: Bare() for name in known}
    options = {"validation": None, "shifts": {}, "num_resamples": 5, "score": "msp"}
    whole = make(**options, scores={"msp": MSP(), "mean": Counted()})
    assert whole.needs_reference() and not make().needs_reference()
    reference = scored(50, 3, 0)
    CALLS.clear()
    of_all = score_splits(known, whole, reference=reference)
    record = evaluate(known, splits, whole, CLASSES, scored=of_all)
    np.testing.assert_allclose(CALLS, [reference.features.mean()] * 3)
    assert list(record["detection"]["near"]) == ["msp", "mean"]

    first = make(**options, scores={"msp": MSP()})
    of_first = score_splits(known, first)
    earlier = evaluate(known, splits, first, CLASSES, scored=of_first)
    CALLS.clear()
    of_whole = score_splits(known, whole, reference=reference, known=of_first)
    assert len(CALLS) == 3
    assert of_whole["near"]["msp"] is of_first["near"]["msp"]
    again = with_scores(earlier, of_whole, whole, same=["msp"])
    assert again == record
    assert score_splits(known, whole, known=of_whole) == of_whole  # all there: no reference needed
    message = "^evaluation.scores.mean: got no reference, expected features and labels of the train"
    with pytest.raises(ConfigError, match=message):
        evaluate(known, splits, whole, CLASSES)


def test_the_scores_are_the_config_s_own():
    known = {name: scored(20, 3, seed) for seed, name in enumerate(("clean", "near"))}
    options = {"validation": None, "shifts": {}, "far": {}, "num_resamples": 0}
    evaluation = make(**options, scores={"a": MSP(), "b": Energy(temperature=9.0)}, score="b")
    evaluation.validate()
    record = evaluate(known, {name: Bare() for name in known}, evaluation, CLASSES)
    found = record["detection"]["near"]
    assert list(found) == ["a", "b"] and found["a"] != found["b"]
    assert record["summary"]["near_auroc"] == found["b"]["auroc"]


def softmax(logits):
    exp = np.exp(logits.astype(np.float64))
    return exp / exp.sum(axis=1, keepdims=True)


def test_a_data_set_of_fewer_classes_is_calibrated_over_all_and_measured_over_its_own():
    groups = np.array([1, -1, 0, 1, -1], np.int32)  # its classes: c; a and d
    subset = scored(80, 5, 1)
    subset = Predictions(**{**vars(subset), "labels": np.where(subset.labels % 2, 3, 2)})
    known = {VALIDATION: scored(90, 5, 0), "clean": scored(50, 5, 2), "subset": subset}
    evaluation = make(
        shifts={"subset": Split(name="s")}, near={}, far={}, num_resamples=3, conformal_alpha=0.2
    )
    splits = {name: Bare(groups if name == "subset" else None) for name in known}
    record = evaluate(known, splits, evaluation, tuple("abcde"))
    temperature = TemperatureScaling().fit(known[VALIDATION].logits, known[VALIDATION].labels)
    scaled = record["calibrated"]["temperature"]
    assert scaled["parameters"] == {"temperature": pytest.approx(temperature.temperature)}
    for divisor, got in (
        (1.0, record["metrics"]["subset"]),
        (temperature.temperature, scaled["metrics"]["subset"]),
    ):
        logits = subset.logits / divisor
        own = softmax(np.stack([logits[:, 2], logits[:, [0, 3]].max(axis=1)], axis=1))
        labels = groups[subset.labels]
        assert got["accuracy"] == (own.argmax(axis=1) == labels).mean()
        assert got["nll"] == pytest.approx(-np.log(own[np.arange(80), labels]).mean())
        ece = calibration.expected_calibration_error(own, labels, num_bins=15)
        assert got["ece_15"] == pytest.approx(ece)
    assert {row["label"] for row in record["mistakes"]["subset"]} <= {"a", "c"}
    assert {row["prediction"] for row in record["examples"]["subset"]} <= {"a", "c"}
    assert record["conformal"]["alpha"] == 0.2
    assert record["conformal"]["thr"]["subset"]["mean_size"] <= 2
    assert record["metrics"]["clean"]["nll"] == pytest.approx(
        classification.negative_log_likelihood(known["clean"].logits, known["clean"].labels)
    )


def test_any_of_several_right_answers_counts_and_likelihoods_are_undefined():
    right = np.zeros((40, 4), bool)
    given = scored(40, 4, 3)
    right[np.arange(40), given.labels] = True
    right[:, 0] = True
    evaluation = make(validation=None, shifts={}, near={}, far={}, num_resamples=3)
    splits, names = {"clean": Bare(None, right)}, tuple("abcd")
    record = evaluate({"clean": given}, splits, evaluation, names)
    metrics = record["metrics"]["clean"]
    predicted = given.logits.argmax(axis=1)
    is_right = (predicted == given.labels) | (predicted == 0)
    assert metrics["accuracy"] == is_right.mean() > (predicted == given.labels).mean()
    ece = calibration.calibration_error(softmax(given.logits).max(axis=1), is_right, num_bins=15)
    assert metrics["ece_15"] == pytest.approx(ece)
    undefined = {key for key, value in metrics.items() if value is None}
    assert undefined == {
        "top5_accuracy",
        "balanced_accuracy",
        "macro_f1",
        "nll",
        "brier",
        "classwise_ece",
    }
    assert not undefined & set(record["intervals"]["clean"])
    assert all(row["prediction"] != "a" for row in record["mistakes"]["clean"])
    assert "calibrated" not in record and record["summary"]["ood_ece_calibrated"] is None


def of(split, share=(0.0, 1.0)):
    return Split(name="x", split=split, share=share)


@pytest.mark.parametrize(
    ("held_out", "reported", "is_shared"),
    [
        (of("train"), of("test"), False),
        (of("test"), of("test"), True),
        (of("test[:10%]"), of("test"), True),
        (of("test[:10%]"), of("test[10%:]"), False),
        (of("test[-10%:]"), of("test[:90%]"), False),
        (of("test[-10%:]"), of("test[:91%]"), True),
        (of("test[:5]"), of("test[5:10]"), False),
        (of("test[5:11]"), of("test[10:]"), True),
        (of("test[-5:]"), of("test[:-5]"), False),
        (of("test[-5:]"), of("test[:5]"), True),  # nobody knows how many there are
        (of("test[:10%]"), of("test[100:]"), True),
        (of("train+test[:5]"), of("test[:9]"), True),
        (of("train + test[:5]"), of("test[5:]"), False),
        (of("test", (0.0, 0.5)), of("test", (0.5, 1.0)), False),
        (of("test", (0.0, 0.6)), of("test", (0.5, 1.0)), True),
        (of("test"), Split(name="y"), False),
    ],
)
def test_calibrators_are_not_fitted_to_what_is_reported(held_out, reported, is_shared):
    evaluation = make(id_split=Split(name="z"), validation=held_out, shifts={"blurred": reported})
    if not is_shared:
        evaluation.validate()
        return
    with pytest.raises(ConfigError, match=r"evaluation.validation: got x\[.* with 'blurred'"):
        evaluation.validate()
    evaluation.calibrators = {}
    evaluation.validate()
