"""ImageNet and its shifts from archives of the official layouts to the report."""

import dataclasses
import io
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from calib_jax import main
from calib_jax.data import prepare
from calib_jax.data.builders import record
from calib_jax.data.datasets import imagenet
from calib_jax.data.datasets.imagenet import CLASS_NAMES, WORDNET_IDS
from calib_jax.data.images import decode
from calib_jax.data.tokenizers import tokenize, word_tokenizer
from calib_jax.models.encoder import Encoder
from calib_jax.models.weights.export import write_model
from calib_jax.runs.workdir import read_json

EVALUATE = pathlib.Path(__file__).resolve().parents[2] / "configs" / "evaluate.py"
TEMPLATE = "a photo of a {}."
NUM_PHOTOS = 7
C_ARCHIVES = {
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "digital": ("contrast", "elastic_transform", "jpeg_compression", "pixelate"),
    "noise": ("gaussian_noise", "impulse_noise", "shot_noise"),
    "weather": ("brightness", "fog", "frost", "snow"),
}
OBJECTNET = {  # folder -> its label, and the places of its ImageNet classes
    "tv": ("TV", (851,)),
    "alarm_clock": ("Alarm clock", (409, 530)),
    "banana": ("Banana", (954,)),
    "air_freshener": ("Air freshener", ()),
}


class Imagenet2012(record.RecordBuilder):
    """What TFDS makes of ImageNet's archives: its features, its version, its split."""

    VERSION = tfds.core.Version("5.1.0")
    examples = ()

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(
                    names_file=tfds.core.tfds_path("datasets/imagenet2012/labels.txt")
                ),
                "file_name": tfds.features.Text(),
            }
        )
        return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

    def _split_generators(self, dl_manager):
        return {"validation": self._generate_examples()}

    def _generate_examples(self):
        for number, (image, label) in enumerate(self.examples):
            name = f"ILSVRC2012_val_{number + 1:08}.JPEG"
            yield number, {"image": image, "label": label, "file_name": name}


@pytest.fixture(scope="module")
def model(tiny_model, tmp_path_factory):
    """(Folder in Hugging Face's layout, function): a tiny CLIP that knows the words of ImageNet.

    The function gives the zero-shot logits of encoded photos of its size, in float64.
    """
    encoder, params = tiny_model
    texts = [TEMPLATE.format(name) for name in CLASS_NAMES]
    tokenizer = word_tokenizer(texts)
    text = dataclasses.replace(encoder.config.text, vocab_size=tokenizer.vocab_size)
    encoder = Encoder(dataclasses.replace(encoder.config, text=text))
    words = np.random.default_rng(5).normal(size=(tokenizer.vocab_size, text.width))
    table = {"token_embedding": jnp.asarray(words, jnp.float32)}
    params = params | {"text": params["text"] | table}
    folder = tmp_path_factory.mktemp("models") / "tiny_clip"
    ids = {"bos": tokenizer.bos, "eot": tokenizer.eot, "pad": tokenizer.pad}
    write_model(folder, encoder.config, params, **ids)
    tokenizer.save(folder, context_length=text.context_length)
    tokens = tokenize(tokenizer, texts, context_length=text.context_length)
    class_embeddings = unit(jax.jit(encoder.encode_text)(params, jnp.asarray(tokens)))
    scale = float(encoder.logit_scale(params))
    embed = jax.jit(encoder.encode_image)

    def logits_of(photos):
        pixels = jnp.stack([decode(photo, where="a photo") for photo in photos])
        return scale * unit(embed(params, pixels)) @ class_embeddings.T

    return folder, logits_of


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def photos_of(name, kind="JPEG", frame=0):
    """Encoded photos of noise, 16 x 16 pixels and a red frame."""
    rng = record.rng_of(name)
    photos = []
    for _ in range(NUM_PHOTOS):
        pixels = np.full((16 + 2 * frame, 16 + 2 * frame, 3), (255, 0, 0), np.uint8)
        shade = rng.integers(0, 200, 3)  # without it all photos look alike to the model
        noise = rng.integers(0, 56, (16, 16, 3)) + shade
        pixels[frame : frame + 16, frame : frame + 16] = noise
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, kind)
        photos.append(buffer.getvalue())
    return photos


def chosen_labels(scores):
    """Labels of which the prediction is every other one: the rest are misses."""
    predictions = scores.argmax(axis=1)
    others = (predictions + 1 + np.arange(len(scores))) % scores.shape[1]
    return np.where(np.arange(len(scores)) % 2, others, predictions)


def accuracy_and_ece(scores, right):
    """By a loop over 15 bins; `right [n k]` holds all right answers."""
    probs = np.exp(scores - scores.max(axis=1, keepdims=True))
    confidence = (probs / probs.sum(axis=1, keepdims=True)).max(axis=1)
    correct = right[np.arange(len(scores)), scores.argmax(axis=1)]
    ece = 0.0
    for low in range(15):
        inside = (low / 15 < confidence) & (confidence <= (low + 1) / 15)
        if inside.any():
            gap = correct[inside].mean() - confidence[inside].mean()
            ece += inside.mean() * abs(gap)
    return correct.mean(), ece


def one_hot(labels, num_classes):
    return np.eye(num_classes, dtype=bool)[labels]


class Suite:
    """A data_dir, and by the names of its data sets what a model says and what is right.

    Attributes:
        data_dir: Where they are.
        logits: Over all 1000 classes.
        expected: Scores of the data set's own k classes [n k], and its right answers [n k].
    """

    def __init__(self, data_dir, archives, pack, logits_of):
        self.data_dir, self.logits, self.expected = data_dir, {}, {}
        self._archives, self._pack, self._logits_of = archives, pack, logits_of

    def prepare(self, name, archive, files):
        """Packs the archive and runs the command of docs/datasets.md."""
        path = self._pack(self._archives / archive, files)
        arguments = [name, f"--data_dir={self.data_dir}", f"--archive={path}"]
        assert prepare.main(arguments) == 0

    def labelled(self, name, photos, *, classes=range(1000)):
        """The photos' labels, some of them right, where a prediction is one of these classes."""
        classes = np.array(classes)
        self.logits[name] = self._logits_of(photos)
        scores = self.logits[name][:, classes]
        labels = chosen_labels(scores)
        self.expected[name] = (scores, one_hot(labels, len(classes)))
        return classes[labels].tolist()

    def folders(self, name, *, path, **options):
        """{file: photo} in a folder of each photo's class: `path` formatted with ID and number."""
        photos = photos_of(name)
        labels = self.labelled(name, photos, **options)
        named = enumerate(zip(photos, labels, strict=True))
        return {path.format(label=b, id=WORDNET_IDS[b], number=i): p for i, (p, b) in named}

    def validation(self):
        photos = photos_of("imagenet")
        labels = self.labelled("imagenet", photos)
        builder = Imagenet2012(data_dir=str(self.data_dir))
        builder.examples = list(zip(photos, labels, strict=True))
        builder.write()

    def real(self):
        """Of the photos: a prediction first and last among the answers, misses, and no answer."""
        photos = photos_of("imagenet")
        scores = self._logits_of(photos)
        best, worst = scores.argmax(axis=1).tolist(), scores.argmin(axis=1).tolist()
        pairs = enumerate(zip(best, worst, strict=True))
        answers = [[b] if i == 0 else [w, 0, b] for i, (b, w) in pairs]
        answers[2], answers[4], answers[5] = [], [worst[4]], []
        (self._archives / "real.json").write_text(json.dumps(answers))
        names = [f"ILSVRC2012_val_{number + 1:08}.JPEG" for number in range(len(photos))]
        unsorted = dict(reversed(list(zip(names, photos, strict=True))))
        self.prepare("imagenet_real", "ILSVRC2012_img_val.tar", unsorted)
        kept = [row for row, answer in enumerate(answers) if answer]
        right = np.stack([one_hot(answers[row], 1000).any(axis=0) for row in kept])
        self.expected["imagenet_real"] = (scores[kept], right)

    def objectnet(self):
        groups = [places for _, places in OBJECTNET.values() if places]
        folders = [folder for folder, (_, places) in OBJECTNET.items() if places]
        framed = photos_of("objectnet", "PNG", frame=2)
        logits = self.logits["objectnet"] = self._logits_of(photos_of("objectnet", "PNG"))
        scores = np.stack([logits[:, places].max(axis=1) for places in groups], axis=1)
        labels = chosen_labels(scores)
        labels[-3:] = range(3)  # every mapped folder has a photo
        self.expected["objectnet"] = (scores, one_hot(labels, 3))
        root = "objectnet-1.0"
        files = {f"{root}/images/{folders[b]}/{i}.png": framed[i] for i, b in enumerate(labels)}
        files |= {f"{root}/images/air_freshener/{number}.png": framed[0] for number in "ab"}
        lines = [f"class {place}" for place in range(1000)][::-1]
        imagenet_names = {
            label: "; ".join(f"class {place}" for place in places)
            for label, places in OBJECTNET.values()
            if places
        }
        tables = {
            "folder_to_objectnet_label.json": {f: label for f, (label, _) in OBJECTNET.items()},
            "objectnet_to_imagenet_1k.json": imagenet_names,
            "pytorch_to_imagenet_2012_id.json": {str(p): 999 - p for p in range(1000)},
        }
        files |= {f"{root}/mappings/{n}": json.dumps(t).encode() for n, t in tables.items()}
        files[f"{root}/mappings/imagenet_to_label_2012_v2"] = "\n".join(lines).encode()
        self.prepare("objectnet", "objectnet-1.0", files | {f"{root}/README": b"read"})

    def corrupted(self):
        """Two photos in each of the 75 copies; how many are right differs between them."""
        photos = photos_of("imagenet_c")[:2]
        scores = self._logits_of(photos)
        best = scores.argmax(axis=1)
        for archive, corruptions in C_ARCHIVES.items():
            files = {}
            for corruption in corruptions:
                for severity in range(1, 6):
                    labels = (best + [len(corruption) % 2, severity > 3]) % 1000
                    name = f"{corruption.replace('_', ' ')} {severity}"
                    self.expected[name] = (scores, one_hot(labels, 1000))
                    for number, (photo, label) in enumerate(zip(photos, labels, strict=True)):
                        file = f"{WORDNET_IDS[label]}/ILSVRC2012_val_{number + 1:08}.JPEG"
                        files[f"{corruption}/{severity}/{file}"] = photo
            self.prepare("imagenet_c", f"{archive}.tar", files)


@pytest.fixture(scope="module")
def suite(model, pack, tmp_path_factory):
    """Every data set of the suite, prepared."""
    folder = tmp_path_factory.mktemp("imagenet")
    made = Suite(folder / "data", folder, pack, model[1])
    made.validation()
    v2 = made.folders("imagenet_v2", path="{label}/{number}.jpeg")
    v2 = {f"imagenetv2-matched-frequency-format-val/{name}": photo for name, photo in v2.items()}
    made.prepare("imagenet_v2/matched-frequency", "imagenet_v2", v2)
    for letter, file in (("a", "0.00{number}_fox squirrel_0.9"), ("r", "art_{number}")):
        name = f"imagenet_{letter}"
        root = f"imagenet-{letter}"
        held = [WORDNET_IDS.index(one) for one in imagenet.SUBSETS[name]]
        files = made.folders(name, path=f"{root}/{{id}}/{file}.jpg", classes=held)
        made.prepare(name, f"{root}.tar", {f"{root}/README.txt": b"n01443537 goldfish", **files})
    sketch = made.folders("imagenet_sketch", path="sketch/{id}/sketch_{number}.JPEG")
    made.prepare("imagenet_sketch", "ImageNet-Sketch.zip", sketch)
    made.objectnet()
    made.real()
    made.corrupted()
    return made


def command(model, data_dir, workdir, variant):
    return [
        "calib_jax",
        f"--config={EVALUATE}:{variant},{model[0]}",
        f"--workdir={workdir}",
        f"--config.data_dir={data_dir}",
        f"--config.evaluation.templates='{TEMPLATE}'",  # one, for speed
        "--config.evaluation.batch_size=8",
        "--config.evaluation.num_resamples=2",
        "--config.evaluation.num_examples=1",
    ]


@pytest.fixture(scope="module")
def results(model, suite, tmp_path_factory):
    """A function that evaluates a variant of configs/evaluate.py once: (results, report)."""
    found = {}

    def of(variant):
        if variant not in found:
            workdir = tmp_path_factory.mktemp(variant)
            assert main.main(command(model, suite.data_dir, workdir, variant)) == 0
            found[variant] = (read_json(workdir / "results.json"), workdir / "report.html")
        return found[variant]

    return of


VARIANTS = {
    "imagenet": ("imagenet", *imagenet.shifts()),
    "imagenet_c": ("imagenet", *imagenet.corrupted()),
    "imagenet_real": ("imagenet_real",),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_data_set_is_measured_as_by_hand(suite, results, variant):
    found, report = results(variant)
    id_name, *shifts = VARIANTS[variant]
    assert (found["datasets"]["id"], found["datasets"]["shifts"]) == (id_name, shifts)
    (run,) = found["runs"]
    page = report.read_text()
    values = {}
    for name in (id_name, *shifts):
        scores, right = suite.expected[name]
        values[name] = accuracy_and_ece(scores, right)
        assert found["datasets"]["num_examples"][name] == len(scores)
        got = run["metrics"][name]["accuracy"], run["metrics"][name]["ece_15"]
        assert got == pytest.approx(values[name], abs=1e-5), name
        assert name in page
    assert set(run["metrics"]) == set(values)
    if shifts:
        means = np.mean([values[name] for name in shifts], axis=0)
        got = run["summary"]["ood_accuracy"], run["summary"]["ood_ece"]
        assert got == pytest.approx(tuple(means), abs=1e-5)
        assert len({accuracy for accuracy, _ in values.values()}) > 1


@pytest.mark.parametrize("name", ["imagenet_r", "imagenet_a", "objectnet"])
def test_other_classes_would_have_taken_the_right_answers(suite, name):
    """So the test above sees whether logits are restricted."""
    scores, right = suite.expected[name]
    is_right = right[np.arange(len(scores)), scores.argmax(axis=1)]
    assert np.any(suite.logits[name].max(axis=1)[is_right] > scores.max(axis=1)[is_right])


def test_images_of_real_have_several_answers_or_are_left_out(suite, results):
    metrics = results("imagenet_real")[0]["runs"][0]["metrics"]["imagenet_real"]
    assert metrics["accuracy"] == 4 / 5
    assert suite.expected["imagenet_real"][1].sum(axis=1).max() == 3
    assert metrics["nll"] is None


def test_a_data_set_that_is_missing_names_its_command(model, suite, tmp_path, capsys):
    others = shutil.ignore_patterns("objectnet", "imagenet_c")
    shutil.copytree(suite.data_dir, tmp_path / "data", ignore=others)
    assert main.main(command(model, tmp_path / "data", tmp_path / "run", "imagenet")) == 2
    *_, line = capsys.readouterr().err.strip().splitlines()
    start = f"python -m calib_jax.data.prepare objectnet --data_dir={tmp_path / 'data'}"
    assert f"Run {start} --archive=PATH (PATH: what objectnet-1.0.zip" in line
