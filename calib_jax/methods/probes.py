"""Linear probing, and fine-tuning that starts from its head."""

from calib_jax.classifiers.linear import LinearHead
from calib_jax.core.errors import ConfigError
from calib_jax.methods.baselines import finetune
from calib_jax.methods.method import Method
from calib_jax.objectives.cross_entropy import CrossEntropy
from calib_jax.optim.logistic import LogisticRegression
from calib_jax.optim.optimizers import AdamW

SOLVERS = ("lbfgs", "gradient")


def linear_probe(*, solver: str = "lbfgs") -> Method:
    """A linear head on the frozen image tower's features, cached once.

    `lbfgs` is the probe of CLIP (arXiv 2103.00020, appendix A.3): multinomial logistic regression
    to its minimum, the penalty chosen on the validation split. `gradient` is LP of CaRot's appendix
    A.3 (arXiv 2311.01723): AdamW at 1e-2, otherwise the settings of `finetune`.

    Deviations: the features are unit-norm, where CLIP's and CaRot's probes take them as they are;
    `gradient` starts from the zero-shot head, where CaRot's code draws one; no augmentation.

    Args:
        solver: `lbfgs` or `gradient`.

    Raises:
        ConfigError: An unknown solver.
    """
    if solver not in SOLVERS:
        raise ConfigError(
            f"solver: got {solver!r}, expected one of {', '.join(SOLVERS)}. Correct it."
        )
    return Method(
        classifier=LinearHead(),
        terms={"cross_entropy": CrossEntropy()},
        trainable=("classifier/.*",),
        optimizer=LogisticRegression()
        if solver == "lbfgs"
        else AdamW(learning_rate=1e-2, warmup_steps=500, clip_norm=1.0),
        cached_features=True,
    )


def lp_ft(*, probe_learning_rate: float = 1e-2) -> Method:
    """LP-FT (arXiv 2202.10054): `finetune` from the head of a `linear_probe`.

    The settings of CaRot's appendix A.3 (arXiv 2311.01723): half of the steps each (5 + 5 epochs),
    learning rates 1e-2 and 3e-5; each half has its own warm-up and cosine.

    Deviations: those of `linear_probe`; the LP-FT paper itself takes the probe from logistic
    regression, its penalty chosen on validation (set `warm_start` to `linear_probe()` for that).
    """
    method = finetune()
    method.share_of_steps = 0.5
    probe = linear_probe(solver="gradient")
    method.warm_start = probe.scheduled(learning_rate=probe_learning_rate)
    method.warm_start.share_of_steps = 0.5
    return method
