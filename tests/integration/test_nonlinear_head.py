"""A classifier whose head is no linear map: trained, tested and refused where it cannot serve."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from calib_jax.classifiers import stored
from calib_jax.classifiers.head import (
    Classifier,
    Head,
    LinearMap,
    PrototypeHead,
    class_text_embeddings,
    prompt_embeddings,
)
from calib_jax.classifiers.linear import LinearHead
from calib_jax.classifiers.zero_shot import ZeroShot
from calib_jax.core.errors import ConfigError, ExportError
from calib_jax.core.linalg import normalize
from calib_jax.core.sharding import make_mesh
from calib_jax.data.datasets.prepared import ImageSplit
from calib_jax.data.datasets.records import Split
from calib_jax.data.tokenizers import word_tokenizer
from calib_jax.evaluation.detection import quantities_of, score_split
from calib_jax.evaluation.predict import Predictor
from calib_jax.evaluation.split_metrics import classification_metrics
from calib_jax.methods.method import Method
from calib_jax.metrics.outcomes import of_logits
from calib_jax.objectives.cross_entropy import CrossEntropy
from calib_jax.objectives.distillation import LogitDistillation
from calib_jax.objectives.views import Start
from calib_jax.optim.optimizers import AdamW
from calib_jax.runs.experiment import Tuning
from calib_jax.runs.export import Export, Exporter
from calib_jax.scores.mcm import MCM
from calib_jax.scores.msp import MSP
from calib_jax.training.state import create_state
from calib_jax.training.step import make_train_step


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CacheHead:
    """Tip-Adapter (arXiv 2111.03930, eq. 5): `exp(-beta (1 - f F^T)) L + s f W`."""

    keys: jax.Array  # [c k d]
    kernel: jax.Array  # [d c]
    beta: float = dataclasses.field(metadata={"static": True})

    def logits(self, image_features):
        unit = normalize(image_features)
        affinity = jnp.exp(-self.beta * (1 - jnp.einsum("bd,ckd->bck", unit, self.keys)))
        return affinity.sum(axis=-1) + unit @ self.kernel


class TextHead(CacheHead):
    """The same, which tells the directions of the texts; no pytree, as a subclass is none."""

    def class_embeddings(self):
        return normalize(self.kernel.T)


@dataclasses.dataclass(kw_only=True)
class Cache:
    """Trainable keys, at first the prompts of each class."""

    head_type: ClassVar[type[Head]] = CacheHead

    def init(self, key, encoder, encoder_params, class_tokens):
        return {"keys": prompt_embeddings(encoder, encoder_params, class_tokens)}

    def head(self, params, encoder, encoder_params, class_tokens):
        texts = class_text_embeddings(encoder, encoder_params, class_tokens)
        kernel = encoder.logit_scale(encoder_params) * texts.T
        return self.head_type(keys=normalize(params["keys"]), kernel=kernel, beta=5.5)


@dataclasses.dataclass(kw_only=True)
class NoTree(Cache):
    head_type: ClassVar[type[Head]] = TextHead


def cache(**changes):
    fields = {
        "classifier": Cache(),
        "terms": {"cross_entropy": CrossEntropy(), "distillation": LogitDistillation()},
        "trainable": ("classifier/",),
        "optimizer": AdamW(learning_rate=0.1, warmup_steps=1),
    }
    return Method(**{**fields, **changes})


@pytest.fixture(scope="module")
def params(tiny_model, tiny_batches):
    encoder, encoder_params = tiny_model
    own = Cache().init(jax.random.key(0), encoder, encoder_params, tiny_batches[0].class_tokens)
    return {"encoder": encoder_params, "classifier": own}


@pytest.fixture(scope="module")
def predictions(tiny_model, tiny_batches, tiny_data, params):
    split = ImageSplit(Split(name="tiny_colours", split="test"), [tiny_data], image_size=16)
    predictor = Predictor(tiny_model[0], Cache(), tiny_batches[0], mesh=make_mesh(), batch_size=8)
    return predictor(params, {"test": split})["test"]


def test_the_protocols(tiny_model, tiny_batches, params):
    encoder, encoder_params = tiny_model
    tokens = tiny_batches[0].class_tokens
    for classifier in (Cache(), ZeroShot(), LinearHead()):
        assert isinstance(classifier, Classifier)
        own = classifier.init(jax.random.key(0), encoder, encoder_params, tokens)
        head = classifier.head(own, encoder, encoder_params, tokens)
        assert isinstance(head, Head)
        assert type(head) is classifier.head_type
    assert not isinstance(Cache().head(params["classifier"], *tiny_model, tokens), PrototypeHead)
    assert issubclass(LinearMap, PrototypeHead) and not issubclass(CacheHead, PrototypeHead)
    assert not isinstance(object(), Classifier)


def test_a_step_trains_it(tiny_model, tiny_batches, params):
    """The keys move and nothing else does; the start's own logits are no distance away."""
    (tables, batch_of), method, mesh = tiny_batches, cache(), make_mesh()
    tx = method.make_tx(params, num_steps=9)
    state = create_state(jax.tree.map(jnp.array, params), tx, mesh)
    step = make_train_step(
        tiny_model[0], method, tx, mesh=mesh, state=state, start=Start(params=params)
    )
    state, first = step(state, batch_of(0), tables)
    moved = jax.tree.map(lambda new, old: bool(np.any(new != old)), state.params, params)
    assert moved["classifier"] == {"keys": True}
    assert not any(jax.tree.leaves(moved["encoder"]))
    np.testing.assert_allclose(first["terms/distillation"], 0.0, atol=1e-6)
    state, _ = step(state, batch_of(0), tables)
    _, second = step(state, batch_of(0), tables)
    assert second["terms/cross_entropy"] < first["terms/cross_entropy"]
    assert second["terms/distillation"] > 1e-6


def test_it_predicts_and_is_judged(tiny_model, tiny_batches, params, predictions):
    features = np.float64(predictions.features)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    head = Cache().head(params["classifier"], *tiny_model, tiny_batches[0].class_tokens)
    keys, kernel = np.float64(head.keys), np.float64(head.kernel)
    expected = np.zeros((10, 3))
    for row in range(10):
        for k in range(3):
            near = sum(np.exp(-5.5 * (1 - unit[row] @ one)) for one in keys[k])
            expected[row, k] = near + unit[row] @ kernel[:, k]
    np.testing.assert_allclose(predictions.logits, expected, rtol=1e-4, atol=1e-4)
    assert predictions.class_embeddings is None
    outcomes = of_logits(predictions.logits, predictions.labels)
    assert 0 <= classification_metrics(outcomes)["ece_15"] <= 1


def test_scores_of_similarities_refuse_a_head_without_class_embeddings(predictions):
    message = (
        r"^similarities: got predictions of a head without class embeddings, expected one with "
        r"class_embeddings\(\)\. Add the method to the head, or leave out the scores of "
        r"similarities \(mcm, max_similarity\)\.$"
    )
    with pytest.raises(ConfigError, match=message):
        predictions.similarities()
    with pytest.raises(ConfigError, match=message):
        score_split({"mcm": MCM()}, quantities_of(predictions))


def test_a_head_that_is_no_tree_is_refused(tiny_model, tiny_batches, params):
    predictor = Predictor(tiny_model[0], NoTree(), tiny_batches[0], mesh=make_mesh(), batch_size=8)
    message = (
        r"^classifier: the TextHead of NoTree is no tree of arrays, expected a pytree\. Put "
        r"@jax\.tree_util\.register_dataclass above the class\.$"
    )
    with pytest.raises(ConfigError, match=message):
        predictor.head(params)


REFUSAL = (
    r"a CacheHead, which cannot be exported, expected a LinearMap\. Set export to "
    r"Export\(models=False\), or take a classifier of linear maps \(ZeroShot, LinearHead\)\.$"
)


def test_no_file_can_hold_it(tiny_model, tiny_batches, params, tmp_path):
    tokens = tiny_batches[0].class_tokens
    head = stored.kept_head(tmp_path, Cache(), tiny_model[0], params, tokens)
    assert isinstance(head, CacheHead)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ExportError, match=f"^export: got {REFUSAL}"):
        stored.linear_map(head)
    exporter = Exporter(encoder=tiny_model[0], tokenizer=word_tokenizer(["red"]), class_names="abc")
    with pytest.raises(ExportError, match=f"^export: got {REFUSAL}"):
        exporter.write(tmp_path / "model", params, head)
    assert not list(tmp_path.iterdir())


def test_a_run_that_it_cannot_serve_is_refused_before_any_work(tiny_experiment):
    with pytest.raises(ConfigError, match=rf"^methods\.cache\.classifier: Cache makes {REFUSAL}"):
        tiny_experiment(methods={"cache": cache()}).validate()
    with pytest.raises(ConfigError, match=rf"^methods\.cache\.classifier: Cache makes {REFUSAL}"):
        export = Export(models=False, wise_ft=(0.5,))
        tiny_experiment(methods={"cache": cache()}, export=export).validate()
    linear = cache(classifier=LinearHead())
    trials = {"linear": linear, "cache": cache()}
    with pytest.raises(
        ConfigError, match=rf"^tuning\.trials\.tip\.cache\.classifier: Cache makes {REFUSAL}"
    ):
        tiny_experiment(methods={"tip": linear}, tuning=Tuning(trials={"tip": trials})).validate()
    for changes in (
        {"methods": {"cache": cache()}, "export": Export(models=False)},
        {"methods": {"cache": cache(terms={})}},  # what is not trained is not exported
    ):
        experiment = tiny_experiment(**changes)
        message = (
            r"^evaluation\.scores\.mcm: it looks at class embeddings, but the CacheHead of "
            r"methods\.cache has none\. Remove the score, or give the head class_embeddings\(\)\.$"
        )
        with pytest.raises(ConfigError, match=message):
            experiment.validate()
        experiment.evaluation.scores, experiment.evaluation.score = {"msp": MSP()}, "msp"
        experiment.validate()
    without = tiny_experiment(**changes)
    without.evaluation.near, without.evaluation.far = {}, {}
    without.validate()
