"""The study on PACS: fine-tune on photographs, test on paintings, cartoons and sketches."""

from calib_jax.data.datasets import pacs
from calib_jax.data.datasets.records import Split
from calib_jax.data.pipeline import Augmentation, Source
from calib_jax.evaluation.evaluate import Evaluation
from calib_jax.methods.baselines import zero_shot
from calib_jax.methods.probes import linear_probe
from calib_jax.runs.experiment import Experiment, Export, Stage
from calib_jax.training.loop import Training
from configs.study.methods import STEPS, methods, tuning, weight_space

TEMPLATES = tuple(template for own in pacs.TEMPLATES.values() for template in own)
"""Of all domains, for captions and prompts alike, as CLIP's 80 for ImageNet are."""


def get_config() -> Experiment:
    return Experiment(
        name="study_pacs",
        title="PACS: photographs, paintings, cartoons, sketches",
        pretrained="runs/study/pretrain/pretrained/seed_0",
        finetune=Stage(
            sources=(Source(split=pacs.domain("photo", pacs.TRAIN), templates=TEMPLATES),),
            class_names=pacs.CLASS_NAMES,
            augmentation=Augmentation(crop_scale=(0.6, 1.0), flip=True),
            training=Training(
                num_steps=STEPS, batch_size=128, log_every=STEPS // 4, checkpoint_every=STEPS
            ),
        ),
        methods={"zero_shot": zero_shot(), "linear_probe": linear_probe(), **methods()},
        tuning=tuning(),
        weight_space=weight_space(),
        evaluation=Evaluation(
            id_name="photo",
            id_split=pacs.domain("photo", pacs.TEST),
            validation=pacs.domain("photo", pacs.VALIDATION),
            shifts={
                name.replace("_", " "): pacs.domain(name, pacs.TEST)
                for name in pacs.DOMAINS
                if name != "photo"
            },
            # Of CIFAR-10, dogs and horses are classes of PACS too.
            far={"cifar10": Split(name="cifar10", split="test[:2000]", without=("dog", "horse"))},
            templates=TEMPLATES,
        ),
        seeds=(0, 1, 2),
        tuned_on="the held-out photographs (learning rates, by NLL, four trials a method)",
        export=Export(models=False),
    )
