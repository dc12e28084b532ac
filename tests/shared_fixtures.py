"""Fixtures that many folders share: golden files; a tiny model, its data, runs and archives."""

import contextlib
import functools
import io
import pathlib
import tarfile
import zipfile

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
import tensorflow_datasets as tfds

from calib_jax.core.sharding import make_mesh
from calib_jax.core.types import Batch
from calib_jax.data.builders import record
from calib_jax.data.datasets.records import Split
from calib_jax.data.pipeline import Source
from calib_jax.evaluation.evaluate import Evaluation
from calib_jax.methods.baselines import finetune, zero_shot
from calib_jax.methods.robust import carot, flyp
from calib_jax.models import presets
from calib_jax.models.encoder import Encoder
from calib_jax.objectives.views import Tables
from calib_jax.runs import experiment as experiment_module
from calib_jax.runs import run as run_module
from calib_jax.runs.experiment import Experiment, Stage
from calib_jax.runs.export import Exporter
from calib_jax.runs.texts import read_texts
from calib_jax.training.loop import Training

TESTS = pathlib.Path(__file__).resolve().parent


@pytest.fixture(scope="session")
def golden_dir() -> pathlib.Path:
    """Outputs of the original implementations; `tests/golden/README.md` says how each was made."""
    return TESTS / "golden"


@pytest.fixture(scope="session")
def drawn_params():
    """A function: an encoder's parameters, which NumPy draws: no program is compiled for it."""

    def draw(encoder):
        rng = np.random.default_rng(0)

        def fill(path, leaf):
            name = jax.tree_util.keystr(path, simple=True, separator="/")
            noise = rng.normal(size=leaf.shape)
            if name == "logit_scale":
                return jnp.float32(np.log(1 / 0.07))
            if name.endswith("kernel"):
                return jnp.asarray(noise / np.sqrt(np.prod(leaf.shape[:-1])), jnp.float32)
            return jnp.asarray(0.1 * noise + name.endswith("scale"), jnp.float32)

        shapes = jax.eval_shape(encoder.init, jax.random.key(0))
        return jax.tree_util.tree_map_with_path(fill, shapes)

    return draw


@pytest.fixture(scope="session")
def tiny_model(drawn_params):
    """(Encoder, params): 16 x 16 pixels, width 16, one layer, d = 8, 32 tokens, context 16."""
    encoder = Encoder(
        presets.tiny(
            vocab_size=32,
            context_length=16,
            image_size=16,
            patch_size=8,
            width=16,
            num_layers=1,
            text_width=16,
            text_layers=1,
            embed_dim=8,
        )
    )
    return encoder, drawn_params(encoder)


class TinyColours(record.RecordBuilder):
    """Noisy 16 x 16 images of one colour a class, in turn; the labels can be learnt."""

    VERSION = tfds.core.Version("1.0.0")
    NUM_EXAMPLES = {"train": 24, "validation": 12, "test": 10}
    COLOURS = {"red": (0,), "green": (1,), "dark_blue": (2,)}  # name -> its bright channels

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(16, 16, 3), encoding_format="png"),
                "label": tfds.features.ClassLabel(names=list(self.COLOURS)),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split) for split in self.NUM_EXAMPLES}

    def _generate_examples(self, split):
        for index in range(self.NUM_EXAMPLES[split]):
            rng, label = record.rng_of("tiny_colours", split, index), index % 3
            image = rng.integers(0, 80, (16, 16, 3), np.uint8)
            image[..., list(self.COLOURS.values())[label]] += 150
            yield index, {"image": record.png_bytes(image), "label": label}


class TinyMixtures(TinyColours):
    """Colours that are no class of `tiny_colours`."""

    NUM_EXAMPLES = {"near": 5, "far": 6}
    COLOURS = {"yellow": (0, 1), "pink": (0, 2), "cyan": (1, 2)}


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> pathlib.Path:
    """A data_dir with `tiny_colours`: 24 train, 12 validation, 10 test images; label = index % 3.

    The classes: red, green, dark blue. Beside it `tiny_mixtures`, images of other colours.
    """
    folder = tmp_path_factory.mktemp("tiny_data")
    for builder in (TinyColours, TinyMixtures):
        builder(data_dir=str(folder)).write()
    return folder


@contextlib.contextmanager
def few_devices(number):
    """Runs see some of the eight devices alone: less to compile and to write."""
    mesh = make_mesh(devices=jax.devices()[:number])
    with pytest.MonkeyPatch.context() as patch:
        for module in (experiment_module, run_module):
            patch.setattr(module, "make_mesh", lambda fsdp=1: mesh)
        yield


@pytest.fixture(scope="module")
def one_device():
    """The runs of a module see one device, and check no shapes: those of `test_resume.py` do."""
    jaxtyping.config.update("jaxtyping_disable", True)
    with few_devices(1):
        yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def two_devices():
    """The runs of a module see two devices."""
    with few_devices(2):
        yield


@pytest.fixture(scope="module")
def no_figures():
    """Runs of the module leave one line for a page, whose figures take seconds to draw."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "write_report", lambda path, *rest: path.write_text("a page"))
        yield


@pytest.fixture(scope="session")
def tiny_batches(tiny_model):
    """(Tables, function): captions and 3 classes for `tiny_model`; the random batch of a step."""
    encoder, _ = tiny_model
    size, vocab_size = encoder.config.vision.image_size, encoder.config.text.vocab_size
    tokens = np.random.default_rng(1).integers(1, vocab_size - 1, (18, 8))
    tokens[:, -1] = vocab_size - 1  # the largest id ends a text
    tokens = jnp.asarray(tokens, jnp.int32)

    def batch_of(step, num_examples=16):
        rng = np.random.default_rng(step)
        caption = rng.integers(0, 12, num_examples).astype(np.int32)
        return Batch(
            image=rng.integers(0, 256, (num_examples, size, size, 3), np.uint8),
            label=caption % 3,
            caption=caption,
            mask=np.ones(num_examples, bool),
        )

    return Tables(captions=tokens[:12], class_tokens=tokens[12:].reshape(3, 2, 8)), batch_of


@pytest.fixture(scope="session")
def tiny_experiment(tiny_data):
    """A function that makes a whole experiment on `tiny_colours` that runs in seconds."""

    def make(**changes) -> Experiment:
        colours = {name: Split(name="tiny_colours", split=name) for name in ("train", "test")}
        templates = ("a photo of {}.", "a picture of {}.")
        stage = functools.partial(
            Stage,
            sources=(Source(split=colours["train"], templates=templates),),
            class_names=("red", "green", "dark blue"),
        )
        lengths = {"batch_size": 16, "log_every": 2, "checkpoint_every": 3}
        fields = {
            "name": "tiny",
            "title": "Three colours",
            "model": presets.tiny(
                vocab_size=16,
                context_length=8,
                image_size=16,
                width=64,
                num_layers=1,
                text_layers=1,
                embed_dim=8,
            ),
            "pretrain_method": flyp().scheduled(learning_rate=1e-3, warmup_steps=1),
            "pretrain": stage(training=Training(num_steps=4, **lengths)),
            "finetune": stage(training=Training(num_steps=6, **lengths)),
            "methods": {
                "zero_shot": zero_shot(),
                "finetune": finetune().scheduled(learning_rate=1e-3, warmup_steps=1),
                "carot": carot(update_every=2).scheduled(learning_rate=1e-3, warmup_steps=1),
            },
            "evaluation": Evaluation(
                id_split=colours["test"],
                validation=Split(name="tiny_colours", split="validation"),
                shifts={"shifted": Split(name="tiny_colours", split="test[:50%]")},
                near={"near": Split(name="tiny_mixtures", split="near")},
                far={"far": Split(name="tiny_mixtures", split="far")},
                templates=templates[:1],
                batch_size=8,
                num_resamples=20,
            ),
            "data_dir": str(tiny_data),
        }
        return Experiment(**{**fields, **changes})

    return make


@pytest.fixture(scope="session")
def pretrained_folder(tiny_experiment, drawn_params, tmp_path_factory):
    """A model of the tiny experiment's sizes with drawn weights, as a pre-training exports it."""
    folder = tmp_path_factory.mktemp("pretrained")
    experiment = tiny_experiment()
    texts = read_texts(experiment, make_mesh())
    exporter = Exporter(texts.encoder, texts.tokenizer, experiment.finetune.class_names)
    exporter.write_encoder(folder, drawn_params(texts.encoder))
    return folder


@pytest.fixture(scope="session")
def from_pretrained(tiny_experiment, pretrained_folder):
    """A function that makes a tiny experiment that starts from that model."""

    def make(**changes):
        start = {
            "pretrained": str(pretrained_folder),
            "pretrain": None,
            "pretrain_method": None,
        }
        return tiny_experiment(**start | changes)

    return make


@pytest.fixture(scope="session")
def pack():
    """A function that writes files, {name: bytes}, to a .zip, a .tar or a folder."""

    def write(path, files):
        if path.suffix == ".zip":
            with zipfile.ZipFile(path, "w") as zipped:
                for name, data in files.items():
                    zipped.writestr(name, data)
        elif path.suffix == ".tar":
            with tarfile.open(path, "w") as tarred:
                for name, data in files.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    tarred.addfile(member, io.BytesIO(data))
        else:
            for name, data in files.items():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                (path / name).write_bytes(data)
        return path

    return write


@pytest.fixture(scope="session")
def picture():
    """A function that makes a PNG of one shade."""

    def make(shade, side=4):
        return record.png_bytes(np.full((side, side, 3), shade, np.uint8))

    return make
