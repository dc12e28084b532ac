"""Zero-shot classification and standard fine-tuning."""

from calib_jax.classifiers.linear import LinearHead
from calib_jax.classifiers.zero_shot import ZeroShot
from calib_jax.methods.method import Method
from calib_jax.objectives.cross_entropy import CrossEntropy
from calib_jax.optim.optimizers import AdamW


def zero_shot() -> Method:
    """The pre-trained model as it is, with a head of class text embeddings (arXiv 2103.00020)."""
    return Method(classifier=ZeroShot())


def finetune(*, learning_rate: float = 3e-5, warmup_steps: int = 500) -> Method:
    """Fine-tuning of the image tower and a zero-shot-initialised linear head by cross-entropy.

    FT of WiSE-FT (arXiv 2109.01903), with the settings that CaRot's appendix A.3
    gives it: learning rate 3e-5, weight decay 0.1, gradients clipped at norm 1.
    """
    return Method(
        classifier=LinearHead(),
        terms={"cross_entropy": CrossEntropy()},
        trainable=("encoder/image/.*", "classifier/.*"),
        optimizer=AdamW(learning_rate=learning_rate, warmup_steps=warmup_steps, clip_norm=1.0),
    )
