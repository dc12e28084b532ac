"""Zero-shot CLIP on ImageNet: nothing is trained.

`zero_shot.py:sample` takes a ViT-B/32 with random weights through a thousand photographs of the
data set `imagenet_sample`: accuracy is chance, time and memory are those of a real model.
"""

from calib_jax.core.errors import ConfigError
from calib_jax.data.datasets import imagenet
from calib_jax.evaluation.evaluate import Evaluation
from calib_jax.methods.baselines import zero_shot
from calib_jax.methods.method import Method
from calib_jax.models import presets
from calib_jax.runs.experiment import Experiment, Stage
from calib_jax.training.loop import Training


def get_config(variant: str = "") -> Experiment:
    if variant not in ("", "sample"):
        raise ConfigError(f"--config: got variant {variant!r}, expected sample. Correct it.")
    images = Stage(class_names=imagenet.CLASS_NAMES, training=Training(num_steps=0))
    experiment = Experiment(
        name="imagenet_zero_shot",
        title="Zero-shot CLIP on ImageNet",
        pretrained="openai/clip-vit-base-patch32",
        finetune=images,
        methods={"zero_shot": zero_shot()},
        evaluation=Evaluation(
            id_name="imagenet",
            id_split=imagenet.validation(),
            templates=imagenet.TEMPLATES,
            batch_size=128,
        ),
    )
    if variant == "sample":
        experiment.title = "A thousand photographs through a ViT-B/32 with random weights"
        experiment.evaluation.id_split = imagenet.validation("imagenet_sample")
        experiment.model = presets.vit_b32()
        experiment.pretrained, experiment.tokenizer = "", "openai/clip-vit-base-patch32"
        # Pre-training without a term leaves the model as it was drawn.
        experiment.pretrain_method, experiment.pretrain = Method(), images
    return experiment
