from calib_jax.methods.compositions import without
from calib_jax.methods.ours import ours
from calib_jax.methods.robust import carot, tracer


def test_ours_is_tracer_with_the_constraint_of_carot_and_its_teacher_for_the_result():
    method = ours()
    assert method.terms["orthogonality"] == carot().terms["orthogonality"]
    assert method.keeps == "teacher"
    rest = without(method, "orthogonality")
    rest.keeps = "student"
    assert rest == tracer()
    method.validate("ours", num_steps=25_030)


def test_arguments_reach_their_fields():
    method = ours(learning_rate=1e-3, warmup_steps=2, beta=0.3, orthogonality=0.7)
    assert method.optimizer == tracer(learning_rate=1e-3, warmup_steps=2).optimizer
    assert method.teacher == tracer(beta=0.3).teacher
    assert method.terms["orthogonality"].weight == 0.7


def test_half_of_the_teachers_weight_lies_on_the_first_half_of_the_training():
    shares = ours().teacher.shares(99)
    on_the_first_half = 1.0
    for share in shares[49:]:  # of the students from update 50 on
        on_the_first_half *= 1 - share
    assert abs(on_the_first_half - 0.5) < 1e-5
