"""The toy data by its moments; the networks against NumPy in float64."""

import numpy as np
import pytest

from calib_jax.theory import toy

DIMS = (3, 2, 4)
MEAN, FLIPS = 0.6, 0.15
SAMPLE = toy.draw(np.random.default_rng(0), 40_000, DIMS, class_mean=MEAN, flip_rate=FLIPS)
OOD = toy.shift(SAMPLE, DIMS, class_mean=MEAN, scale=0.5)
NOISE = 4 / np.sqrt(40_000)  # four standard errors
NEAR = {"rtol": 0, "atol": 1.5 * NOISE}


def moments(sample):
    """Mean of each class and the variance within the classes, of every input."""
    groups = [sample.inputs[sample.classes == k].astype(np.float64) for k in (0, 1)]
    return [g.mean(0) for g in groups], [g.var(0) for g in groups]


def label_correlation(sample):
    return np.array([np.corrcoef(column, sample.labels)[0, 1] for column in sample.inputs.T])


def test_the_blocks_in_training():
    (low, high), variances = moments(SAMPLE)
    expected = np.array([MEAN] * 5 + [0.0] * 4)
    np.testing.assert_allclose(high, expected, **NEAR)
    np.testing.assert_allclose(low, -expected, **NEAR)
    np.testing.assert_allclose(variances, np.ones((2, 9)), rtol=0, atol=2 * NOISE)
    # Of a label that is right with probability 1 - f and an input of variance 1 + m^2.
    informed = (1 - 2 * FLIPS) * MEAN / np.sqrt(1 + MEAN**2)
    np.testing.assert_allclose(label_correlation(SAMPLE), [informed] * 5 + [0.0] * 4, **NEAR)
    assert SAMPLE.inputs.dtype == np.float32


def test_the_labels():
    assert abs(SAMPLE.classes.mean() - 0.5) < NOISE
    for k in (0, 1):
        wrong = SAMPLE.labels[SAMPLE.classes == k] != k
        assert abs(wrong.mean() - FLIPS) < NOISE
    clean = toy.draw(np.random.default_rng(0), 50, DIMS, class_mean=MEAN, flip_rate=0.0)
    np.testing.assert_array_equal(clean.labels, clean.classes)


def test_the_blocks_ood():
    (low, high), variances = moments(OOD)
    expected = np.array([0.0] * 3 + [MEAN / 2] * 2 + [0.0] * 4)
    np.testing.assert_allclose(high, expected, **NEAR)
    np.testing.assert_allclose(low, -expected, **NEAR)
    np.testing.assert_allclose(
        variances, [[1.0] * 3 + [0.25] * 2 + [1.0] * 4] * 2, rtol=0, atol=2 * NOISE
    )
    np.testing.assert_allclose(label_correlation(OOD)[:3], 0.0, **NEAR)
    np.testing.assert_allclose(label_correlation(OOD)[3:], label_correlation(SAMPLE)[3:], atol=1e-6)


def test_ood_is_made_from_the_same_examples():
    for row in range(20):
        sign = 1 if SAMPLE.classes[row] else -1
        expected = SAMPLE.inputs[row].copy()
        expected[:3] -= np.float32(sign * MEAN)
        expected[3:5] *= 0.5
        np.testing.assert_allclose(OOD.inputs[row], expected, rtol=1e-6)
    assert OOD.labels is SAMPLE.labels and OOD.classes is SAMPLE.classes
    assert np.ptp(SAMPLE.inputs[:, 0] - OOD.inputs[:, 0]) > 1  # the ID examples are left alone


def test_a_seed_gives_the_same_data():
    again = toy.draw(np.random.default_rng(0), 40_000, DIMS, class_mean=MEAN, flip_rate=FLIPS)
    np.testing.assert_array_equal(again.inputs, SAMPLE.inputs)
    np.testing.assert_array_equal(again.labels, SAMPLE.labels)


def test_init():
    first, second = toy.init(np.random.default_rng(0), (400, 100, 2))
    assert first.kernel.shape == (400, 100) and second.kernel.shape == (100, 2)
    np.testing.assert_allclose(first.kernel.std(), 1 / 20, rtol=0.02)
    np.testing.assert_allclose(second.kernel.std(), 1 / 10, rtol=0.2)
    np.testing.assert_array_equal(first.bias, 0.0)
    assert first.kernel.dtype == first.bias.dtype == np.float32


SIZES = (4, 3, 3, 2)
LAYERS = tuple(
    toy.Layer(layer.kernel, np.random.default_rng(1).normal(size=layer.bias.shape).astype("f4"))
    for layer in toy.init(np.random.default_rng(0), SIZES)
)
RNG = np.random.default_rng(2)
TRAIN = toy.draw(RNG, 12, (2, 1, 1), class_mean=1.0, flip_rate=0.2)
TEACHER = (3 * RNG.normal(size=(12, 2))).astype(np.float32)
BATCHES = np.array([[0, 3, 5], [7, 1, 2], [11, 3, 4], [6, 8, 9]])
PAIRS = ((0.0, 0.0), (1.5, 0.0), (0.0, 0.7), (0.4, 2.0))


def flat(layers):
    return np.concatenate([np.ravel(x).astype(np.float64) for layer in layers for x in layer])


def unflat(vector):
    layers, at = [], 0
    for fan_in, fan_out in zip(SIZES, SIZES[1:], strict=False):
        kernel = vector[at : at + fan_in * fan_out].reshape(fan_in, fan_out)
        at += fan_in * fan_out
        layers.append((kernel, vector[at : at + fan_out]))
        at += fan_out
    return layers


def objective_by_loop(vector, rows, self_distillation, orthogonality):
    layers = unflat(vector)
    total = 0.0
    for row in rows:
        x = TRAIN.inputs[row].astype(np.float64)
        for kernel, bias in layers[:-1]:
            x = np.tanh(x @ kernel + bias)
        logits = x @ layers[-1][0] + layers[-1][1]
        probs = np.exp(logits) / np.exp(logits).sum()
        target = np.exp(TEACHER[row].astype(np.float64))
        target /= target.sum()
        total -= np.log(probs[TRAIN.labels[row]]) / len(rows)
        total += self_distillation * np.sum(target * np.log(target / probs)) / len(rows)
    gram = layers[-1][0].T @ layers[-1][0]
    return total + orthogonality * np.sum((gram - np.eye(2)) ** 2)


@pytest.mark.parametrize("pair", PAIRS)
def test_objective(pair):
    rows = BATCHES[0]
    got = toy.objective(
        LAYERS,
        TRAIN.inputs[rows],
        TRAIN.labels[rows],
        TEACHER[rows],
        toy.Strengths(*map(np.float32, pair)),
    )
    np.testing.assert_allclose(got, objective_by_loop(flat(LAYERS), rows, *pair), rtol=1e-5)


def adam_by_loop(pair, learning_rate):
    """Adam (arXiv 1412.6980, algorithm 1) on gradients by central differences."""
    params = flat(LAYERS)
    first, second = np.zeros_like(params), np.zeros_like(params)
    for t, rows in enumerate(BATCHES, start=1):
        gradient = np.array(
            [
                (
                    objective_by_loop(params + step, rows, *pair)
                    - objective_by_loop(params - step, rows, *pair)
                )
                / 2e-6
                for step in 1e-6 * np.eye(len(params))
            ]
        )
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        update = (first / (1 - 0.9**t)) / (np.sqrt(second / (1 - 0.999**t)) + 1e-8)
        params = params - learning_rate * update
    return params


def test_fit_is_adam_on_each_network_alone_and_predict_its_output():
    strengths = toy.Strengths(*np.array(PAIRS, np.float32).T)
    networks = toy.fit(LAYERS, TRAIN, TEACHER, strengths, BATCHES, learning_rate=0.03)
    features, logits = toy.predict(networks, TRAIN.inputs)
    for k, pair in enumerate(PAIRS):
        own = [toy.Layer(*(np.asarray(x)[k] for x in layer)) for layer in networks]
        np.testing.assert_allclose(flat(own), adam_by_loop(pair, 0.03), atol=2e-4)
        x = TRAIN.inputs
        for layer in own[:-1]:
            x = np.tanh(x @ layer.kernel + layer.bias)
        np.testing.assert_allclose(features[k], x, atol=1e-6)
        np.testing.assert_allclose(logits[k], x @ own[-1].kernel + own[-1].bias, atol=1e-5)
