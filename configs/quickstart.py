"""Handwritten digits, from scratch: pre-train a tiny CLIP, fine-tune it, test it under shift."""

from calib_jax.data.datasets import digits
from calib_jax.data.pipeline import Source
from calib_jax.evaluation.evaluate import Evaluation
from calib_jax.experiment import Experiment, Stage
from calib_jax.methods.baselines import finetune, zero_shot
from calib_jax.methods.robust import carot, flyp
from calib_jax.models import presets
from calib_jax.training.loop import Training


def source(domain: str) -> Source:
    """Training images of one domain with its captions."""
    return Source(split=digits.domain(domain, "train"), templates=digits.TEMPLATES[domain])


def get_config() -> Experiment:
    return Experiment(
        name="quickstart",
        title="Handwritten digits under distribution shift",
        model=presets.tiny(vocab_size=64, context_length=16),
        pretrain_method=flyp(learning_rate=1e-3, warmup_steps=50),
        pretrain=Stage(
            sources=tuple(source(domain) for domain in ("clean", *digits.DOMAINS)),
            class_names=digits.CLASS_NAMES,
            training=Training(num_steps=500, batch_size=128, log_every=25, checkpoint_every=250),
        ),
        finetune=Stage(
            sources=(source("clean"),),
            class_names=digits.CLASS_NAMES,
            training=Training(num_steps=100, batch_size=128, log_every=10, checkpoint_every=50),
        ),
        methods={
            "zero_shot": zero_shot(),
            "finetune": finetune(learning_rate=3e-4, warmup_steps=15),
            "flyp": flyp(learning_rate=3e-4, warmup_steps=15),
            "carot": carot(learning_rate=3e-4, warmup_steps=15, update_every=3),
        },
        evaluation=Evaluation(
            id_split=digits.domain("clean", "test"),
            validation=digits.domain("clean", "validation"),
            shifts={domain: digits.domain(domain, "test") for domain in digits.DOMAINS},
            near={"digits 8 and 9": digits.near_ood()},
            far={"photographs": digits.far_ood()},
            templates=digits.TEMPLATES["clean"],
        ),
        prepare=(digits.prepare,),
    )
