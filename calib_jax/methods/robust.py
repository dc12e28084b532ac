"""FLYP and CaRot: contrastive fine-tuning of both towers."""

from calib_jax.classifiers.zero_shot import ZeroShot
from calib_jax.methods.method import Method
from calib_jax.objectives.contrastive import Contrastive
from calib_jax.objectives.distillation import SelfDistillation
from calib_jax.objectives.spectral import CrossProjection, OrthogonalProjection
from calib_jax.optim.optimizers import AdamW
from calib_jax.optim.teacher import EmaTeacher


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
