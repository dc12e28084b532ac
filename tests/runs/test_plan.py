"""What a run still has to do, as far as its config tells it."""

from calib_jax.core.progress import Work
from calib_jax.methods.baselines import finetune, zero_shot
from calib_jax.methods.probes import lp_ft
from calib_jax.runs import plan
from calib_jax.runs.experiment import Tuning


def test_a_tuned_method_is_its_first_trial_until_it_is_chosen(tiny_experiment):
    experiment = tiny_experiment(methods={"zero_shot": zero_shot(), "finetune": finetune()})
    trials = {rate: finetune().scheduled(learning_rate=float(rate)) for rate in ("1e-3", "1e-4")}
    experiment.tuning = Tuning(trials={"finetune": trials})
    found = plan.candidates(experiment)
    assert found["zero_shot"] == ("zero_shot", experiment.methods["zero_shot"])
    assert found["finetune"] == ("finetune.1e-3", trials["1e-3"])


def test_later_experiments_are_counted_in_steps_and_unknown_numbers_of_images(
    tiny_experiment, tmp_path
):
    later = tiny_experiment(methods={"zero_shot": zero_shot(), "lp_ft": lp_ft()}, seeds=(0, 3))
    (tmp_path / "done").mkdir()
    (tmp_path / "done/results.json").write_text("{}")
    found = plan.later_work({"done": tiny_experiment(), "later": later}, tmp_path)
    assert {title: work for title, work in found.items() if "seed 3" in title} == {
        "later: pretrain, seed 3": Work("step", 4),
        **{
            f"later: {phase.name}, seed 3": Work("step", phase.method.num_steps(6))
            for phase in later.phases()
            if phase.name.startswith("lp_ft") and phase.method.terms
        },
        "later: evaluate zero_shot, seed 3": Work("image", None),
        "later: evaluate lp_ft, seed 3": Work("image", None),
    }
    assert not any(title.startswith("done") for title in found)
