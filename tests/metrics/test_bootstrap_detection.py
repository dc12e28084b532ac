"""All detection numbers of resamples, against resamples drawn one by one."""

import numpy as np
import pytest

from calib_jax.core import errors
from calib_jax.metrics import bootstrap, detection
from calib_jax.metrics import bootstrap_detection as module
from calib_jax.metrics.bootstrap_detection import NUMBERS, Ranked, detections
from calib_jax.metrics.bootstrap_detection import detection as resampled

N = 50
RNG = np.random.default_rng(0)
SETS = {
    "tied": (RNG.normal(size=N).round(1), RNG.normal(-0.5, size=30).round(1)),
    "distinct": (RNG.normal(size=N), RNG.normal(-0.5, size=30)),
    "apart": (RNG.normal(size=N) + 99, RNG.normal(size=30)),
    "upside down": (RNG.normal(size=N) - 99, RNG.normal(size=30)),
    "all one": (np.ones(N), np.ones(30)),
}


def resamples(pair, num_resamples, seed):
    """Pairs of ID and OOD scores, drawn from a stream each."""
    rng = np.random.default_rng(seed)
    (of_ood,) = rng.spawn(1)
    for _ in range(num_resamples):
        yield pair[0][rng.integers(N, size=N)], pair[1][of_ood.integers(30, size=30)]


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("rows", [1, 3, 999])
def test_all_detection_numbers_by_explicit_resampling(monkeypatch, name, rows):
    monkeypatch.setattr(bootstrap, "BLOCK_ELEMENTS", rows * 80)
    found = resampled(*SETS[name], num_resamples=20, seed=5)
    expected = [detection.detection(*scores) for scores in resamples(SETS[name], 20, seed=5)]
    assert list(found) == list(expected[0])
    for key, values in found.items():
        by_hand = [one[key] for one in expected]
        np.testing.assert_allclose(values, by_hand, rtol=0, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("name", SETS)
def test_all_examples_once_give_the_numbers_themselves(name):
    of_id, of_ood = SETS[name]
    found = Ranked(of_id, of_ood).numbers(np.ones(N), np.ones(30))
    expected = detection.detection(of_id, of_ood)
    assert dict(zip(NUMBERS, found, strict=True)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("num_examples", [1, 2, 3, 19, 20, 21, 40, 99, 100, 12345])
def test_the_fewest_that_are_a_share(num_examples):
    counts = np.arange(num_examples + 1)
    assert module._fewest(num_examples) == counts[counts / num_examples >= 0.95][0]


def test_several_scores_are_drawn_as_each_alone():
    options = {"num_resamples": 7, "seed": (3, 10)}
    together = detections(SETS, **options)
    assert list(together) == list(SETS)
    for name, pair in SETS.items():
        alone = resampled(*pair, **options)
        for key, values in together[name].items():
            np.testing.assert_array_equal(values, alone[key])
    assert detections({}, **options) == {}


def test_bad_input():
    of_id, of_ood = SETS["tied"]
    with pytest.raises(errors.DataError, match="id_scores: got 0 examples"):
        resampled(of_id[:0], of_ood)
    with pytest.raises(errors.DataError, match=r"ood_scores: got nan at \[0\], expected finite"):
        resampled(of_id, np.full(3, np.nan))
    with pytest.raises(errors.ConfigError, match="num_resamples: got 1, expected at least 2"):
        resampled(of_id, of_ood, num_resamples=1)
    message = r"pairs: got ID and OOD examples \(50, 29\) and \(50, 30\), expected those of one"
    with pytest.raises(errors.DataError, match=message):
        detections({"a": SETS["tied"], "b": (of_id, of_ood[1:])})
