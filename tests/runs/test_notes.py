"""What a config may say, and probably does not mean."""

from calib_jax.methods.robust import carot
from calib_jax.runs.notes import notes


def test_notes_name_the_place_of_the_method(tiny_experiment):
    assert notes(tiny_experiment()) == []
    methods = {"mine": carot().scheduled(warmup_steps=1)}
    (note,) = notes(tiny_experiment(methods=methods))
    assert note.startswith("methods.mine.teacher.update_every: got 500 with 6 training steps: the")
