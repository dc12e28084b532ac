"""CaRot's toy experiment: does the bound go with OOD error and OOD ECE over 111 networks?"""

from calib_jax.theory.experiment import Theory

STRENGTHS = (0.01, 0.02, 0.035, 0.065, 0.12, 0.23, 0.43, 0.8, 1.5, 2.8, 5.3, 10.0)
"""Three decades, one baseline and 3 x 12 settings: 37 a seed, 111 for three."""


def get_config() -> Theory:
    return Theory(self_distillation=STRENGTHS, orthogonality=STRENGTHS)
