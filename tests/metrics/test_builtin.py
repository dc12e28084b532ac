"""The metrics of every record: a statistic of each example drawn once is the metric."""

import numpy as np
import pytest

from calib_jax.core.errors import DataError
from calib_jax.metrics import builtin
from calib_jax.metrics.metric import SplitView
from calib_jax.metrics.outcomes import of_logits

RNG = np.random.default_rng(0)
LOGITS, LABELS = RNG.standard_normal((90, 7)), RNG.integers(0, 7, 90)


def view(num_bins=5):
    exponentials = np.exp(LOGITS)
    probs = exponentials / exponentials.sum(axis=1, keepdims=True)
    outcomes = of_logits(LOGITS, LABELS, num_bins=num_bins)
    return SplitView(outcomes=outcomes, num_bins=num_bins, probs=lambda: probs)


@pytest.mark.parametrize("key", builtin.in_bins(5))
def test_a_statistic_is_the_metric_where_each_example_is_drawn_once(key):
    metric, bins = builtin.in_bins(5)[key]
    if metric.statistic is None:
        assert key == "ece_10_per_batch_512"
        return
    # The class-wise bins of a pass are those of the record.
    of = view(bins)
    once = metric.statistic(of).of_counts(np.ones((1, 90)))
    np.testing.assert_allclose(once, [metric.value(of)], rtol=1e-9)
    np.testing.assert_allclose(builtin.values(view())[key], metric.value(view(bins)), rtol=1e-12)


def test_resamples_of_the_classwise_error_need_probabilities():
    bare = SplitView(outcomes=view().outcomes, num_bins=5)
    assert builtin.BUILTIN["classwise_ece"].value(bare) > 0
    with pytest.raises(DataError, match="^probs: got None, expected a function"):
        builtin.BUILTIN["classwise_ece"].statistic(bare)
