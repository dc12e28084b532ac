"""Fine-tune on clean CIFAR-10 and test under corruptions; `compare.py:carot` runs one method."""

from calib_jax.core.errors import ConfigError
from calib_jax.data.datasets import cifar10
from calib_jax.data.datasets.prepared import Split
from calib_jax.data.pipeline import Augmentation
from calib_jax.evaluation.evaluate import Evaluation
from calib_jax.experiment import Experiment, Stage
from calib_jax.methods.baselines import finetune, zero_shot
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


def get_config(method: str = "all") -> Experiment:
    methods = {
        "zero_shot": zero_shot(),
        "finetune": finetune(learning_rate=3e-4, warmup_steps=50),
        "flyp": flyp(learning_rate=3e-4, warmup_steps=50),
        "carot": carot(learning_rate=3e-4, warmup_steps=50, update_every=10),
    }
    if method not in ("all", *methods):
        raise ConfigError(f"compare.py: got {method!r}, expected all or {', '.join(methods)}.")
    return Experiment(
        name="cifar10",
        title="CIFAR-10 under corruptions",
        model=presets.tiny(vocab_size=160, context_length=16, num_layers=4, embed_dim=128),
        pretrained="runs/cifar10_pretrain/pretrained/seed_0",
        finetune=Stage(
            sources=(cifar10.styled(cifar10.train())[0],),
            class_names=cifar10.CLASS_NAMES,
            augmentation=Augmentation(crop_scale=(0.6, 1.0), flip=True),
            training=Training(num_steps=500, batch_size=256, log_every=25, checkpoint_every=250),
        ),
        methods=methods if method == "all" else {method: methods[method]},
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
    )
