"""Zero-shot classification, and fine-tuning by cross-entropy with what keeps it near the start."""

from calib_jax.classifiers.linear import LinearHead
from calib_jax.classifiers.zero_shot import ZeroShot
from calib_jax.methods.method import Method
from calib_jax.objectives.context import ContextAwareness
from calib_jax.objectives.contrastive import Contrastive
from calib_jax.objectives.cross_entropy import CrossEntropy
from calib_jax.objectives.distillation import LogitDistillation, StaticDistillation
from calib_jax.objectives.mixup import Mixup
from calib_jax.objectives.proximity import L2SP
from calib_jax.objectives.random_text import RandomTextMatching
from calib_jax.objectives.term import Term
from calib_jax.optim.optimizers import AdamW


def zero_shot() -> Method:
    """The pre-trained model as it is, with a head of class text embeddings (arXiv 2103.00020)."""
    return Method(classifier=ZeroShot())


def finetune(*, label_smoothing: float = 0.0, mixup: float = 0.0) -> Method:
    """Fine-tuning of the image tower and a zero-shot-initialised linear head by cross-entropy.

    FT of WiSE-FT (arXiv 2109.01903), with the settings that CaRot's appendix A.3
    gives it: learning rate 3e-5, weight decay 0.1, gradients clipped at norm 1.
    `label_smoothing` above 0 makes it the label-smoothing baseline (arXiv 1512.00567), `mixup`,
    the alpha of `Mixup`, the mixup baseline (arXiv 1710.09412).
    """
    terms: dict[str, Term] = {"cross_entropy": CrossEntropy(label_smoothing=label_smoothing)}
    if mixup:
        terms = {"mixup": Mixup(alpha=mixup, label_smoothing=label_smoothing)}
    return Method(
        classifier=LinearHead(),
        terms=terms,
        trainable=("encoder/image/.*", "classifier/.*"),
        optimizer=AdamW(learning_rate=3e-5, warmup_steps=500, clip_norm=1.0),
    )


def l2_sp(*, weight: float = 0.01) -> Method:
    """L2-SP (arXiv 1802.01483): `finetune` plus `weight ||theta - theta_0||^2 / 2`.

    Deviations: the optimizer is that of `finetune`, its weight decay to zero included; the head
    starts from the text tower and has no penalty of its own. The paper chooses the weight on
    validation data: the default is ours.
    """
    method = finetune()
    method.terms["l2_sp"] = L2SP(weight=weight)
    return method


def distilled(*, weight: float = 1.0, temperature: float = 1.0) -> Method:
    """Static knowledge distillation: `finetune` plus `weight T^2 KL(zero-shot || tuned)`.

    Of the class logits at temperature `T` (arXiv 1503.02531), the teacher being the model that
    the training starts from. The papers that use it as a baseline (TRACER, arXiv 2605.29380)
    print no settings that we could read: weight and temperature are ours.
    """
    method = finetune()
    method.terms["distillation"] = LogitDistillation(weight=weight, temperature=temperature)
    return method


def pair_distilled(*, weight: float = 1.5) -> Method:
    """FLYP (arXiv 2212.00638) with CaRot's distillation from the start instead of from an EMA.

    `contrastive + weight L_SD`, with eq. 6 of arXiv 2311.01723 as its code has it and that code's
    weight, but from step 0 on: at the start the term is at its minimum.
    """
    return Method(
        classifier=ZeroShot(),
        terms={
            "contrastive": Contrastive(),
            "static_distillation": StaticDistillation(weight=weight),
        },
        optimizer=AdamW(learning_rate=1e-5, warmup_steps=500),
    )


def car_ft(*, weight: float = 1.0) -> Method:
    """CAR-FT (arXiv 2211.16175): `finetune` plus `weight KL(p_0(context) || p(context))`.

    One context for each template of the evaluated prompts (80 on ImageNet; at least two);
    weight 1 and the direction are from memory. Deviation: the optimizer is that of `finetune`.
    """
    method = finetune()
    method.terms["context"] = ContextAwareness(weight=weight)
    return method


def lipsum_ft(*, weight: float = 1.0, num_texts: int = 80) -> Method:
    """Lipsum-FT (arXiv 2404.00860): cross-entropy plus the random texts' energy gap.

    As the authors' code: AdamW without weight decay, no clipping, warm-up over a tenth of the
    training (their 50,000 steps; see `Method.scheduled` for another length).

    Deviations: the head has a bias, and the fixed logit scale is inside its weights, so that AdamW
    turns it more slowly. The last model is kept, not that of the best test accuracy. The first
    moments are float32, and the warm-up's first step is not zero.
    """
    return Method(
        classifier=LinearHead(),
        terms={
            "cross_entropy": CrossEntropy(),
            "random_text": RandomTextMatching(weight=weight, num_texts=num_texts),
        },
        trainable=("encoder/image/.*", "classifier/.*"),
        optimizer=AdamW(learning_rate=1e-5, weight_decay=0.0, warmup_steps=5000),
    )
