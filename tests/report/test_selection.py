"""Which methods are drawn."""

import numpy as np

from calib_jax.report import selection
from calib_jax.report.data import Curve
from calib_jax.report.figures import style
from calib_jax.runs.page_record import with_page


def make_results(num_methods):
    """The later a method, the better its OOD accuracy; the earlier, the better its OOD ECE."""
    table = [
        {
            "method": f"m{i}",
            "ood_accuracy": {"mean": i / 100, "std": None},
            "ood_ece": {"mean": i / 100, "std": None},
        }
        for i in range(num_methods)
    ]
    return with_page({"table": table, "runs": [], "datasets": {"id": "clean"}})


def test_few_methods_are_all_drawn():
    found = selection.drawn(make_results(8))
    assert found == {f"m{i}": style(i) for i in range(8)}
    assert selection.remark(make_results(8)) == ""
    assert selection.table_remark(make_results(8)) == ""


def test_of_many_the_first_and_the_best_of_each_column():
    found = selection.drawn(make_results(20))
    assert list(found) == ["m0", "m1", "m2", "m3", "m16", "m17", "m18", "m19"]
    assert list(found.values()) == [style(i) for i in range(8)]
    assert selection.remark(make_results(20)).startswith("Drawn: 8 of 20 methods")
    below_table = selection.table_remark(make_results(20))
    assert below_table.startswith("Shown: 8 of 20 methods")
    assert below_table.endswith("; results.json has all.")


def test_panels_name_only_methods_with_a_curve():
    points = np.arange(3.0)
    curves = {"m0": Curve(points, points, points, points), "m1": None, "m9": None}
    panel = selection.Panel("t", "c", "x", "y", curves)
    html = selection.panels(make_results(2), [panel, panel._replace(curves={})])
    assert "</svg>m0</li>" in html and "</svg>m1</li>" not in html
    assert html.count("<figure>") == 1
    assert selection.panels(make_results(2), [panel._replace(curves={})]) == ""
