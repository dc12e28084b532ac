import dataclasses
import json

import jax
import numpy as np
import pytest

from calib_jax.core import inputs, rngs
from calib_jax.core.errors import ConfigError, DataError, TrainingError
from calib_jax.core.sharding import make_mesh
from calib_jax.methods.baselines import zero_shot
from calib_jax.methods.method import Method
from calib_jax.methods.robust import carot, flyp
from calib_jax.objectives.term import Term
from calib_jax.optim.optimizers import AdamW
from calib_jax.optim.teacher import EmaTeacher
from calib_jax.training import logbook
from calib_jax.training.history import History
from calib_jax.training.logbook import Logbook
from calib_jax.training.loop import Training, fit
from calib_jax.training.start import held_start, initial_params


class Batches:
    """The batches 0, 1, 2, ... of `tiny_batches`."""

    def __init__(self, batch_of):
        self.batch_of = batch_of
        self.number = 0

    def __next__(self):
        self.number += 1
        return self.batch_of(self.number - 1)

    def get_state(self):
        return {"number": self.number}

    def set_state(self, state):
        self.number = state["number"]


@pytest.fixture
def fit_tiny(tiny_model, tiny_batches, tmp_path):
    encoder, params = tiny_model
    tables, batch_of = tiny_batches

    def call(method, training, name="flyp", **changes):
        return fit(
            method,
            encoder,
            initial_params(method, encoder, params, tables, seed=0),
            tables,
            training=training,
            mesh=make_mesh(devices=jax.devices()[:1]),
            logbook=Logbook(
                name=name,
                seed=5,
                directory=tmp_path / name,
                config={"name": "tiny"},
                history=History(tmp_path / "metrics.jsonl"),
            ),
            make_batches=lambda: Batches(batch_of),
            probe=lambda params: {"probed": float(np.asarray(params["encoder"]["logit_scale"]))},
            **changes,
        )

    return call


def test_a_method_without_terms_is_not_trained(fit_tiny, tmp_path, tiny_model):
    fitted = fit_tiny(zero_shot(), Training(num_steps=5, batch_size=16))
    assert fitted.num_steps == 0
    assert fitted.params["encoder"] is tiny_model[1]
    assert not (tmp_path / "flyp").exists()


def test_rows_are_means_since_the_last_row(fit_tiny, tmp_path):
    """But for the learning rate, which is that of the last step."""
    method = flyp().scheduled(learning_rate=1e-3, warmup_steps=1)
    one = fit_tiny(method, Training(num_steps=4, batch_size=16, log_every=1), name="one")
    two = fit_tiny(method, Training(num_steps=4, batch_size=16, log_every=2), name="two")
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if row["phase"] == "one"]
    assert [row["step"] for row in rows if row["phase"] == "two"] == [2, 4]
    pairs = [row["loss"] for row in rows if row["phase"] == "two"]
    np.testing.assert_allclose(pairs, np.reshape(losses, (2, 2)).mean(axis=1), rtol=1e-6)
    assert all(row["probed"] > 0 for row in rows)
    cosine = [0.5e-3 * (1 + np.cos(np.pi * done / 3)) for done in range(3)]
    rates = [row["learning_rate"] for row in rows]
    np.testing.assert_allclose(rates[:4], [1e-3, *cosine], rtol=1e-6)
    np.testing.assert_allclose(rates[4:], [rates[1], rates[3]], rtol=1e-6)
    assert all(row["examples_per_second"] > 0 for row in rows)
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(two.params), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_steps": -1}, r"finetune.num_steps: got -1, expected at least 0"),
        ({"log_every": 0}, r"finetune.log_every: got 0, expected at least 1"),
        ({"checkpoint_every": 0}, r"finetune.checkpoint_every: got 0, expected at least 1"),
        ({"batch_size": 20}, r"finetune.batch_size: got 20, expected a positive multiple of the 8"),
    ],
)
def test_mistakes(changes, message):
    with pytest.raises(ConfigError, match=message):
        Training(**{"batch_size": 16, **changes}).validate(make_mesh(), field="finetune")


@dataclasses.dataclass(kw_only=True)
class Drift(Term):
    """Half the squared distance of the logit scale from where it was, and from a random number."""

    needs = frozenset({"pretrained", "contexts"})

    def __call__(self, views):
        """The distance."""
        own, start = (p["encoder"]["logit_scale"] for p in (views.params, views.start_params))
        noise = jax.random.normal(views.key("drift"))
        return 0.5 * (own - start - 1.0) ** 2 + 0.0 * views.contexts.sum() + noise * own


@pytest.mark.parametrize("distance", [None, 0.25], ids=["the start", "another origin"])
def test_terms_see_where_the_training_started(fit_tiny, tiny_model, tmp_path, distance):
    """Or what is given for it; and the method results in its average, also when read again."""
    method = Method(
        terms={"drift": Drift()},
        optimizer=AdamW(learning_rate=0.1, warmup_steps=0, weight_decay=0.0),
        teacher=EmaTeacher(initial_momentum=0.75, final_momentum=0.75, update_every=1),
        keeps="teacher",
    )
    start = float(tiny_model[1]["logit_scale"])
    origin = None
    if distance is not None:
        moved = {**tiny_model[1], "logit_scale": tiny_model[1]["logit_scale"] + distance}
        origin = {"encoder": moved, "classifier": {}}
    training = Training(num_steps=4, batch_size=16, log_every=1, checkpoint_every=2)
    fitted = fit_tiny(method, training, origin=origin)
    assert float(fitted.start["encoder"]["logit_scale"]) == start
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    noise = [float(jax.random.normal(rngs.key(5, step, "drift"))) for step in range(4)]
    own = average = start
    for row, drawn in zip(rows, noise, strict=True):
        expected = 0.5 * (own - start - (distance or 0.0) - 1) ** 2 + drawn * own
        assert row["terms"]["drift"] == pytest.approx(expected, rel=1e-4)
        own = row["probed"]
        average = 0.75 * average + 0.25 * own
    assert own != pytest.approx(average, rel=1e-3)
    for each in (fitted, fit_tiny(method, training, origin=origin)):
        assert each.params is each.teacher
        np.testing.assert_allclose(each.params["encoder"]["logit_scale"], average, rtol=1e-6)


def test_held_start_is_made_only_for_terms_that_need_it(tiny_model, tiny_batches):
    encoder, params = tiny_model
    tree = {"encoder": params, "classifier": {}}
    assert held_start(carot(), encoder, tree, tiny_batches[0]) is None
    held = held_start(Method(terms={"drift": Drift()}), encoder, tree, tiny_batches[0])
    assert held.params is tree
    assert held.contexts.shape == (2, 8)


def test_logits_that_break_down_say_where_and_what_to_do():
    """At a logged step as at any other."""

    def probe(params):
        inputs.check_finite(np.full((2, 3), params["value"]), name="logits")
        return {"accuracy": 1.0}

    assert logbook.probed(probe, {"value": 1.0}, 4, "carot") == {"accuracy": 1.0}
    message = (
        r"^carot: on the validation split, logits: got nan at \[0, 0\] after step 4\. The last "
        r"good checkpoint is kept\. Lower the learning rate, or look at the data\.$"
    )
    with pytest.raises(TrainingError, match=message):
        logbook.probed(probe, {"value": np.nan}, 4, "carot")

    def small(params):
        raise DataError("features: got 1 examples, expected at least 2. Use a larger split.")

    with pytest.raises(DataError, match=r"^features: got 1 examples"):
        logbook.probed(small, {}, 4, "carot")
