"""The catalogue: every number is in it, what is not is refused, what it says is true."""

import numpy as np
import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.metrics import bootstrap, bootstrap_detection, builtin, catalogue, detection
from calib_jax.metrics.metric import BINS, Metric, SplitView
from calib_jax.metrics.outcomes import of_logits

RNG = np.random.default_rng(0)
LOGITS, LABELS = RNG.standard_normal((90, 7)), RNG.integers(0, 7, 90)


def view(num_bins=5):
    exponentials = np.exp(LOGITS)
    probs = exponentials / exponentials.sum(axis=1, keepdims=True)
    outcomes = of_logits(LOGITS, LABELS, num_bins=num_bins)
    return SplitView(outcomes=outcomes, num_bins=num_bins, probs=lambda: probs)


def error_rate(of):
    return 1 - float(of.outcomes.correct.mean())


def error_rates(of):
    return bootstrap.mean(~of.outcomes.correct)


ERROR = Metric(title="error", direction="lower", value=error_rate, statistic=error_rates)


@pytest.mark.parametrize(
    ("key", "better"),
    [
        ("accuracy", "higher"),
        ("top5_accuracy", "higher"),
        ("auroc", "higher"),
        ("aupr_ood", "higher"),
        ("ece_15", "lower"),
        ("adaptive_ece", "lower"),
        ("mce", "lower"),
        ("nll", "lower"),
        ("fpr95_id_positive", "lower"),
        ("mean_confidence", "neither"),
    ],
)
def test_the_better_side_of_each_metric(key, better):
    assert catalogue.of(key).direction == better


@pytest.mark.parametrize(
    ("key", "heading"),
    [
        ("nll", "NLL ↓"),
        ("debiased_ece_15", "debiased ECE 15 ↓"),
        (
            "ece_10_per_batch_512",
            "ECE_10_averaged over_batches_of_512, only_to_compare with_papers ↓".replace(
                "_", "\N{NO-BREAK SPACE}"
            ),
        ),
        ("macro_f1", "macro F1 ↑"),
        ("brier_resolution", "Brier resolution ↑"),
        ("brier_uncertainty", "Brier uncertainty"),
        ("aurc", "AURC ↓"),
        ("ks", "KS error ↓"),
    ],
)
def test_headings_of_metrics(key, heading):
    assert catalogue.of(key).heading == heading


def test_the_detection_numbers_are_those_of_both_ways_to_make_them():
    id_scores, ood_scores = RNG.standard_normal(50) + 1, RNG.standard_normal(40)
    values = detection.detection(id_scores, ood_scores)
    assert list(values) == list(catalogue.DETECTION)
    drawn = bootstrap_detection.detections(
        {"mine": (id_scores, ood_scores)}, num_resamples=2, seed=(0, 1)
    )
    assert list(drawn["mine"]) == list(catalogue.DETECTION)
    for key, metric in catalogue.DETECTION.items():
        once = metric.statistic(id_scores, ood_scores).of_counts(np.ones((1, 90)))
        np.testing.assert_allclose(once, [values[key]], rtol=1e-9)


def test_a_key_carries_its_number_of_bins():
    assert catalogue.of("ece_7").title == "ECE 7"
    assert catalogue.of("debiased_ece_20").title == "debiased ECE 20"
    assert list(builtin.in_bins(7))[6:10] == ["ece_10", "ece_7", "ece_7_l2", "debiased_ece_7"]
    assert list(builtin.in_bins(10)).count("ece_10") == 1
    assert all(BINS not in key for key in builtin.in_bins(7))


@pytest.mark.parametrize(
    ("key", "hint"),
    [("acuracy", " Did you mean 'accuracy'?"), ("ece_x", "Did you mean 'ece_15'"), ("{bins}", "")],
)
def test_an_unknown_key_is_refused(key, hint):
    with pytest.raises(ConfigError, match=f"number: got '{key}', expected a key .*{hint}"):
        catalogue.of(key)
    with pytest.raises(ConfigError, match="number: got 'accuracy'"):
        catalogue.of("accuracy", catalogue.SUMMARY)


def test_a_metric_of_a_config_has_a_key_of_its_own():
    catalogue.check_own({"error": ERROR}, where="evaluation.metrics")
    message = "^evaluation.metrics: the key 'ece_12' is taken, by a number that every record has"
    with pytest.raises(ConfigError, match=message):
        catalogue.check_own({"error": ERROR, "ece_12": ERROR}, where="evaluation.metrics")
    found = builtin.values(view(), {"error": ERROR})
    assert list(found)[-1] == "error" and found["error"] == 1 - found["accuracy"]


def test_titles_are_whole_and_numbers_are_shown_in_their_unit():
    groups = (catalogue.RECORD, catalogue.THEORY, catalogue.COMPARISON)
    for quantity in (quantity for group in groups for quantity in group.values()):
        assert quantity.title and quantity.heading.startswith(quantity.title)
        assert quantity.sign == {"higher": 1, "lower": -1, "neither": 0}[quantity.direction]
    assert (catalogue.of("accuracy").scale, catalogue.of("accuracy").shown_decimals) == (100, 1)
    assert (catalogue.of("nll").scale, catalogue.of("nll").shown_decimals) == (1, 3)
    # Sampling noise raises every calibration error but the one that takes it off.
    biased = {key for key, one in catalogue.BUILTIN.items() if one.biased}
    assert biased == {
        *("ece_{bins}", "ece_{bins}_l2", "adaptive_ece", "classwise_ece"),
        *("mce", "smooth_ece", "ks"),
    }
