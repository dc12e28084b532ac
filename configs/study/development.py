"""What `softened_distillation` was chosen on: shifts and images that no report shows, one seed."""

import dataclasses

from calib_jax.data.datasets import cifar10, pacs
from calib_jax.data.datasets.records import Split
from calib_jax.evaluation.evaluate import Evaluation
from calib_jax.methods.baselines import pair_distilled, zero_shot
from calib_jax.methods.method import Method
from calib_jax.methods.robust import flyp, tracer
from calib_jax.methods.softened_distillation import softened_distillation
from calib_jax.objectives.spectral import CrossProjection, OrthogonalProjection
from calib_jax.runs.experiment import Experiment
from calib_jax.runs.study import Study
from configs.study import cifar10 as on_cifar10
from configs.study import pacs as on_pacs
from configs.study import pretrain
from configs.study.methods import CAROT, ORDER, methods, tuning

# Not among the eight of the study; of the same test images.
CORRUPTED = cifar10.CorruptedTest(
    corruptions=("shot_noise", "speckle_noise", "zoom_blur"), severities=(2, 4), max_examples=600
)


def constrained() -> Method:
    """With CaRot's two terms of the projections."""
    method = softened_distillation(temperature=2.0)
    method.terms["orthogonality"] = OrthogonalProjection(weight=0.2)
    method.terms["cross_projection"] = CrossProjection(weight=0.05)
    return method


TUNED = {
    "flyp": flyp(),
    "flyp_smoothed": flyp(label_smoothing=0.1),
    "carot": CAROT,
    "tracer": tracer(),
    "pair_distilled": pair_distilled(),
    "weak": softened_distillation(temperature=1.0),
    "softened_distillation": softened_distillation(),
    "softer": softened_distillation(temperature=2.0),
    "strong": softened_distillation(weight=1.5),
    "both": softened_distillation(weight=1.5, temperature=2.0),
    "constrained": constrained(),
}


def _development(experiment: Experiment, evaluation: Evaluation) -> Experiment:
    return dataclasses.replace(
        experiment,
        evaluation=dataclasses.replace(evaluation, near={}, far={}),
        methods={"zero_shot": zero_shot(), **methods(TUNED)},
        tuning=tuning(TUNED),
        weight_space={},
        seeds=(0,),
    )


def get_config(only: str = "") -> Study:
    cifar, photos = on_cifar10.get_config(), on_pacs.get_config()
    corrupted = dataclasses.replace(
        cifar.evaluation,
        id_split=Split(name="cifar10", split="train[47000:49000]"),
        shifts=CORRUPTED.splits(),
    )
    # A tenth of each domain lies between the shares for training and for testing.
    domains = dataclasses.replace(
        photos.evaluation,
        id_split=pacs.domain("photo", (0.45, 0.5)),
        validation=pacs.domain("photo", (0.4, 0.45)),
        shifts={
            k: dataclasses.replace(v, share=pacs.VALIDATION)
            for k, v in photos.evaluation.shifts.items()
        },
    )
    return Study(
        title="How the softened distillation was chosen",
        pretrain=pretrain.get_config(),
        experiments={
            "cifar10": _development(dataclasses.replace(cifar, prepare=(CORRUPTED,)), corrupted),
            "pacs": _development(photos, domains),
        },
        order=ORDER,
        baselines=("flyp", "carot", "tracer"),
        only=only,
        processes=2,
    )
