"""Training sections: which curves are drawn, and that absent ones are left out."""

import re

from calib_jax.report import training
from calib_jax.runs.page_record import with_page

RESULTS = {"table": [{"method": "a"}, {"method": "b"}], "runs": [], "datasets": {"id": "clean"}}


def make_history(**extra):
    return [{"phase": "a", "seed": 0, "step": step, **extra} for step in (0, 10)]


def test_nothing_without_history():
    assert training.losses(with_page(RESULTS, [])) == ""
    assert training.singular_values(with_page(RESULTS, [])) == ""
    assert training.losses(with_page(RESULTS, make_history(loss=float("nan")))) == ""


def test_total_is_drawn_with_its_terms():
    html = training.losses(with_page(RESULTS, make_history(loss=3.0, terms={"x": 1.0, "y": 2.0})))
    assert all(f"</svg>{name}</li>" in html for name in ("x", "y", "total"))


def test_total_of_one_unweighted_term_is_not_drawn_twice():
    once = training.losses(with_page(RESULTS, make_history(loss=3.0, terms={"x": 3.0})))
    assert "</svg>x</li>" in once and "total" not in once.split("figures", 1)[1]
    weighted = training.losses(with_page(RESULTS, make_history(loss=3.0, terms={"x": 6.0})))
    assert "</svg>total</li>" in weighted


def test_legend_names_only_methods_with_a_curve():
    html = training.singular_values(with_page(RESULTS, make_history(smallest_singular_value=0.1)))
    assert "</svg>a</li>" in html and "</svg>b</li>" not in html
    assert "Image projection" not in html


def test_every_choice_is_told_in_the_order_of_the_table():
    tuning = {"b": {"chosen": "0.001", "metric": "nll", "trials": []}}
    runs = [
        {"method": "b", "seed": 3, "chosen": {"l2": 0.0123456, "nll": {"1": 2.0}}},
        {"method": "a", "seed": 3, "combination": {"of": "b", "seeds": [3, 4], "alpha": 0.7}},
        {"method": "a", "seed": 4},
    ]
    html = training.choices(RESULTS | {"tuning": tuning, "runs": runs, "tuned_on": "<x>"})
    cells = re.findall(r"<th scope=\"row\">(.*?)</th><td>(.*?)</td><td>(.*?)</td>", html)
    assert cells == [
        ("a", "3", "of b; seeds 3, 4; alpha 0.7"),
        ("b", "all", "trial 0.001, by nll"),
        ("b", "3", "l2 0.01235"),
    ]
    assert "Chosen on &lt;x&gt;." in html
    assert "Chosen" not in training.choices(RESULTS | {"tuning": tuning})
    assert training.choices(RESULTS) == ""


def test_a_band_is_explained_where_there_are_seeds():
    history = make_history(loss=3.0)
    assert "each before its weight.</p>" in training.losses(with_page(RESULTS, history))
    several = training.losses(with_page(RESULTS | {"seeds": [0, 1]}, history))
    assert "each before its weight; mean over the seeds, the band spans them.</p>" in several


def test_a_spectrum_is_after_training_where_there_was_some():
    run = {"method": "a", "num_steps": 0, "spectrum": {"singular_values": [1.0, 0.5]}}
    html = training.singular_values(with_page(RESULTS | {"runs": [run]}, []))
    assert "<h3>Spectrum</h3>" in html and "after training" not in html
    html = training.singular_values(with_page(RESULTS | {"runs": [run | {"num_steps": 2}]}, []))
    assert "<h3>Spectrum after training</h3>" in html
