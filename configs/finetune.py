"""A pre-trained CLIP, fine-tuned on any prepared TFDS data set: `finetune.py:NAME`.

The data set needs the splits `train` and `test`; for another name of the latter, set
`--config.evaluation.id_split.split`. Compares zero-shot, FLYP and CaRot; the fine-tuned models lie
in `models/` of the workdir.
"""

from calib_jax.data.datasets.records import Split
from calib_jax.data.pipeline import Source
from calib_jax.evaluation.evaluate import Evaluation
from calib_jax.methods.baselines import zero_shot
from calib_jax.methods.robust import carot, flyp
from calib_jax.runs.experiment import Experiment, Stage
from calib_jax.training.loop import Training

TEMPLATES = ("a photo of a {}.", "a close-up photo of a {}.", "a cropped photo of the {}.")


def get_config(name: str = "cifar10") -> Experiment:
    return Experiment(
        name=f"finetune_{name}",
        title=f"CLIP on {name}",
        pretrained="openai/clip-vit-base-patch16",
        finetune=Stage(
            sources=(Source(split=Split(name=name, split="train[:90%]"), templates=TEMPLATES),),
            # The data set's own; underscores in them are spaces.
            class_names=(),
            training=Training(num_steps=1000, batch_size=256, log_every=50, checkpoint_every=250),
        ),
        methods={
            "zero_shot": zero_shot(),
            "flyp": flyp().scheduled(warmup_steps=50),
            # The teacher moves 50 times, as in the paper.
            "carot": carot(update_every=20).scheduled(warmup_steps=50),
        },
        evaluation=Evaluation(
            id_name=name,
            id_split=Split(name=name, split="test"),
            validation=Split(name=name, split="train[90%:]"),
            templates=TEMPLATES,
        ),
    )
