"""Combinations against direct calls of what they are made of, on trees of a few numbers."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calib_jax.core.errors import ConfigError
from calib_jax.core.sharding import make_mesh
from calib_jax.core.types import Predictions
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.evaluation.predict import Predictor
from calib_jax.methods.baselines import finetune, zero_shot
from calib_jax.methods.robust import carot
from calib_jax.weight_space.averages import ALPHAS, greedy_soup, model_stock, uniform_soup, wise_ft
from calib_jax.weight_space.rows import (
    METRICS,
    Combination,
    Fit,
    HeldOut,
    ModelStock,
    Soup,
    TeacherOf,
    Tpgm,
    WiseFT,
    held_out,
    metrics_on,
)
from calib_jax.weight_space.tpgm import tpgm

METHODS = {"zero_shot": zero_shot(), "finetune": finetune(), "carot": carot()}
SEEDS = (0, 1, 2)


def draw(seed):
    rng = np.random.default_rng(seed)
    return {
        "encoder": {"image": {"kernel": rng.normal(size=(3, 4)), "bias": rng.normal(size=4)}},
        "classifier": {"kernel": rng.normal(size=(4, 2))},
    }


START, FIRST, SECOND, THIRD = (
    jax.tree.map(lambda leaf: leaf.astype(np.float32), draw(seed)) for seed in range(4)
)
FITS = [Fit(FIRST, SECOND), Fit(SECOND, None), Fit(THIRD, None)]


def distance(params, target):
    return sum(
        ((a - b) ** 2).sum()
        for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(target), strict=True)
    )


class Validation:
    """A split on which the interpolation at 0.3 has the lowest NLL, and that at 0.7 the Brier."""

    def __init__(self):
        self.num_calls, self.asked = 0, []

    def metrics(self, params):
        self.num_calls += 1
        return {
            "nll": float(distance(params, wise_ft(START, FIRST, 0.3))),
            "brier": float(distance(params, wise_ft(START, FIRST, 0.7))),
            "ece_15": 0.25,
            "accuracy": -float(distance(params, wise_ft(FIRST, THIRD, 0.4))),
        }

    def loss(self, params, batch):
        return distance(params, jax.tree.map(lambda leaf: leaf + batch, START))

    def batches(self, count, size):
        self.asked.append((count, size))
        return [jnp.float32(0.1 * (number % 3)) for number in range(count)]

    def held_out(self):
        return HeldOut(self.metrics, self.loss, self.batches)


class Unseen(Validation):
    """A split that nothing may look at."""

    def metrics(self, params):
        raise AssertionError("looked at the validation split")


def equal(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.parametrize(("metric", "alpha"), [("nll", 0.3), ("brier", 0.7), ("ece_15", 0.0)])
def test_alpha_is_chosen_on_validation(metric, alpha):
    split = Validation()
    found = WiseFT(of="finetune", metric=metric)(START, FITS, split.held_out())
    equal(found.params, wise_ft(START, FIRST, alpha))
    curve = {str(a): split.metrics(wise_ft(START, FIRST, a))[metric] for a in ALPHAS}
    assert found.chosen == {"alpha": alpha, metric: curve}
    assert split.num_calls == 2 * len(ALPHAS)


def test_one_alpha_is_taken_as_it_is():
    found = WiseFT(of="finetune", alphas=(0.5,))(START, FITS, Unseen().held_out())
    equal(found.params, wise_ft(START, FIRST, 0.5))
    assert found.chosen == {"alpha": 0.5}


def test_a_uniform_soup_is_of_all_fits():
    found = Soup(of="finetune", num_models=3)(START, FITS, Unseen().held_out())
    equal(found.params, uniform_soup([FIRST, SECOND, THIRD]))
    assert found.chosen == {}


def test_a_greedy_soup_goes_by_the_validation_accuracy():
    split = Validation()
    soup = Soup(of="finetune", num_models=3, greedy=True)
    found = soup(START, FITS, split.held_out())
    assert split.num_calls == 5
    expected = greedy_soup([FIRST, SECOND, THIRD], lambda p: split.metrics(p)["accuracy"])
    assert expected.members == (0, 2)
    equal(found.params, expected.params)
    assert found.chosen == {"members": [0, 2], "accuracy": expected.score}


def test_model_stock_is_of_the_fits_and_their_start():
    found = ModelStock(of="finetune")(START, FITS[:2], Unseen().held_out())
    equal(found.params, model_stock(START, [FIRST, SECOND]))
    assert found.chosen == {}


def test_the_teacher_is_the_fits_own():
    found = TeacherOf(of="carot")(START, FITS, Unseen().held_out())
    equal(found.params, SECOND)
    with pytest.raises(ValueError, match="the fit has no teacher"):
        TeacherOf(of="carot")(START, FITS[1:], Unseen().held_out())


@pytest.mark.parametrize("norm", ["l2", "mars"])
def test_radii_are_learnt_on_validation(norm):
    split = Validation()
    combination = Tpgm(of="finetune", norm=norm, num_steps=20, batch_size=7, learning_rate=0.05)
    found = combination(START, FITS, split.held_out())
    assert split.asked == [(20, 7)]
    expected = tpgm(START, FIRST, split.loss, split.batches(20, 7), norm=norm, learning_rate=0.05)
    equal(found.params, expected.params)
    radii = [float(radius) for radius in jax.tree.leaves(expected.radii)]
    assert len(radii) == 3
    assert found.chosen["mean_radius"] == pytest.approx(np.mean(radii), rel=1e-6)
    first, last = found.chosen["losses"]
    assert (first, last) == (expected.losses[0], expected.losses[-1])
    assert last < first and distance(found.params, START) < distance(FIRST, START)


@pytest.mark.parametrize(
    "combination",
    [
        WiseFT(of="finetune"),
        Soup(of="finetune", greedy=True),
        ModelStock(of="finetune"),
        TeacherOf(of="carot"),
        Tpgm(of="finetune", num_steps=2),
    ],
)
def test_models_keep_their_structure_and_the_record_is_json(combination):
    combination.validate("weight_space.mine", METHODS, SEEDS)
    found = combination(START, FITS[: combination.num_models], Validation().held_out())
    assert jax.tree.map(lambda x: (x.shape, x.dtype), found.params) == jax.tree.map(
        lambda x: (x.shape, x.dtype), START
    )
    assert json.loads(json.dumps(found.chosen)) == found.chosen


def test_models_of_other_architectures_do_not_mix():
    other = Fit({"encoder": SECOND["encoder"], "classifier": {"kernel": jnp.zeros((4, 3))}}, None)
    message = r"classifier/kernel"
    for combination in (Soup(of="finetune"), ModelStock(of="finetune")):
        with pytest.raises(ConfigError, match=message):
            combination(START, [FITS[0], other], Validation().held_out())
    with pytest.raises(ConfigError, match=message):
        WiseFT(of="finetune")(START, [other], Validation().held_out())


class Bare(ImageSplit):
    """What a row asks of a split beside its images."""

    def __init__(self, groups=None, has_answers=False):
        self.groups, self.has_answers = groups, has_answers

    def __len__(self):
        return 4

    def answers(self, indices=None):
        return np.eye(4, 2, dtype=bool)[indices]


def says(params, splits):
    """Logits that are the parameters, of an example of class 0."""
    logits = np.asarray(params["logits"])[None]
    return {
        name: Predictions(
            logits=logits,
            labels=np.zeros(1, np.int32),
            features=np.ones((1, 2)),
            class_embeddings=np.eye(3, 2),
        )
        for name in splits
    }


def judged_on(groups):
    return HeldOut(metrics_on(Bare(groups), predictor=says), None, None)


@pytest.mark.parametrize(("groups", "alpha"), [(None, 0.0), (np.array([0, 1, -1]), 1.0)])
@pytest.mark.parametrize("metric", METRICS)
def test_alpha_is_judged_over_the_classes_of_the_data_set(groups, alpha, metric):
    """The fine-tuned model is surer of the right one of the first two, and surest of the third."""
    start, tuned = ({"logits": np.float32(x)} for x in ([2.0, 1.0, 0.0], [3.0, 0.0, 3.5]))
    split = judged_on(groups)
    assert {*METRICS, "accuracy"} <= set(split.metrics(start))
    found = WiseFT(of="finetune", alphas=(0.0, 1.0), metric=metric)(
        start, [Fit(tuned, None)], split
    )
    assert found.chosen["alpha"] == alpha
    own = slice(None) if groups is None else slice(2)
    for params, value in zip((start, tuned), found.chosen[metric].values(), strict=True):
        exp = np.exp(np.float64(params["logits"][own]))
        probs = exp / exp.sum()
        expected = {
            "nll": -np.log(probs[0]),
            "brier": (1 - probs[0]) ** 2 + (probs[1:] ** 2).sum(),
            "ece_15": abs(probs.max() - (probs.argmax() == 0)),
        }
        assert value == pytest.approx(expected[metric])


def test_the_loss_is_over_the_classes_of_the_data_set(tiny_model, tiny_batches):
    encoder, params = tiny_model
    tables, batch_of = tiny_batches
    classifier, groups = zero_shot().classifier, np.array([1, 0, 1])
    whole = {"encoder": params, "classifier": {}}
    predictor = Predictor(encoder, classifier, tables, mesh=make_mesh(), batch_size=8)
    split = (encoder, classifier, tables)
    batch = jax.tree.map(jnp.asarray, batch_of(0, num_examples=8))
    raw, own = (
        held_out(*split, Bare(given), predictor=predictor, mesh=make_mesh()).loss(whole, batch)
        for given in (None, groups)
    )
    head = classifier.head({}, encoder, params, tables.class_tokens)
    logits = np.float64(head.logits(encoder.encode_image(params, batch.image)))
    exp = np.exp(np.stack([logits[:, 1], logits[:, [0, 2]].max(axis=1)], axis=1))
    nll = -np.log(exp[np.arange(8), groups[batch.label]] / exp.sum(axis=1))
    np.testing.assert_allclose(own, nll.mean(), rtol=1e-4)
    assert own < raw


def test_wise_ft_needs_a_metric_that_the_split_has():
    splits = {"validation": Bare(has_answers=True)}
    WiseFT(of="carot", metric="ece_15").check_held_out("weight_space.mine", splits)
    WiseFT(of="carot", alphas=(0.5,)).check_held_out("weight_space.mine", splits)
    Soup(of="carot", greedy=True).check_held_out("weight_space.mine", splits)
    message = r"^weight_space.mine.metric: got 'brier', but several classes are right for an exam"
    with pytest.raises(ConfigError, match=message):
        WiseFT(of="carot", metric="brier").check_held_out("weight_space.mine", splits)


def test_a_greedy_soup_is_judged_over_the_classes_of_the_data_set():
    first, second = ({"logits": np.float32(x)} for x in ([1.0, 0.0, 2.0], [0.0, 1.0, -9.0]))
    members = []
    for groups in (None, np.array([0, 1, -1])):
        soup = Soup(of="finetune", greedy=True)
        found = soup(first, [Fit(second, None), Fit(first, None)], judged_on(groups))
        members.append(found.chosen["members"])
    assert members == [[0, 1], [1, 0]]


@pytest.mark.parametrize("kind", Combination.__subclasses__())
def test_every_combination_checks_what_it_is_made_of(kind):
    for combination, message in (
        (kind(of="carrot"), r"\.of: got 'carrot', expected .* Did you mean 'carot'\? Correct it\."),
        (kind(of="zero_shot"), r"\.of: got 'zero_shot', which is not trained\. Name a trained"),
        (kind(of="carot", num_models=0), r"\.num_models: got 0, expected 1\.\.3, the number of"),
        (kind(of="carot", num_models=4), r"\.num_models: got 4, expected 1\.\.3, the number of"),
    ):
        with pytest.raises(ConfigError, match="^weight_space.mine" + message):
            combination.validate("weight_space.mine", METHODS, SEEDS)
    kind(of="carot").validate("weight_space.mine", METHODS, SEEDS)


@pytest.mark.parametrize(
    ("combination", "message"),
    [
        (TeacherOf(of="finetune"), r"of: got 'finetune', which has no teacher\. Name a method tha"),
        (WiseFT(of="carot", alphas=()), r"alphas: got \(\), expected numbers in 0\.\.1\. Correct"),
        (WiseFT(of="carot", alphas=(0.5, 1.5)), r"alphas: got \(0\.5, 1\.5\), expected numbers"),
        (WiseFT(of="carot", alphas=(float("nan"),)), r"alphas: got \(nan,\), expected numbers in"),
        (
            WiseFT(of="carot", metric="brie"),
            r"metric: got 'brie', expected one of nll, brier, ece_15\. Did you mean 'brier'\? Corr",
        ),
        (ModelStock(of="carot", num_models=1), r"num_models: got 1, expected at least 2: the angl"),
        (Tpgm(of="carot", norm="l1"), r"norm: got 'l1', expected one of l2, mars\. Correct it\."),
        (Tpgm(of="carot", num_steps=0), r"num_steps: got 0, expected a finite number > 0\. Co"),
        (Tpgm(of="carot", batch_size=-1), r"batch_size: got -1, expected a finite number > 0"),
        (Tpgm(of="carot", learning_rate=float("nan")), r"learning_rate: got nan, expected a fin"),
    ],
)
def test_settings_out_of_range(combination, message):
    with pytest.raises(ConfigError, match=rf"^weight_space\.mine\.{message}"):
        combination.validate("weight_space.mine", METHODS, SEEDS)


def test_a_combination_defines_its_call():
    with pytest.raises(NotImplementedError, match="Combination must define __call__"):
        Combination(of="carot")(START, FITS, Validation().held_out())
