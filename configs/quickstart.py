"""Handwritten digits, from scratch: pre-train a tiny CLIP, fine-tune it, test it under shift.

`quickstart.py:carot` runs one method; `quickstart.py:tune` chooses the learning rates anew, on the
clean validation split, before the rest.
"""

from calib_jax.data.datasets import digits
from calib_jax.data.pipeline import Source
from calib_jax.evaluation.evaluate import Evaluation
from calib_jax.methods.baselines import finetune, zero_shot
from calib_jax.methods.method import Method
from calib_jax.methods.robust import carot, flyp
from calib_jax.models import presets
from calib_jax.runs.experiment import Experiment, Stage, Tuning, select
from calib_jax.training.loop import Training

RATES = {"finetune": 3e-4, "flyp": 1e-3, "carot": 3e-4}
"""Chosen with `quickstart.py:tune` from GRID, by NLL on the clean validation split."""

GRID = (1e-4, 3e-4, 1e-3, 3e-3)


def source(domain: str) -> Source:
    """Training images of one domain with its captions."""
    return Source(split=digits.domain(domain, "train"), templates=digits.TEMPLATES[domain])


def methods(rates: dict[str, float]) -> dict[str, Method]:
    """Every method of the comparison, at its learning rate."""
    return {
        "zero_shot": zero_shot(),
        "finetune": finetune().scheduled(learning_rate=rates["finetune"], warmup_steps=10),
        "flyp": flyp().scheduled(learning_rate=rates["flyp"], warmup_steps=10),
        # The teacher moves 50 times; the paper's, every 500 of 25,030 steps, 51 times.
        "carot": carot(update_every=2).scheduled(learning_rate=rates["carot"], warmup_steps=10),
    }


def get_config(variant: str = "") -> Experiment:
    experiment = Experiment(
        name="quickstart",
        title="Handwritten digits under distribution shift",
        model=presets.tiny(vocab_size=64, context_length=16),
        pretrain_method=flyp().scheduled(learning_rate=1e-3, warmup_steps=50),
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
        methods=methods(RATES),
        evaluation=Evaluation(
            id_split=digits.domain("clean", "test"),
            validation=digits.domain("clean", "validation"),
            shifts={domain: digits.domain(domain, "test") for domain in digits.DOMAINS},
            near={"digits 8 and 9": digits.near_ood()},
            far={"photographs": digits.far_ood()},
            templates=digits.TEMPLATES["clean"],
        ),
        prepare=(digits.prepare,),
        tuned_on="the clean validation split (learning rates, by NLL)",
    )
    by_rate = {f"{rate:g}": methods(dict.fromkeys(RATES, rate)) for rate in GRID}
    trials = {name: {rate: made[name] for rate, made in by_rate.items()} for name in RATES}
    return select(experiment, variant, Tuning(trials=trials))
