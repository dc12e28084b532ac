import numpy as np
import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.core.types import Predictions
from calib_jax.data.datasets.records import Split
from calib_jax.evaluation.evaluate import VALIDATION, Evaluation, evaluate
from calib_jax.evaluation.predict import Predictor

CLASSES = ("a", "b", "c")


class Known(Predictor):
    """Says what it was made with."""

    def __init__(self, known):
        self.known = known

    def __call__(self, params, splits, *, limit=None, bar=None):
        return self.known


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
        ({"near": {"far": Split(name="n")}}, r"the name 'far' stands for two splits"),
        ({"id_name": VALIDATION}, r"the name 'validation' stands for two splits"),
        ({"num_examples": -1}, r"evaluation.num_examples: got -1, expected at least 0"),
    ],
)
def test_mistakes(changes, message):
    with pytest.raises(ConfigError, match=message):
        make(**changes).validate()


def test_record_of_known_predictions():
    """Right on clean images, on half of the shifted ones, and sure of what is inside."""
    evaluation = make()
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
    record = evaluate(Known(known), {}, {}, evaluation, CLASSES)
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
