"""Pre-train a small CLIP on captioned CIFAR-10 and CIFAR-100 training images of many styles."""

from calib_jax.data.datasets import cifar10
from calib_jax.data.datasets.prepared import Split
from calib_jax.data.pipeline import Augmentation
from calib_jax.evaluation.evaluate import Evaluation
from calib_jax.experiment import Experiment, Stage
from calib_jax.methods.baselines import zero_shot
from calib_jax.methods.robust import flyp
from calib_jax.models import presets
from calib_jax.training.loop import Training


def get_config() -> Experiment:
    augmentation = Augmentation(crop_scale=(0.6, 1.0), flip=True)
    cifar100 = Split(name="cifar100", split="train")
    return Experiment(
        name="cifar10_pretrain",
        title="A small CLIP, pre-trained on CIFAR-10 and CIFAR-100 in nine styles",
        model=presets.tiny(vocab_size=160, context_length=16, num_layers=4, embed_dim=128),
        pretrain_method=flyp(learning_rate=1e-3, warmup_steps=200),
        pretrain=Stage(
            sources=(*cifar10.styled(cifar10.train()), *cifar10.styled(cifar100)),
            class_names=(*cifar10.CLASS_NAMES, *cifar10.CIFAR100_CLASS_NAMES),
            augmentation=augmentation,
            training=Training(num_steps=2000, batch_size=256, log_every=100, checkpoint_every=500),
        ),
        finetune=Stage(
            sources=(cifar10.styled(cifar10.train())[0],),
            class_names=cifar10.CLASS_NAMES,
            augmentation=augmentation,
            training=Training(num_steps=0),
        ),
        methods={"zero_shot": zero_shot()},
        evaluation=Evaluation(
            id_name="cifar10",
            id_split=cifar10.test(),
            validation=cifar10.validation(),
            near={"cifar100": Split(name="cifar100", split="test")},
            far={"pacs sketches": Split(name="pacs", split="sketch")},
            templates=cifar10.TEMPLATES,
        ),
    )
