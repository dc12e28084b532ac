"""Any CLIP model under shift, as it is: `evaluate.py:DATA` or `evaluate.py:DATA,MODEL`.

DATA: `cifar10` (with CIFAR-10.1 and CIFAR-10-C), `imagenet` (with its five shifts), `imagenet_c`,
`imagenet_real`, or any prepared TFDS data set: `NAME` (its split `test`) or `NAME:SPLIT`. Or a list
of these: `imagenet+imagenet_r+objectnet` or `pacs:photo+pacs:sketch` tests on the first and on the
others as shifts of its classes, and on nothing else; `cifar10+` is CIFAR-10 alone. MODEL: a hub id,
or a folder of ours or in the Hugging Face layout; where an exported classifier lies in it, that is
tested beside the zero-shot head.
"""

import pathlib
import sys

from calib_jax.classifiers.exported import ExportedHead
from calib_jax.classifiers.stored import CLASSIFIER_FILE, read_head
from calib_jax.core.printing import say
from calib_jax.data.datasets import cifar10, cifar10_1, cifar10_c, imagenet
from calib_jax.data.datasets.records import Split
from calib_jax.evaluation.evaluate import Evaluation
from calib_jax.methods.baselines import zero_shot
from calib_jax.methods.method import Method
from calib_jax.runs.experiment import Experiment, Stage
from calib_jax.training.loop import Training

ALONE = {
    "cifar10": ("cifar10", "cifar10.1", "cifar10_c"),
    "imagenet": ("imagenet", *imagenet.shifts()),
    "imagenet_c": ("imagenet", "imagenet_c"),
}
"""What a name that stands alone is tested on."""


def splits(name: str) -> dict[str, Split]:
    """The splits of one name of DATA."""
    if name == "cifar10_c":
        return cifar10_c.corrupted()
    if name == "imagenet_c":
        return imagenet.corrupted()
    known: dict[str, Split] = {
        "cifar10": cifar10.test(),
        "cifar10.1": cifar10_1.test(),
        "imagenet": imagenet.validation(),
        "imagenet_real": imagenet.real(),
        **imagenet.shifts(),
    }
    data_set, _, split = name.partition(":")
    return {name: known.get(name) or Split(name=data_set, split=split or "test")}


def data(text: str) -> tuple[Evaluation, tuple[str, ...]]:
    """What is tested on, and the class names; none: the data set's own."""
    first, *others = text.split("+")
    names = (first, *filter(None, others)) if others else ALONE.get(first, (first,))
    found = {key: split for name in names for key, split in splits(name).items()}
    (id_name, id_split), *shifts = found.items()
    evaluation = Evaluation(
        id_name=id_name,
        id_split=id_split,
        shifts=dict(shifts),
        templates=("a photo of a {}.",),
    )
    if first.startswith("cifar10"):
        evaluation.validation, evaluation.templates = cifar10.validation(), cifar10.TEMPLATES
        return evaluation, cifar10.CLASS_NAMES
    if first.startswith("imagenet"):
        evaluation.templates = imagenet.TEMPLATES
        return evaluation, imagenet.CLASS_NAMES
    return evaluation, ()


def get_config(variant: str = "cifar10") -> Experiment:
    name, _, model = variant.partition(",")
    evaluation, class_names = data(name)
    if name in ALONE:
        shifts = ", ".join(ALONE[name][1:])
        say(f"calib_jax: {name} is tested with {shifts}; {name}+ leaves them out", file=sys.stderr)
    methods = {"zero_shot": zero_shot()}
    classifier = pathlib.Path(model) / CLASSIFIER_FILE
    if model and classifier.is_file():
        methods["exported"] = Method(classifier=ExportedHead(folder=model))
        class_names = read_head(classifier)[1]  # the data sets' classes find theirs by name
    return Experiment(
        name=f"evaluate_{name}",
        title=f"{model or 'CLIP'} on {name}",
        pretrained=model or "openai/clip-vit-base-patch16",
        finetune=Stage(class_names=class_names, training=Training(num_steps=0)),
        methods=methods,
        evaluation=evaluation,
    )
