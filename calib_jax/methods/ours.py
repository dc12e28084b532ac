"""This library's own composition of the field's parts."""

from calib_jax.methods.method import Method
from calib_jax.methods.robust import tracer
from calib_jax.objectives.spectral import OrthogonalProjection


def ours(
    *,
    learning_rate: float = 1e-5,
    warmup_steps: int = 500,
    beta: float = 0.5,
    orthogonality: float = 0.2,
) -> Method:
    """TRACER with CaRot's constraint, and its teacher for the result: tried, and no winner.

    The teacher is the Beta-weighted mean of all students from the pre-trained model on: WiSE-FT's
    interpolation (arXiv 2109.01903) along the whole trajectory, without an alpha to choose. It was
    set before any reported split was seen; in `configs/study` it is not better than TRACER.

    Args:
        learning_rate: The peak of the schedule.
        warmup_steps: Length of the linear warm-up.
        beta: Of the teacher's Beta density (`TrajectoryTeacher`).
        orthogonality: The weight of `OrthogonalProjection`.
    """
    method = tracer(learning_rate=learning_rate, warmup_steps=warmup_steps, beta=beta)
    method.terms["orthogonality"] = OrthogonalProjection(weight=orthogonality)
    method.keeps = "teacher"
    return method
