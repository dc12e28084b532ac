"""This library's own method: FLYP, held by the softened pre-trained model."""

from calib_jax.methods.method import Method
from calib_jax.methods.robust import flyp
from calib_jax.objectives.distillation import StaticDistillation


def softened_distillation(*, weight: float = 0.5, temperature: float = 1.5) -> Method:
    """FLYP (arXiv 2212.00638), distilled from the softened pre-trained model.

    This library's own composition of the field's parts, in no paper:
    `contrastive + weight L_SD(softmax(pre-trained logits / temperature))`. The contrastive loss of
    tuning captions pulls together what they call by one name, whatever it looks like, and unlearns
    the styles that the tuning images lack. The pre-trained model's own similarities of the same
    pairs hold against that. An EMA teacher (CaRot, TRACER) cannot: it forgets with its student. A
    pre-trained model that is sure of itself under shift hands that down too, hence the
    temperature: its order of the pairs is kept, less of its confidence.

    Weight and temperature were chosen on seed 0 and shifts that no report shows
    (`configs/study/development.py`).

    Args:
        weight: Of the distillation.
        temperature: Divides the pre-trained model's logits.
    """
    method = flyp()
    method.terms["static_distillation"] = StaticDistillation(weight=weight, temperature=temperature)
    return method
