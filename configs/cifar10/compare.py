"""Fine-tune on clean CIFAR-10, test under corruptions and against other images.

`compare.py:carot` runs one method; `compare.py:tune` compares learning rates on held-out
training images instead.
"""

from calib_jax.data.datasets import cifar10
from calib_jax.data.datasets.prepared import Split
from calib_jax.data.pipeline import Augmentation
from calib_jax.evaluation.evaluate import Evaluation
from calib_jax.experiment import Experiment, Stage, select
from calib_jax.methods.baselines import finetune, zero_shot
from calib_jax.methods.method import Method
from calib_jax.methods.robust import carot, flyp
from calib_jax.models import presets
from calib_jax.training.loop import Training

CORRUPTED = cifar10.CorruptedTest(
    corruptions=(
        "gaussian_noise",
        "shot_noise",
        "impulse_noise",
        "gaussian_blur",
        "zoom_blur",
        "brightness",
        "contrast",
        "saturate",
        "pixelate",
        "jpeg_compression",
    ),
    severities=(1, 3, 5),
    max_examples=2_000,
)


RATES = {"finetune": 3e-4, "flyp": 3e-4, "carot": 1e-3}
"""Chosen with `compare.py:tune`, by NLL on the held-out images, from 1e-4, 3e-4, 1e-3."""


def methods(rates: dict[str, float]) -> dict[str, Method]:
    """Every method of the comparison, at its learning rate."""
    return {
        "zero_shot": zero_shot(),
        "finetune": finetune(learning_rate=rates["finetune"], warmup_steps=30),
        "flyp": flyp(learning_rate=rates["flyp"], warmup_steps=30),
        # The teacher moves 25 times; the paper's, every 500 of 25,030 steps, 51 times.
        "carot": carot(learning_rate=rates["carot"], warmup_steps=30, update_every=6),
    }


def get_config(variant: str = "") -> Experiment:
    experiment = Experiment(
        name="cifar10",
        title="CIFAR-10 under corruptions",
        model=presets.tiny(vocab_size=160, context_length=16, num_layers=4, embed_dim=128),
        pretrained="runs/cifar10_pretrain/pretrained/seed_0",
        finetune=Stage(
            sources=(cifar10.styled(cifar10.train())[0],),
            class_names=cifar10.CLASS_NAMES,
            augmentation=Augmentation(crop_scale=(0.6, 1.0), flip=True),
            training=Training(num_steps=150, batch_size=256, log_every=15, checkpoint_every=75),
        ),
        methods=methods(RATES),
        evaluation=Evaluation(
            id_name="cifar10",
            id_split=cifar10.test(),
            validation=cifar10.validation(),
            shifts=CORRUPTED.splits(),
            near={"cifar100": Split(name="cifar100", split="test")},
            far={"pacs sketches": Split(name="pacs", split="sketch")},
            templates=cifar10.TEMPLATES,
        ),
        seeds=(0, 1, 2),
        prepare=(CORRUPTED,),
        tuned_on="5,000 held-out training images (learning rates, by NLL)",
    )
    return select(experiment, variant, methods, rates=(1e-4, 3e-4, 1e-3))
