from calib_jax.methods.baselines import pair_distilled
from calib_jax.methods.softened_distillation import softened_distillation
from calib_jax.objectives.distillation import StaticDistillation


def test_it_is_pair_distilled_by_a_softened_and_lighter_teacher():
    method = softened_distillation()
    assert method.terms["static_distillation"] == StaticDistillation(weight=0.5, temperature=1.5)
    method.terms["static_distillation"] = StaticDistillation(weight=1.5)
    assert method == pair_distilled()
    softened_distillation().validate("mine", num_steps=25_030)


def test_arguments_reach_their_fields():
    method = softened_distillation(weight=0.7, temperature=3.0).scheduled(
        learning_rate=1e-3, warmup_steps=2
    )
    assert (
        method.optimizer == pair_distilled().scheduled(learning_rate=1e-3, warmup_steps=2).optimizer
    )
    assert method.terms["static_distillation"] == StaticDistillation(weight=0.7, temperature=3.0)
