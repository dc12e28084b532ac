"""Reliability and risk-coverage sections: what is drawn, and that absent data is left out."""

from calib_jax.report import confidence
from calib_jax.runs.page_record import with_page

RESULTS = {
    "table": [{"method": "a"}, {"method": "b"}],
    "datasets": {"id": "clean", "shifts": ["fog"]},
    "runs": [{"method": "a", "seed": 0}],
}


def test_sections_without_data_are_empty():
    assert confidence.reliability(with_page(RESULTS)) == ""
    assert confidence.risk_coverage(with_page(RESULTS)) == ""


def test_risk_coverage_of_those_that_have_it():
    points = {"coverage": [0.5, 1.0], "risk": [0.1, 0.3]}
    runs = [{"method": "a", "seed": 0, "selective": {"clean": points}}]
    html = confidence.risk_coverage(with_page(RESULTS | {"runs": runs}))
    assert html.count("<figure>") == 1 and "Risk and coverage: clean (ID)" in html
    assert "</svg>a</li>" in html and "</svg>b</li>" not in html


def test_a_reliability_diagram_a_method_with_bins():
    bins = {
        "edges": [0.0, 0.5, 1.0],
        "count": [0, 4],
        "confidence": [None, 0.8],
        "accuracy": [None, 0.5],
    }
    runs = [{"method": "b", "seed": 0, "reliability": {"clean": bins}, "level": 0.8}]
    html = confidence.reliability(with_page(RESULTS | {"runs": runs}))
    assert html.count("<figure>") == 1 and "ECE 30.0 %" in html and "no data" in html
    # A single shift goes by its name, and nothing is pooled.
    assert ">fog</text>" in html and "pool" not in html
    assert "Whiskers: the 80 % interval" in html
    alone = confidence.reliability(
        with_page(RESULTS | {"runs": runs, "datasets": {"id": "clean"}, "seeds": [0, 1]})
    )
    assert "no data" not in alone and "All seeds pooled." in alone
