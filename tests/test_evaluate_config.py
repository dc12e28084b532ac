"""The variants of configs/evaluate.py."""

import pathlib
import runpy

import jax.numpy as jnp
import pytest

from calib_jax.classifiers.exported import ExportedHead
from calib_jax.classifiers.head import LinearMap
from calib_jax.classifiers.stored import CLASSIFIER_FILE, write_head
from calib_jax.data.datasets import imagenet
from calib_jax.data.datasets.records import Split

CONFIG = pathlib.Path(__file__).resolve().parents[1] / "configs" / "evaluate.py"


@pytest.mark.parametrize(
    ("variant", "num_shifts", "num_classes"),
    [
        ("cifar10", 76, 10),
        ("cifar10+", 0, 10),
        ("imagenet", 5, 1000),
        ("imagenet_c", 75, 1000),
        ("imagenet_real", 0, 1000),
        ("imagenet+imagenet_r+objectnet", 2, 1000),
        ("cifar10+cifar10.1", 1, 10),
        ("pets,laion/some-clip", 0, 0),
        ("pacs:photo+pacs:sketch", 1, 0),
    ],
)
def test_every_variant_validates(variant, num_shifts, num_classes):
    experiment = runpy.run_path(str(CONFIG))["get_config"](variant)
    experiment.validate()
    assert len(experiment.evaluation.shifts) == num_shifts
    assert len(experiment.finetune.class_names) == num_classes
    assert list(experiment.methods) == ["zero_shot"]
    assert experiment.pretrained == (variant.partition(",")[2] or "openai/clip-vit-base-patch16")


def test_what_a_name_stands_for_is_said_and_how_to_leave_it_out(capsys):
    make = runpy.run_path(str(CONFIG))["get_config"]
    make("cifar10,a/model")
    assert capsys.readouterr().err == (
        "calib_jax: cifar10 is tested with cifar10.1, cifar10_c; cifar10+ leaves them out\n"
    )
    make("cifar10+")
    make("pets")
    assert capsys.readouterr().err == ""


def test_a_list_is_the_first_data_set_and_the_others_as_its_shifts():
    data = runpy.run_path(str(CONFIG))["data"]
    evaluation, class_names = data("imagenet+imagenet_r")
    assert evaluation.labelled() == {
        "imagenet": imagenet.validation(),
        "imagenet_r": imagenet.shifts()["imagenet_r"],
    }
    assert (evaluation.templates, class_names) == (imagenet.TEMPLATES, imagenet.CLASS_NAMES)
    evaluation, _ = data("pacs:photo+pacs:sketch")
    assert evaluation.labelled() == {
        "pacs:photo": Split(name="pacs", split="photo"),
        "pacs:sketch": Split(name="pacs", split="sketch"),
    }


def test_an_exported_classifier_is_tested_too_under_its_own_class_names(tmp_path):
    kernel, bias = jnp.zeros((4, 2)), jnp.zeros(2)
    write_head(tmp_path / CLASSIFIER_FILE, LinearMap(kernel=kernel, bias=bias), ("truck", "bird"))
    experiment = runpy.run_path(str(CONFIG))["get_config"](f"cifar10,{tmp_path}")
    assert experiment.methods["exported"].classifier == ExportedHead(folder=str(tmp_path))
    assert experiment.finetune.class_names == ("truck", "bird")
    assert experiment.pretrained == str(tmp_path)
