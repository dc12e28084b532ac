"""Quantities are made once, when asked for, and by those who may."""

import numpy as np
import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.scores import quantities as module
from calib_jax.scores.quantities import Quantities

LOGITS = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)


class Made:
    def __init__(self):
        self.num_calls = 0

    def __call__(self):
        self.num_calls += 1
        return LOGITS


def test_what_is_made_is_made_once_for_all_who_see_it():
    made = Made()
    whole = Quantities(similarities=made)
    assert made.num_calls == 0
    views = [whole.only({"similarities"}) for _ in range(2)]
    for one in (whole, *views):
        assert one.similarities is LOGITS
    assert made.num_calls == 1


@pytest.mark.parametrize(
    "name",
    ["logits", "similarities", "features", "patches", "class_bank", "negative_bank", "labels"],
)
def test_every_quantity_is_what_was_given(name):
    shape = {"patches": (2, 3, 4), "labels": (2,)}.get(name, (2, 3))
    array = np.zeros(shape, np.int32 if name == "labels" else np.float32)
    assert getattr(Quantities(**{name: array}), name) is array
    with pytest.raises(ConfigError, match=f"^quantities: got no '{name}', expected nothing. Give"):
        getattr(Quantities(), name)


def test_a_score_sees_what_it_says_it_needs():
    view = Quantities(logits=LOGITS, features=LOGITS).only({"features"})
    message = (
        r"^quantities: got a score that reads 'logits', expected features, which it says it needs. "
        r"Add 'logits' to its `needs`.$"
    )
    for read in (
        lambda: view.logits,
        lambda: view.largest("logits"),
        lambda: view.sum_exp_from_largest("logits"),
    ):
        with pytest.raises(ConfigError, match=message):
            read()


def test_one_pass_serves_all_who_ask_at_a_temperature(monkeypatch):
    passes, original = [], module.numerics.max_and_sum_exp

    def counted(values, *, temperature):
        passes.append(temperature)
        return original(values, temperature=temperature)

    monkeypatch.setattr(module.numerics, "max_and_sum_exp", counted)
    whole, expected = Quantities(logits=LOGITS), LOGITS.max(axis=1).astype(np.float64)
    np.testing.assert_array_equal(whole.largest("logits"), expected)
    for temperature in (1.0, 0.5, 1.0):
        sums = whole.only({"logits"}).sum_exp_from_largest("logits", temperature=temperature)
        by_hand = np.exp((LOGITS.astype(np.float64) - expected[:, None]) / temperature).sum(axis=1)
        np.testing.assert_allclose(sums, by_hand)
    assert passes == [1.0, 0.5]
    np.testing.assert_array_equal(whole.largest("logits"), expected)


def test_missing():
    assert Quantities(logits=LOGITS).missing({"patches", "logits", "features"}) == [
        "features",
        "patches",
    ]
