"""Scores of splits, each once, and what comes of them, against pairs and resamples one by one."""

import zlib

import numpy as np
import pytest

from calib_jax.core.errors import ConfigError, DataError
from calib_jax.core.types import Predictions
from calib_jax.evaluation import detection as module
from calib_jax.evaluation.detection import (
    detection_record,
    known_of,
    quantities_of,
    score_split,
)
from calib_jax.metrics import detection
from calib_jax.scores.energy import Energy
from calib_jax.scores.max_logit import MaxLogit
from calib_jax.scores.max_similarity import MaxSimilarity
from calib_jax.scores.mcm import MCM
from calib_jax.scores.msp import MSP
from calib_jax.scores.score import Score

RNG = np.random.default_rng(0)
CLASSES = np.linalg.qr(RNG.normal(size=(6, 4)))[0].T
SCORES = {
    "msp": MSP(),
    "max_logit": MaxLogit(),
    "energy": Energy(),
    "mcm": MCM(),
    "sharp": MCM(temperature=0.01),
    "max_similarity": MaxSimilarity(),
}


def split_near(classes, noise, count):
    """Features around some of the class embeddings; logits are 10 times their cosines."""
    features = 3 * (CLASSES[classes] + noise * RNG.normal(size=(count, 6)))
    cosines = features / np.linalg.norm(features, axis=1, keepdims=True) @ CLASSES.T
    return Predictions(
        logits=10 * cosines,
        labels=np.zeros(count, np.int32),
        features=features,
        class_embeddings=CLASSES,
    )


ID_SET = split_near(RNG.integers(4, size=50), 0.1, 50)
OOD_SET = split_near(RNG.integers(4, size=30), 1.0, 30)
OTHER_SET = split_near(RNG.integers(4, size=17), 0.5, 17)
SCORED = {
    name: score_split(SCORES, quantities_of(one))
    for name, one in (("id", ID_SET), ("ood", OOD_SET), ("other", OTHER_SET))
}
RESAMPLES = {"num_resamples": 8, "id_seed": 3}
MEANS = {"near_auroc": ("ood", "other"), "far_auroc": ()}


def record(scored=SCORED, **changes):
    options = {"id_name": "id", "table_score": "mcm", "means": MEANS, **RESAMPLES}
    return detection_record(scored, **{**options, **changes})


def auroc_by_pairs(id_scores, ood_scores):
    pairs = [(i > o) + 0.5 * (i == o) for i in id_scores for o in ood_scores]
    return sum(pairs) / len(pairs)


@pytest.mark.parametrize("name", SCORES)
def test_auroc_is_the_share_of_pairs_in_order(name):
    got = record()["detection"]["ood"][name]
    assert got["auroc"] == pytest.approx(auroc_by_pairs(SCORED["id"][name], SCORED["ood"][name]))
    assert got["auroc"] > 0.8


@pytest.mark.parametrize("name", SCORES)
def test_the_better_known_split_scores_higher(name):
    swapped = record(id_name="ood", means={})["detection"]["id"][name]
    assert swapped["auroc"] == pytest.approx(1 - record()["detection"]["ood"][name]["auroc"])
    same = record({"id": SCORED["id"], "x": SCORED["id"]}, means={})["detection"]["x"][name]
    assert same["auroc"] == 0.5


def test_scores_of_similarities_do_not_look_at_the_logits():
    """A linear head has logits of any scale; MCM takes cosines."""
    other = Predictions(
        logits=np.zeros_like(ID_SET.logits),
        labels=ID_SET.labels,
        features=ID_SET.features,
        class_embeddings=CLASSES,
    )
    found = score_split(SCORES, quantities_of(other))
    for name in ("mcm", "sharp", "max_similarity"):
        np.testing.assert_array_equal(found[name], SCORED["id"][name])
    expected = ID_SET.logits.max(axis=1) / 10
    np.testing.assert_allclose(found["max_similarity"], expected, rtol=1e-12)


def test_numbers_of_every_score_by_explicit_resampling():
    drawn = {
        name: module.resampled(SCORED["id"], SCORED[name], name=name, **RESAMPLES)
        for name in ("ood", "other")
    }
    got = record()
    for name, count in (("ood", 30), ("other", 17)):
        of_id, of_ood = np.random.default_rng(3), np.random.default_rng(zlib.crc32(name.encode()))
        rows = [(of_id.integers(50, size=50), of_ood.integers(count, size=count)) for _ in range(8)]
        for score in SCORES:
            expected = [
                detection.detection(SCORED["id"][score][a], SCORED[name][score][b]) for a, b in rows
            ]
            for key, values in drawn[name][score].items():
                by_hand = [one[key] for one in expected]
                np.testing.assert_allclose(values, by_hand, rtol=0, atol=1e-12, err_msg=key)
                ends = np.quantile(by_hand, [0.025, 0.975])
                np.testing.assert_allclose(got["detection_intervals"][name][score][key], ends)
    mean = np.mean([drawn[name]["mcm"]["auroc"] for name in ("ood", "other")], axis=0)
    assert got["summary_intervals"] == {
        "near_auroc": pytest.approx(np.quantile(mean, [0.025, 0.975]))
    }


def subset(scores=SCORES, names=("ood", "other")):
    return {name: {score: SCORED[name][score] for score in scores} for name in ("id", *names)}


@pytest.mark.parametrize(
    ("scores", "names"),
    [
        (["msp", "mcm"], ["ood", "other"]),
        (["msp"], ["ood", "other"]),
        (list(SCORES), ["other"]),
        (["energy"], ["other"]),
    ],
)
def test_what_is_added_later_is_what_would_have_been_computed_at_once(monkeypatch, scores, names):
    means = {"near_auroc": tuple(names)}
    table = "mcm" if "mcm" in scores else scores[0]
    first = record(subset(scores, names), table_score=table, means=means)
    assert list(first["detection"]) == names
    computed, original = [], module.detection

    def counted(*pair):
        computed.append(pair)
        return original(*pair)

    monkeypatch.setattr(module, "detection", counted)
    assert record(known=first) == record()
    num_all = 2 * len(SCORES)
    assert len(computed) == num_all - len(scores) * len(names) + num_all
    computed.clear()
    assert record(known=record()) == record()
    assert len(computed) == 2 * num_all


def test_a_score_of_other_settings_is_computed_again():
    other = {name: {**of, "sharp": of["mcm"]} for name, of in SCORED.items()}
    earlier = known_of(record(), [name for name in SCORES if name != "sharp"])
    assert "sharp" not in earlier["detection"]["ood"]
    assert "sharp" not in earlier["detection_intervals"]["other"]
    assert record(other, known=earlier) == record(other) != record()
    assert known_of(record(num_resamples=0), ["msp"]).keys() == {"detection"}


def test_a_score_that_is_gone_is_in_no_record():
    assert list(record(subset(["mcm"]), known=record())["detection"]["ood"]) == ["mcm"]


def test_without_resamples_or_sets_there_are_no_intervals():
    plain = record(num_resamples=0)
    assert list(plain) == ["detection"] and plain["detection"] == record()["detection"]
    assert record(known=plain) == record()
    assert record({"id": SCORED["id"]}, means={}) == {"detection": {}}
    assert record(num_resamples=0, known=record()) == plain


def test_a_score_that_is_not_finite_is_refused():
    class Broken(Score):
        def __call__(self, quantities):
            return np.array([0.0, np.inf, np.nan])

    message = (
        r"^score broken: got inf at \[1\], expected finite numbers. Look at the predictions of"
    )
    with pytest.raises(DataError, match=message):
        score_split({"broken": Broken()}, quantities_of(ID_SET))


def test_labels_are_those_of_a_reference():
    assert quantities_of(ID_SET, labelled=True).labels is ID_SET.labels
    with pytest.raises(ConfigError, match="got no 'labels'"):
        _ = quantities_of(ID_SET).labels
