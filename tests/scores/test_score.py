"""What is fitted, and what is refused."""

import dataclasses
from typing import ClassVar

import numpy as np
import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.scores.energy import Energy
from calib_jax.scores.mcm import MCM
from calib_jax.scores.msp import MSP
from calib_jax.scores.quantities import Quantities
from calib_jax.scores.score import Score, check_quantities, fitted


@dataclasses.dataclass(kw_only=True)
class NearestMean(Score):
    """Minus the distance to the nearest class mean; higher = in-distribution."""

    needs: ClassVar[frozenset[str]] = frozenset({"features"})
    fit_needs: ClassVar[frozenset[str]] = frozenset({"features", "labels"})

    def fit(self, reference):
        labels = reference.labels
        means = [reference.features[labels == label].mean(axis=0) for label in np.unique(labels)]
        return FittedNearestMean(means=np.stack(means))


@dataclasses.dataclass(kw_only=True)
class FittedNearestMean(NearestMean):
    means: np.ndarray

    def __call__(self, quantities):
        away = np.linalg.norm(quantities.features[:, None] - self.means, axis=-1)
        return -away.min(axis=1).astype(np.float64)


FEATURES = np.array([[0.0, 0.0], [2.0, 0.0], [9.0, 9.0]])
SCORES = {"near": NearestMean(), "msp": MSP()}


def test_what_has_statistics_is_fitted_and_the_rest_is_as_it_was():
    reference = Quantities(features=FEATURES, labels=np.array([0, 0, 1]))
    found = fitted(SCORES, reference)
    assert found["msp"] is SCORES["msp"]
    of_features = Quantities(features=np.array([[1.0, 3.0], [9.0, 8.0]]))
    np.testing.assert_allclose(found["near"](of_features), [-3.0, -1.0])


def test_without_what_it_is_fitted_to_it_is_refused():
    message = r"^evaluation.scores.near: got no reference, expected features and labels of the trai"
    with pytest.raises(ConfigError, match=message):
        fitted(SCORES, None)
    assert fitted({"msp": SCORES["msp"]}, None) == {"msp": SCORES["msp"]}
    message = r"^mine.near: got no labels of the reference, expected features and labels. Remove th"
    with pytest.raises(ConfigError, match=message):
        fitted(SCORES, Quantities(features=FEATURES), where="mine")


def test_what_is_absent_is_refused_by_the_names_of_score_and_quantity():
    check_quantities(SCORES, Quantities(features=FEATURES, logits=FEATURES))
    message = r"^evaluation.scores.msp: got no logits of the split, expected logits. Remove the sco"
    with pytest.raises(ConfigError, match=message):
        check_quantities(SCORES, Quantities(features=FEATURES))


def test_a_score_defines_its_call():
    with pytest.raises(NotImplementedError, match="Score must define __call__"):
        Score()(Quantities())


@pytest.mark.parametrize("kind", [Energy, MCM])
@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf"), float("nan")])
def test_temperatures_out_of_range(kind, temperature):
    with pytest.raises(ConfigError, match=f"^temperature: got {temperature}, expected a finite"):
        kind(temperature=temperature).validate()
