"""The one small CLIP that the study starts from: CIFAR-10, CIFAR-100 and PACS, many styles."""

from calib_jax.data.datasets import cifar10, pacs
from calib_jax.data.datasets.records import Split
from calib_jax.data.pipeline import Augmentation
from calib_jax.evaluation.evaluate import Evaluation
from calib_jax.methods.baselines import zero_shot
from calib_jax.methods.robust import flyp
from calib_jax.models import presets
from calib_jax.runs.experiment import Experiment, Stage
from calib_jax.training.loop import Training

CLASS_NAMES = tuple(
    dict.fromkeys((*cifar10.CLASS_NAMES, *cifar10.CIFAR100_CLASS_NAMES, *pacs.CLASS_NAMES))
)


def get_config() -> Experiment:
    cifar100 = Split(name="cifar100", split="train")
    return Experiment(
        name="study_pretrain",
        title="The study's small CLIP",
        model=presets.tiny(vocab_size=160, context_length=16, num_layers=4),
        pretrain_method=flyp().scheduled(learning_rate=1e-3, warmup_steps=200),
        pretrain=Stage(
            sources=(
                *cifar10.styled(cifar10.train()),
                *cifar10.styled(cifar100),
                # Two fifths of the images: PACS has 4,100 for pre-training.
                *(pacs.source(name, repeats=100) for name in pacs.DOMAINS),
            ),
            class_names=CLASS_NAMES,
            augmentation=Augmentation(crop_scale=(0.6, 1.0), flip=True),
            training=Training(num_steps=2500, batch_size=256, log_every=100, checkpoint_every=500),
        ),
        finetune=Stage(
            class_names=cifar10.CLASS_NAMES,
            training=Training(num_steps=0),
        ),
        methods={"zero_shot": zero_shot()},
        evaluation=Evaluation(
            id_name="cifar10",
            id_split=cifar10.test(),
            validation=cifar10.validation(),
            templates=cifar10.TEMPLATES,
        ),
    )
