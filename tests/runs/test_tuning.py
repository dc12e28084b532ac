"""Hyper-parameters chosen on the validation split, by hand-made scores."""

import json
import types

import numpy as np
import pytest

from calib_jax.core.errors import ConfigError, TrainingError
from calib_jax.core.types import Predictions
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.methods.baselines import finetune, zero_shot
from calib_jax.methods.probes import linear_probe, lp_ft
from calib_jax.runs.experiment import Tuning
from calib_jax.runs.features import Features
from calib_jax.runs.run import run
from calib_jax.runs.trainer import Trainer
from calib_jax.runs.tuning import check_judges, choose, described
from calib_jax.runs.workdir import Workdir
from calib_jax.training.loop import Fitted

CONFIDENCES = {"sure": 0.9, "unsure": 0.6, "as unsure": 0.6, "wrong": 0.2, "overflow": np.nan}
# Of three classes, of which a data set has the first two: to it the second model is the better one.
CONFIDENCES |= {"spread": (0.6, 0.3, 0.1), "elsewhere": (0.5, 0.05, 0.45)}


class Bare(ImageSplit):
    """What a tuning asks of a split beside its images."""

    def __init__(self, groups=None, has_answers=False):
        self.groups, self.has_answers = groups, has_answers

    def __len__(self):
        return 4

    def answers(self, indices=None):
        return np.eye(4, 2, dtype=bool)[indices]


PLAIN = Bare()


class ByName(Trainer):
    """Trains nothing: a trial's name says how sure its predictions are, or that it breaks down."""

    def __init__(self, experiment, path):
        self.experiment, self.workdir = experiment, Workdir(path)
        self.fits = []

    def pretrained(self, seed):
        return {}

    def fit(self, name, method, seed):
        self.fits.append((name, seed))
        trial = name.split(".")[1]
        if trial.startswith("broken"):
            raise TrainingError(f"{name}: loss is nan")
        return Fitted(
            start={},
            params={"confidence": CONFIDENCES[trial]},
            teacher=None,
            num_steps=1,
            train_seconds=0.0,
        )


class OfConfidence(Features):
    """Four examples of class 0, of two or three, as sure as the parameters say."""

    def __init__(self, split):
        self._splits = types.SimpleNamespace(evaluated={"validation": split})

    def validation(self, method, params):
        confidence = params["confidence"]
        one = confidence if isinstance(confidence, tuple) else (confidence, 1 - confidence)
        probs = np.tile(one, (4, 1))
        return Predictions(
            logits=np.log(probs),
            labels=np.zeros(4, np.int32),
            features=np.ones((4, 2)),
            class_embeddings=np.eye(len(one), 2),
        )


@pytest.fixture
def tuned(tiny_experiment, tmp_path):
    """A function: what `choose` gives for trials of these names, and the stand-in that it asked."""

    def call(*trials, split=PLAIN, **settings):
        methods = {"zero_shot": zero_shot(), "lp_ft": lp_ft()}
        tuning = Tuning(trials={"lp_ft": {name: lp_ft() for name in trials}}, **settings)
        experiment = tiny_experiment(methods=methods, tuning=tuning, seeds=(3, 0))
        trainer = ByName(experiment, tmp_path)
        return (*choose(trainer, OfConfidence(split)), trainer, experiment)

    return call


@pytest.mark.parametrize("metric", ["nll", "brier", "ece_15"])
def test_the_lowest_score_wins_the_first_of_equals(tuned, metric):
    values = {
        "nll": lambda p: -np.log(p),
        "brier": lambda p: 2 * (1 - p) ** 2,
        # Right with confidence p, or wrong with 1 - p.
        "ece_15": lambda p: 1 - p,
    }
    chosen, record, trainer, experiment = tuned("wrong", "unsure", "as unsure", metric=metric)
    assert chosen["zero_shot"] == ("zero_shot", experiment.methods["zero_shot"])
    phase, method = chosen["lp_ft"]
    assert phase == "lp_ft.unsure"
    assert method is experiment.tuning.trials["lp_ft"]["unsure"]
    assert record["lp_ft"]["metric"] == metric
    assert record["lp_ft"]["chosen"] == "unsure"
    scores = {trial["name"]: trial["score"] for trial in record["lp_ft"]["trials"]}
    expected = {name: values[metric](CONFIDENCES[name]) for name in scores}
    assert scores == pytest.approx(expected)
    assert [seed for _, seed in trainer.fits] == [3, 3, 3]


@pytest.mark.parametrize("metric", ["nll", "brier", "ece_15"])
@pytest.mark.parametrize(
    ("groups", "best"), [(None, "spread"), (np.array([0, 1, -1]), "elsewhere")]
)
def test_a_trial_is_judged_over_the_classes_of_the_data_set(tuned, groups, best, metric):
    """As every number of a report is: over all classes the other trial would have won."""
    record = tuned("spread", "elsewhere", split=Bare(groups), metric=metric)[1]["lp_ft"]
    probs = np.array([CONFIDENCES["spread"], CONFIDENCES["elsewhere"]])
    if groups is not None:
        probs = probs[:, :2] / probs[:, :2].sum(axis=1, keepdims=True)
    values = {
        "nll": -np.log(probs[:, 0]),
        "brier": (1 - probs[:, 0]) ** 2 + (probs[:, 1:] ** 2).sum(axis=1),
        "ece_15": 1 - probs[:, 0],
    }
    assert record["chosen"] == best
    assert [one["score"] for one in record["trials"]] == pytest.approx(values[metric].tolist())


def test_a_metric_that_the_split_has_none_of_is_found_first(tuned):
    """Several answers are right: no likelihood of one."""
    split = Bare(has_answers=True)
    message = (
        r"^tuning.metric: got 'nll', but several classes are right for an example of the "
        r"validation split, which has no such number\. Set ece_15, or another split\.$"
    )
    experiment = tuned("sure", "unsure")[3]
    check_judges(experiment, {"validation": PLAIN})
    with pytest.raises(ConfigError, match=message):
        check_judges(experiment, {"validation": split})
    experiment.tuning, experiment.methods = None, {"probe": linear_probe()}
    message = r"^methods.probe.optimizer: got 'nll', but several .* Choose another split\.$"
    with pytest.raises(ConfigError, match=message):
        check_judges(experiment, {"validation": split})
    assert tuned("sure", "unsure", split=split, metric="ece_15")[1]["lp_ft"]["chosen"] == "sure"


def test_without_trials_all_is_taken_as_it_is(tiny_experiment, tmp_path):
    experiment = tiny_experiment()
    chosen, record = choose(ByName(experiment, tmp_path), OfConfidence(PLAIN))
    assert chosen == {name: (name, method) for name, method in experiment.methods.items()}
    assert record == {}


def test_a_trial_that_breaks_down_has_lost(tuned, tmp_path):
    for phase in ("broken", "broken.warm_start", "unsure", "unsure.warm_start"):
        (tmp_path / f"checkpoints/seed_3/lp_ft.{phase}").mkdir(parents=True)
    chosen, record, _, _ = tuned("broken", "unsure", "wrong")
    assert chosen["lp_ft"][0] == "lp_ft.unsure"
    assert record["lp_ft"]["trials"][0] == {"name": "broken", "score": None}
    kept = sorted(path.name for path in (tmp_path / "checkpoints/seed_3").iterdir())
    assert kept == ["lp_ft.unsure", "lp_ft.unsure.warm_start"]
    path = tmp_path / "tuning/seed_3/lp_ft.broken.json"
    assert json.loads(path.read_text()) == {"error": "lp_ft.broken: loss is nan"}


def test_a_trial_whose_logits_overflow_has_lost(tuned, tmp_path):
    for _ in range(2):  # the second time from the file
        chosen, record, _, _ = tuned("overflow", "unsure")
        assert chosen["lp_ft"][0] == "lp_ft.unsure"
        assert record["lp_ft"]["trials"][0] == {"name": "overflow", "score": None}
    path = tmp_path / "tuning/seed_3/lp_ft.overflow.json"
    expected = {"error": "the logits of the validation split are not finite"}
    assert json.loads(path.read_text()) == expected


def test_what_is_scored_is_not_trained_again(tuned, tmp_path):
    first = tuned("broken", "unsure", "sure")
    path = tmp_path / "tuning/seed_3/lp_ft.unsure.json"
    path.unlink()
    second = tuned("broken", "unsure", "sure")
    assert second[2].fits == [("lp_ft.unsure", 3)]
    assert second[1] == first[1]
    assert first[0]["lp_ft"][0] == second[0]["lp_ft"][0] == "lp_ft.sure"


def test_all_trials_broken_down_is_an_error(tuned):
    message = r"tuning.trials.lp_ft: every trial broke down. Lower the learning rates."
    for _ in range(2):  # the second time from the files
        with pytest.raises(TrainingError, match=message):
            tuned("broken", "broken too")


def test_a_pretraining_that_breaks_down_is_no_trials_fault(tuned, tmp_path, monkeypatch):
    def fail(self, seed):
        raise TrainingError("pretrain: loss is nan")

    monkeypatch.setattr(ByName, "pretrained", fail)
    with pytest.raises(TrainingError, match="pretrain: loss is nan"):
        tuned("sure")
    assert not list(tmp_path.iterdir())


def test_a_metric_that_nobody_knows_is_found_first(tiny_experiment, tmp_path):
    tuning = Tuning(trials={"finetune": {"only": finetune().scheduled(warmup_steps=1)}})
    tuning.metric = "nil"  # past the constructor's run-time check, as a user would
    message = r"config.tuning.metric: got 'nil' of type str, expected 'nll' or 'brier' or 'ece_15'"
    with pytest.raises(ConfigError, match=message):
        run(tiny_experiment(tuning=tuning), tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_report_says_what_was_tuned_where():
    assert described({}) == ""
    record = {"flyp": {"metric": "nll"}, "carot": {"metric": "nll"}}
    assert described(record) == "the validation split (flyp, carot, by nll)"
