"""FLYP and what builds on it: contrastive fine-tuning of both towers."""

from calib_jax.classifiers.zero_shot import ZeroShot
from calib_jax.methods.method import Method
from calib_jax.objectives.contrastive import Contrastive
from calib_jax.objectives.distillation import SelfDistillation
from calib_jax.objectives.dive import AverageVectors, PairwiseVectors
from calib_jax.objectives.spectral import CrossProjection, OrthogonalProjection
from calib_jax.objectives.spurious_text import SpuriousTexts
from calib_jax.objectives.tracer import (
    ContrastiveRelation,
    CrossDistillation,
    FeatureDistillation,
    InteractiveContrast,
)
from calib_jax.optim.optimizers import AdamW
from calib_jax.optim.teacher import EmaTeacher, TrajectoryTeacher


def flyp(*, label_smoothing: float = 0.0, mask_duplicates: bool = False) -> Method:
    """FLYP (arXiv 2212.00638): fine-tune both towers with the loss they were pre-trained with.

    Weight decay 0.1 on every parameter, no clipping; at evaluation the head is
    rebuilt from the tuned text tower. Label smoothing (as CaRot's code has it) and leaving out
    other pairs of the same class are variants (`Contrastive`).
    """
    return Method(
        classifier=ZeroShot(),
        terms={
            "contrastive": Contrastive(
                label_smoothing=label_smoothing, mask_duplicates=mask_duplicates
            )
        },
        optimizer=AdamW(learning_rate=1e-5, warmup_steps=500),
    )


def carot(
    *,
    orthogonality: float = 0.2,
    squared: bool = False,
    self_distillation: float = 1.5,
    update_every: int = 500,
) -> Method:
    """CaRot (arXiv 2311.01723) as its authors' code has it.

    `L = contrastive + 0.05 ||W_v W_l^T||_F + 0.2 ||W_v^T W_v - I||_F + 1.5 L_SD`
    with self-distillation from step 1 on. The paper's eq. 4 has the norm of the
    orthogonality `squared`. The student is evaluated, not the teacher.

    Ablations: `compositions.without(carot(), "orthogonality")`, to which `SmallestSingularValue`
    can be added as a term; `dataclasses.replace(carot(), teacher=FrozenTeacher())`.
    """
    return Method(
        classifier=ZeroShot(),
        terms={
            "contrastive": Contrastive(),
            "orthogonality": OrthogonalProjection(weight=orthogonality, squared=squared),
            "cross_projection": CrossProjection(weight=0.05),
            "self_distillation": SelfDistillation(weight=self_distillation),
        },
        teacher=EmaTeacher(update_every=update_every),
        optimizer=AdamW(learning_rate=1e-5, warmup_steps=500),
    )


def tracer(
    *,
    beta: float = 0.5,
    distillation: float = 0.9,
    feature_distillation: float = 2000.0,
) -> Method:
    """TRACER (arXiv 2605.29380) as its authors' code has it.

    `L = contrastive + 0.05 ||W_v W_l^T||_F + 0.9 (2000 FD + CRD + ICL + XKD)` against the weighted
    mean of the whole trajectory, the four terms from step 1 on. The student is evaluated.

    Deviations: weight decay 0.1, as in the authors' script and in CaRot, where the paper says
    0.01; the parameters and all logits are float32, where the authors autocast to bfloat16.

    Args:
        beta: Of the teacher's Beta density; lower holds on to the pre-trained model more.
        distillation: The factor of all four terms.
        feature_distillation: The further factor of FD; the authors go from 200 (RN50) to 5000
            (iWildCam).
    """
    return Method(
        classifier=ZeroShot(),
        terms={
            "contrastive": Contrastive(),
            "cross_projection": CrossProjection(weight=0.05),
            "feature_distillation": FeatureDistillation(weight=distillation * feature_distillation),
            "contrastive_relation": ContrastiveRelation(weight=distillation),
            "interactive_contrast": InteractiveContrast(weight=distillation),
            "cross_distillation": CrossDistillation(weight=distillation),
        },
        teacher=TrajectoryTeacher(beta=beta),
        optimizer=AdamW(learning_rate=1e-5, warmup_steps=500),
    )


def starft(*, weight: float = 0.5) -> Method:
    """StarFT (arXiv 2505.13232): FLYP plus `weight KL(zero-shot || tuned)` over spurious texts.

    Settings of the authors' script for ImageNet. Deviations: the spurious texts are random prompts
    of the classes and the weight does not fall (see `SpuriousTexts`).
    """
    method = flyp()
    method.terms["spurious_texts"] = SpuriousTexts(weight=weight)
    return method


def dive(*, weight: float = 1000.0) -> Method:
    """DiVE (arXiv 2511.09973): FLYP plus `weight (AVL + PVL)` of the difference vectors.

    The weight is from a reading note of the paper; the optimizer is FLYP's. Deviations: the
    vectors are those of the batch, not of CC3M, and their mean is the batch's, not a moving one
    (see `AverageVectors`).
    """
    method = flyp()
    method.terms["average_vectors"] = AverageVectors(weight=weight)
    method.terms["pairwise_vectors"] = PairwiseVectors(weight=weight)
    return method
