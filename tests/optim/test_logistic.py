"""Logistic regression against scikit-learn and closed forms; the grid against a loop.

All problems have one shape, so that the solver is compiled once: columns of zeros stand for fewer
features.
"""

import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.linear_model

from calib_jax.core.errors import ConfigError, DataError, TrainingError
from calib_jax.optim.logistic import LogisticRegression, choose_logistic, fit_logistic

N, D, C = 48, 60, 4
LIMITS = {"max_iterations": 1000, "tolerance": 1e-4}
ZERO = (jnp.zeros((D, C)), jnp.zeros(C))


def draw(seed, *, num_columns=D, noise=1.0):
    """Unit-norm features around a large common mean and a mean of each class, and the labels."""
    means = np.random.default_rng(9).normal(size=(C + 1, num_columns))
    rng = np.random.default_rng(seed)
    labels = np.arange(N) % C
    features = means[labels] + 2 * means[C] + 2 * noise * rng.normal(size=(N, num_columns))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return np.pad(features, ((0, 0), (0, D - num_columns))).astype(np.float32), labels


def objective(kernel, bias, features, labels, l2):
    """By loop, in float64."""
    total = 0.0
    for x, label in zip(np.float64(features), labels, strict=True):
        logits = x @ np.float64(kernel) + np.float64(bias)
        largest = logits.max()
        total += largest + np.log(np.exp(logits - largest).sum()) - logits[label]
    return total / len(labels) + l2 / 2 * (np.float64(kernel) ** 2).sum()


def minimum(features, labels, l2):
    """Scikit-learn's."""
    model = sklearn.linear_model.LogisticRegression(
        C=1 / (len(labels) * l2), tol=1e-10, max_iter=10_000, solver="newton-cg"
    )
    model.fit(np.float64(features), labels)
    return objective(model.coef_.T, model.intercept_, features, labels, l2), model


def probs(kernel, bias, features):
    logits = np.float64(features) @ np.float64(kernel) + np.float64(bias)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)


PROBLEMS = {
    "overlapping": draw(0, num_columns=5),
    "separable, d > n": draw(1),
    "duplicate rows": tuple(np.repeat(x[::3], 3, axis=0) for x in draw(2, num_columns=5)),
}


@pytest.mark.parametrize("l2", [1e-1, 1e-3, 1e-6])
@pytest.mark.parametrize("name", PROBLEMS)
def test_the_minimum_is_that_of_scikit_learn(name, l2):
    features, labels = PROBLEMS[name]
    fit = fit_logistic(features, labels, l2=l2, start=ZERO, **LIMITS)
    assert fit.converged and fit.num_iterations < 1000 and fit.l2 == l2
    best, model = minimum(features, labels, l2)
    got = objective(fit.kernel, fit.bias, features, labels, l2)
    np.testing.assert_allclose(got, best, rtol=1e-4)
    # Float32: the log of a probability near one is off by 1e-7.
    np.testing.assert_allclose(fit.objective, got, rtol=1e-5, atol=1e-7)
    expected = model.predict_proba(np.float64(features))
    np.testing.assert_allclose(probs(fit.kernel, fit.bias, features), expected, atol=5e-3)


def test_the_minimum_does_not_depend_on_the_start():
    features, labels = PROBLEMS["overlapping"]
    rng = np.random.default_rng(0)
    far = tuple(jnp.asarray(20 * rng.normal(size=x.shape), jnp.float32) for x in ZERO)
    first, second = (
        fit_logistic(features, labels, l2=1e-3, start=start, **LIMITS) for start in (ZERO, far)
    )
    np.testing.assert_allclose(first.objective, second.objective, rtol=1e-5)
    np.testing.assert_allclose(first.kernel, second.kernel, atol=0.02 * abs(first.kernel).max())


def test_a_fit_goes_on_from_another():
    features, labels = PROBLEMS["overlapping"]
    fit = fit_logistic(features, labels, l2=1e-3, start=ZERO, **LIMITS)
    again = fit_logistic(features, labels, l2=1e-3, start=(fit.kernel, fit.bias), **LIMITS)
    assert again.num_iterations == 1 < fit.num_iterations
    cut = fit_logistic(features, labels, l2=1e-3, start=ZERO, max_iterations=3, tolerance=1e-4)
    assert (cut.num_iterations, cut.converged) == (3, False)
    assert cut.objective > fit.objective


def test_a_class_without_examples_gets_no_probability():
    features, labels = PROBLEMS["overlapping"]
    labels = np.where(labels == 3, 0, labels)
    fit = fit_logistic(features, labels, l2=1e-3, start=ZERO, **LIMITS)
    assert fit.converged
    assert probs(fit.kernel, fit.bias, features)[:, 3].max() < 1e-3
    best, _ = minimum(features, labels, 1e-3)  # scikit-learn's has three classes
    np.testing.assert_allclose(fit.objective, best, rtol=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.125])
def test_equal_rows_get_the_frequencies_of_the_classes(value):
    """Also where they all are zero; the kernel stays zero, as the bias alone can say it."""
    labels = np.repeat(np.arange(C), [3, 9, 12, 24])
    features = np.full((N, D), value, np.float32)
    fit = fit_logistic(features, labels, l2=1e-3, start=ZERO, **LIMITS)
    assert fit.converged
    np.testing.assert_allclose(fit.kernel, 0.0, atol=1e-3)
    expected = np.array([3, 9, 12, 24]) / N
    np.testing.assert_allclose(probs(fit.kernel, fit.bias, features[:1])[0], expected, atol=1e-3)
    balanced = fit_logistic(features, np.arange(N) % C, l2=1e-3, start=ZERO, **LIMITS)
    assert balanced.converged  # at once: its gradient is zero
    np.testing.assert_allclose(balanced.objective, np.log(C), rtol=1e-6)


def test_the_fit_with_the_lowest_validation_nll_is_chosen():
    train, validation = draw(3, num_columns=20), draw(4, num_columns=20)
    grid = (1e-6, 1e-1, 1e-3, 1e-2)  # in any order
    best, candidates = choose_logistic(
        LogisticRegression(l2=grid), train, validation, num_classes=C
    )
    assert [candidate.fit.l2 for candidate in candidates] == [1e-1, 1e-2, 1e-3, 1e-6]
    for candidate in candidates:
        fit = candidate.fit
        np.testing.assert_allclose(
            objective(fit.kernel, fit.bias, *train, fit.l2),
            minimum(*train, fit.l2)[0],
            rtol=1e-4,
        )
        p = probs(fit.kernel, fit.bias, validation[0])
        nll = np.mean([-np.log(p[i, label]) for i, label in enumerate(validation[1])])
        np.testing.assert_allclose(candidate.validation_nll, nll, rtol=1e-5)
        assert candidate.validation_accuracy == np.mean(p.argmax(axis=1) == validation[1])
    losses = [candidate.validation_nll for candidate in candidates]
    assert best is candidates[int(np.argmin(losses))]
    assert 1e-6 < best.fit.l2 < 1e-1  # between the ends


def test_arrays_that_cannot_be_fitted():
    features, labels = PROBLEMS["overlapping"]
    settings, validation = LogisticRegression(l2=(1e-3,)), (features, labels)
    holes = np.where(np.arange(N)[:, None] == 7, np.nan, features).astype(np.float32)
    with pytest.raises(
        TrainingError,
        match=r"logistic regression: got an objective of nan .* at l2=0.001, expected finite",
    ):
        choose_logistic(settings, (holes, labels), validation, num_classes=C)
    with pytest.raises(DataError, match=r"logits: got nan at \[7, 0\], expected finite"):
        choose_logistic(settings, (features, labels), (holes, labels), num_classes=C)
    for wrong, index in ((C, 5), (-1, 0)):
        outside = np.where(np.arange(N) == index, wrong, labels)
        message = rf"labels: got {wrong} at \[{index}\], expected a class in \[0, 4\). Number"
        with pytest.raises(DataError, match=message):
            choose_logistic(settings, (features, outside), validation, num_classes=C)
    with pytest.raises(DataError, match="features: got 0 examples, expected at least 1"):
        choose_logistic(settings, (features[:0], labels[:0]), validation, num_classes=C)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"l2": ()}, r"l2: got \(\), expected one or more finite numbers > 0. Correct it."),
        ({"l2": (1e-3, 0.0)}, r"l2: got \(0.001, 0.0\), expected one or more"),
        ({"l2": (float("nan"),)}, r"l2: got \(nan,\), expected one or more"),
        ({"max_iterations": 0}, "max_iterations: got 0, expected at least 1. Set 1000."),
        ({"tolerance": 0.0}, "tolerance: got 0.0, expected a finite number > 0. Set 1e-4."),
        ({"tolerance": float("inf")}, "tolerance: got inf, expected a finite number > 0."),
    ],
)
def test_settings_out_of_range(changes, message):
    with pytest.raises(ConfigError, match=message):
        LogisticRegression(**changes).validate(100)
    LogisticRegression().validate(0)
