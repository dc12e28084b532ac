import numpy as np
import pytest
import scipy.optimize
import sklearn.linear_model

from calib_jax.calibrators import scaling
from calib_jax.calibrators.scaling import (
    AffineMap,
    DirichletMap,
    DirichletScaling,
    MatrixScaling,
    VectorScaling,
)
from calib_jax.core import numerics
from calib_jax.core.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
TRUE = RNG.normal(size=(300, 3))
LABELS = (TRUE + RNG.gumbel(size=TRUE.shape)).argmax(axis=1)
# As CLIP's: all near one large number.
LOGITS = 3 * TRUE + np.array([0.0, 1.0, -1.0]) + 20


def nll(probs, labels=LABELS):
    return -np.log(probs[np.arange(len(labels)), labels]).mean()


def odir_by_loop(weight, bias, off_diagonal, intercept):
    c, total = len(bias), 0.0
    for i in range(c):
        for j in range(c):
            if i != j:
                total += off_diagonal * weight[i, j] ** 2 / (c * (c - 1))
        total += intercept * bias[i] ** 2 / c
    return total


def test_applied():
    weight, bias = np.arange(9.0).reshape(3, 3), np.array([1.0, 0.0, -1.0])
    loop = np.array([[weight[k] @ row + bias[k] for k in range(3)] for row in LOGITS])
    np.testing.assert_allclose(AffineMap(weight=weight, bias=bias).logits(LOGITS), loop)
    np.testing.assert_allclose(
        AffineMap(weight=weight[0], bias=bias).logits(LOGITS), LOGITS * weight[0] + bias
    )
    np.testing.assert_allclose(
        DirichletMap(weight=weight, bias=bias).logits(LOGITS),
        AffineMap(weight=weight, bias=bias).logits(numerics.log_softmax(LOGITS)),
    )
    with pytest.raises(DataError, match="got 2 classes, expected 3 as in the fit"):
        AffineMap(weight=weight, bias=bias).probs(LOGITS[:, :2])


@pytest.mark.parametrize("shape", [(3,), (3, 3)])
def test_gradients_by_finite_differences(shape):
    rng = np.random.default_rng(1)
    weight, bias = rng.normal(size=shape), rng.normal(size=3)
    penalty = scaling._odir(0.7, 0.3)

    def value(weight, bias):
        found = scaling._likelihood(LOGITS - 20, LABELS, weight, bias)
        penalised = penalty(weight, bias)
        return found[0] + penalised[0], found[1] + penalised[1], found[2] + penalised[2]

    _, by_weight, by_bias = value(weight, bias)
    eps = 1e-6
    for gradient, which in ((by_weight, 0), (by_bias, 1)):
        for index in np.ndindex(gradient.shape):
            ends = []
            for sign in (1, -1):
                params = [weight.copy(), bias.copy()]
                params[which][index] += sign * eps
                ends.append(value(*params)[0])
            assert (ends[0] - ends[1]) / (2 * eps) == pytest.approx(gradient[index], abs=1e-7)


@pytest.mark.parametrize("config", [MatrixScaling, DirichletScaling])
def test_without_penalty_it_is_multinomial_regression(config):
    features = TRUE if config is MatrixScaling else numerics.log_softmax(LOGITS)
    model = sklearn.linear_model.LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000)
    expected = nll(model.fit(features, LABELS).predict_proba(features))
    fitted = config(off_diagonal=0.0, intercept=0.0).fit(LOGITS, LABELS)
    assert nll(fitted.probs(LOGITS)) == pytest.approx(expected, abs=1e-8)


def test_vector_is_logistic_regression_of_two_classes():
    labels = np.minimum(LABELS, 1)
    model = sklearn.linear_model.LogisticRegression(C=np.inf, tol=1e-10, max_iter=10_000)
    expected = model.fit(TRUE[:, :2], labels).predict_proba(TRUE[:, :2])
    fitted = VectorScaling(intercept=0.0).fit(LOGITS[:, :2], labels)
    assert nll(fitted.probs(LOGITS[:, :2]), labels) == pytest.approx(nll(expected, labels))


def test_vector_recovers_a_planted_map():
    weight, bias = np.array([0.5, 1.0, 2.0]), np.array([1.0, -1.0, 0.0])
    rng = np.random.default_rng(2)
    logits = rng.normal(size=(20_000, 3))
    labels = (logits * weight + bias + rng.gumbel(size=logits.shape)).argmax(axis=1)
    fitted = VectorScaling(intercept=0.0).fit(logits, labels)
    assert fitted.weight == pytest.approx(weight, abs=0.1)
    assert fitted.bias - fitted.bias[2] == pytest.approx(bias, abs=0.1)


@pytest.mark.parametrize("config", [MatrixScaling, DirichletScaling])
def test_odir_against_an_independent_minimiser(config):
    features = LOGITS if config is MatrixScaling else numerics.log_softmax(LOGITS)

    def objective(params):
        weight, bias = params[:9].reshape(3, 3), params[9:]
        probs = numerics.softmax(features @ weight.T + bias)
        return nll(probs) + odir_by_loop(weight, bias, 0.5, 0.2)

    fitted = config(off_diagonal=0.5, intercept=0.2).fit(LOGITS, LABELS)
    params = np.concatenate([fitted.weight.ravel(), fitted.bias])
    better = scipy.optimize.minimize(objective, params, method="BFGS")
    assert objective(params) == pytest.approx(better.fun, abs=1e-8)


def test_strong_penalties_leave_the_diagonal():
    fitted = MatrixScaling(off_diagonal=1e6, intercept=1e6).fit(LOGITS - 20, LABELS)
    assert np.abs(fitted.weight - np.diag(np.diag(fitted.weight))).max() < 1e-5
    assert np.abs(fitted.bias).max() < 1e-5
    assert np.diag(fitted.weight).min() > 0.1


def test_an_absent_class_keeps_a_finite_bias():
    fitted = VectorScaling().fit(LOGITS, np.minimum(LABELS, 1))
    assert np.abs(fitted.bias).max() < 50
    assert fitted.probs(LOGITS)[:, 2].max() < 0.2


def test_bad_settings():
    with pytest.raises(ConfigError, match="^intercept: got -1.0, expected a finite number >= 0"):
        VectorScaling(intercept=-1.0).fit(LOGITS, LABELS)
    with pytest.raises(ConfigError, match="^off_diagonal: got inf, expected a finite number >= 0"):
        DirichletScaling(off_diagonal=np.inf).fit(LOGITS, LABELS)


@pytest.mark.parametrize("config", [VectorScaling, MatrixScaling, DirichletScaling])
@pytest.mark.parametrize(
    ("num_examples", "num_classes", "is_one_class"),
    [(30, 10, False), (2000, 5, True)],
    ids=["few examples", "one class"],
)
def test_the_minimum_to_1e_8(config, num_examples, num_classes, is_one_class, monkeypatch):
    """Against L-BFGS that remembers more and stops at rounding."""
    rng = np.random.default_rng(0)
    logits = 3 * rng.normal(size=(num_examples, num_classes))
    labels = (logits + 2 * rng.normal(size=logits.shape)).argmax(axis=1)
    if is_one_class:
        labels[:] = 0
    values, options, minimize = [], {}, scipy.optimize.minimize

    def watched(*args, **kwargs):
        found = minimize(*args, **kwargs | {"options": kwargs["options"] | options})
        values.append(found.fun)
        return found

    monkeypatch.setattr(scaling.scipy.optimize, "minimize", watched)
    config().fit(logits, labels)
    options |= {"gtol": 1e-12, "ftol": 0.0, "maxiter": 5000, "maxfun": 10**4, "maxcor": 50}
    config().fit(logits, labels)
    assert values[0] - values[1] < 1e-8
