"""The study on CIFAR-10: fine-tune on clean images, test under corruptions and on other images."""

from calib_jax.data.datasets import cifar10
from calib_jax.data.datasets.records import Split
from calib_jax.data.pipeline import Augmentation, Source
from calib_jax.evaluation.evaluate import Evaluation
from calib_jax.methods.baselines import zero_shot
from calib_jax.methods.probes import linear_probe
from calib_jax.runs.experiment import Experiment, Export, Stage
from calib_jax.training.loop import Training
from configs.study.methods import STEPS, methods, tuning, weight_space

CORRUPTED = cifar10.CorruptedTest(
    corruptions=(
        "gaussian_noise",
        "impulse_noise",
        "gaussian_blur",
        "brightness",
        "contrast",
        "saturate",
        "pixelate",
        "jpeg_compression",
    ),
    severities=(2, 4),
    max_examples=300,
)

TEMPLATES = tuple(template for _, own in cifar10.STYLES.values() for template in own)
"""Of all styles, for captions and prompts alike, as CLIP's for CIFAR-10 are."""


def get_config() -> Experiment:
    return Experiment(
        name="study_cifar10",
        title="CIFAR-10 under corruptions",
        pretrained="runs/study/pretrain/pretrained/seed_0",
        finetune=Stage(
            sources=(Source(split=cifar10.train(), templates=TEMPLATES),),
            class_names=cifar10.CLASS_NAMES,
            augmentation=Augmentation(crop_scale=(0.6, 1.0), flip=True),
            training=Training(
                num_steps=STEPS, batch_size=128, log_every=STEPS // 4, checkpoint_every=STEPS
            ),
        ),
        methods={"zero_shot": zero_shot(), "linear_probe": linear_probe(), **methods()},
        tuning=tuning(),
        weight_space=weight_space(),
        evaluation=Evaluation(
            id_name="cifar10",
            id_split=Split(name="cifar10", split="test[:2000]"),
            validation=Split(name="cifar10", split="train[45000:47000]"),
            shifts=CORRUPTED.splits(),
            near={"cifar100": Split(name="cifar100", split="test[:1000]")},
            # Dogs and horses are classes of CIFAR-10 too.
            far={
                f"pacs {domain}": Split(
                    name="pacs", split=domain, share=(0.8, 1.0), without=("dog", "horse")
                )
                for domain in ("photo", "sketch")
            },
            templates=TEMPLATES,
        ),
        seeds=(0, 1, 2),
        prepare=(CORRUPTED,),
        tuned_on="2,000 held-out training images (learning rates, by NLL, four trials a method)",
        export=Export(models=False),
    )
