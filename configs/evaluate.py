"""Any CLIP model under shift, as it is: `evaluate.py:DATA` or `evaluate.py:DATA,MODEL`.

DATA: `cifar10` (with CIFAR-10.1 and CIFAR-10-C), `imagenet` (with its five shifts), `imagenet_c`,
`imagenet_real`, or the name of any prepared TFDS data set with a split `test`. MODEL: a hub id, or
a folder of ours or in the Hugging Face layout; where an exported classifier lies in it, that is
tested beside the zero-shot head.
"""

import pathlib

from calib_jax.classifiers.exported import ExportedHead
from calib_jax.classifiers.stored import CLASSIFIER_FILE, read_head
from calib_jax.data.datasets import cifar10, cifar10_1, cifar10_c, imagenet
from calib_jax.data.datasets.records import Split
from calib_jax.evaluation.evaluate import Evaluation
from calib_jax.experiment import Experiment, Stage
from calib_jax.methods.baselines import zero_shot
from calib_jax.methods.method import Method
from calib_jax.training.loop import Training


def data(name: str) -> tuple[Evaluation, tuple[str, ...]]:
    """What is tested on, and the class names; none: the data set's own."""
    if name == "cifar10":
        shifts = {"cifar10.1": cifar10_1.test(), **cifar10_c.corrupted()}
        evaluation = Evaluation(
            id_name=name,
            id_split=cifar10.test(),
            validation=cifar10.validation(),
            shifts=shifts,
            templates=cifar10.TEMPLATES,
        )
        return evaluation, cifar10.CLASS_NAMES
    if name in ("imagenet", "imagenet_c", "imagenet_real"):
        found = {"imagenet": imagenet.shifts, "imagenet_c": imagenet.corrupted}.get(name, dict)()
        id_split = imagenet.real() if name == "imagenet_real" else imagenet.validation()
        templates = imagenet.TEMPLATES
        id_name = "imagenet" if name == "imagenet_c" else name
        evaluation = Evaluation(
            id_name=id_name, id_split=id_split, shifts=found, templates=templates
        )
        return evaluation, imagenet.CLASS_NAMES
    split = Split(name=name, split="test")
    return Evaluation(id_name=name, id_split=split, templates=("a photo of a {}.",)), ()


def get_config(variant: str = "cifar10") -> Experiment:
    name, _, model = variant.partition(",")
    evaluation, class_names = data(name)
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
