"""FLYP, CaRot and TRACER: contrastive fine-tuning of both towers."""

from calib_jax.classifiers.zero_shot import ZeroShot
from calib_jax.methods.method import Method
from calib_jax.objectives.contrastive import Contrastive
from calib_jax.objectives.distillation import SelfDistillation
from calib_jax.objectives.spectral import CrossProjection, OrthogonalProjection
from calib_jax.objectives.tracer import (
    ContrastiveRelation,
    CrossDistillation,
    FeatureDistillation,
    InteractiveContrast,
)
from calib_jax.optim.optimizers import AdamW
from calib_jax.optim.teacher import EmaTeacher, TrajectoryTeacher


def flyp(*, learning_rate: float = 1e-5, warmup_steps: int = 500) -> Method:
    """FLYP (arXiv 2212.00638): fine-tune both towers with the loss they were pre-trained with.

    Weight decay 0.1 on every parameter, no clipping; at evaluation the head is
    rebuilt from the tuned text tower.
    """
    return Method(
        classifier=ZeroShot(),
        terms={"contrastive": Contrastive()},
        optimizer=AdamW(learning_rate=learning_rate, warmup_steps=warmup_steps),
    )


def carot(
    *,
    learning_rate: float = 1e-5,
    warmup_steps: int = 500,
    orthogonality: float = 0.2,
    self_distillation: float = 1.5,
    update_every: int = 500,
) -> Method:
    """CaRot (arXiv 2311.01723) as its authors' code has it.

    `L = contrastive + 0.05 ||W_v W_l^T||_F + 0.2 ||W_v^T W_v - I||_F + 1.5 L_SD`
    with self-distillation from step 1 on. The paper's eq. 4 squares the
    orthogonality norm: set `terms["orthogonality"].squared` for that. The student
    is evaluated, not the teacher.

    Ablations are compositions: remove a term, set `teacher` to `FrozenTeacher()`, or put
    `SmallestSingularValue` in the place of the orthogonality.
    """
    return Method(
        classifier=ZeroShot(),
        terms={
            "contrastive": Contrastive(),
            "orthogonality": OrthogonalProjection(weight=orthogonality),
            "cross_projection": CrossProjection(weight=0.05),
            "self_distillation": SelfDistillation(weight=self_distillation),
        },
        teacher=EmaTeacher(update_every=update_every),
        optimizer=AdamW(learning_rate=learning_rate, warmup_steps=warmup_steps),
    )


def tracer(
    *,
    learning_rate: float = 1e-5,
    warmup_steps: int = 500,
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
        learning_rate: The peak of the schedule.
        warmup_steps: Length of the linear warm-up.
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
        optimizer=AdamW(learning_rate=learning_rate, warmup_steps=warmup_steps),
    )
