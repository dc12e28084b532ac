"""Raw against calibrated, and conformal sets: numbers, marks and words."""

import re

from calib_jax.report import posthoc
from calib_jax.runs.page_record import with_page

SPLITS = ("clean", "fog", "snow")


def metrics(*eces):
    return {s: {"ece_15": e, "nll": 10 * e} for s, e in zip(SPLITS, eces, strict=True)}


def run(method, raw, after, seed=0):
    record = {"method": method, "seed": seed, "metrics": metrics(*raw)}
    if after is not None:
        record["calibrated"] = {
            "temperature": {
                "fitted_on": "validation",
                "parameters": {"temperature": 1.5 + seed},
                "metrics": metrics(*after),
            }
        }
    return record


def make_results(runs):
    table = [{"method": m} for m in dict.fromkeys(r["method"] for r in runs)]
    return {
        "table": table,
        "runs": runs,
        "seeds": [0],
        "num_bins": 15,
        "datasets": {"id": "clean", "shifts": ["fog", "snow"]},
    }


RESULTS = make_results(
    [
        run("a", (0.10, 0.20, 0.40), (0.05, 0.10, 0.20), 0),
        run("a", (0.12, 0.20, 0.40), (0.07, 0.10, 0.20), 1),
        run("<b>", (0.10, 0.10, 0.10), (0.02, 0.20, 0.30)),
        run("c", (0.10, 0.10, 0.10), None),
    ]
)


def cells(html):
    rows = re.findall(r'<th scope="row">.*?([^<>]*)</th>(.*?)</tr>', html)
    return [(name, re.findall(r"<td[^>]*>(.*?)</td>", row)) for name, row in rows]


def test_every_method_with_means_over_the_shifts():
    html = posthoc.calibrated(with_page(RESULTS))
    a, b, c = cells(html.split("<details>")[0])
    assert a[1][:4] == ["11.0 ± 1.4", "6.0 ± 1.4", "30.0 ± 0.0", "15.0 ± 0.0"]
    assert a[1][4:] == ["1.100 ± 0.141", "0.600 ± 0.141", "3.000 ± 0.000", "1.500 ± 0.000"]
    assert b == ("&lt;b&gt;", ["10.0", "2.0", "10.0", "25.0", "1.000", "0.200", "1.000", "2.500"])
    assert c[1] == ["10.0", "–", "10.0", "–", "1.000", "–", "1.000", "–"]
    # Marked within the row: raw where calibration made it worse.
    assert '<td class="best">2.0</td><td class="best">10.0</td><td>25.0</td>' in html


def test_it_says_for_whom_the_error_under_shift_falls():
    html = posthoc.calibrated(with_page(RESULTS))
    assert (
        "<li>temperature: the mean OOD ECE falls for 1 of 2 methods; on average over the methods "
        "from 20.0 to 20.0 %. It does not fall for &lt;b&gt;.</li>"
    ) in html


def test_where_it_falls_for_none_nobody_is_listed():
    results = make_results([run(m, (0.1, 0.1, 0.1), (0.1, 0.2, 0.2)) for m in "ab"])
    assert (
        "<li>temperature: the mean OOD ECE falls for none of the 2 methods; on average over the "
        "methods it goes from 10.0 to 20.0 %.</li>"
    ) in posthoc.calibrated(with_page(results))


def test_of_one_method_it_says_how_far():
    results = make_results([run("a", (0.1, 0.2, 0.4), (0.1, 0.1, 0.25))])
    assert "falls from 30.0 to 17.5 %." in posthoc.calibrated(with_page(results))
    # Its splits are the one table.
    html = posthoc.calibrated(with_page(results))
    assert html.count("<table>") == 1 and "<details" not in html
    assert [row[0] for row in cells(html)] == ["clean", "fog", "snow", "mean over 2 shifts"]
    results = make_results([run("a", (0.1, 0.1, 0.25), (0.1, 0.2, 0.4))])
    assert "does not fall: it goes from 17.5 to 30.0 %." in posthoc.calibrated(with_page(results))


def test_every_shift_side_by_side_and_what_was_fitted():
    html = posthoc.calibrated(with_page(RESULTS))
    of_a = html.split("<summary>a on every split</summary>")[1].split("</details>")[0]
    assert cells(of_a)[2] == (
        "snow",
        ["40.0 ± 0.0", "20.0 ± 0.0", "4.000 ± 0.000", "2.000 ± 0.000"],
    )
    assert cells(of_a)[3][0] == "mean over 2 shifts"
    assert cells(of_a)[3][1][:2] == ["30.0 ± 0.0", "15.0 ± 0.0"]
    assert "Fitted: temperature 2.000 ± 0.707." in of_a
    assert "Fitted" not in html.split("<summary>c on every split</summary>")[1]


def test_without_shifts_or_calibrators():
    results = RESULTS | {"datasets": {"id": "clean"}}
    html = posthoc.calibrated(with_page(results))
    assert "temperature: the ID ECE falls for 2 of 2 methods" in html and "OOD" not in html
    empty = make_results([{"method": "a", "seed": 0, "calibrated": {"temperature": {}}}])
    assert "temperature: no mean OOD ECE to look at." in posthoc.calibrated(with_page(empty))
    plain = make_results([run("a", (0.1, 0.1, 0.1), None)])
    assert posthoc.calibrated(with_page(plain)) == "" and posthoc.conformal(with_page(plain)) == ""


def test_notes_of_the_calibrators_once_each():
    runs = [run(m, (0.1, 0.2, 0.4), (0.1, 0.1, 0.2), s) for m, s in (("a", 0), ("a", 1), ("b", 0))]
    assert 'class="note"><li>' not in posthoc.calibrated(with_page(make_results(runs)))
    for one in runs:
        one["calibrated"]["temperature"]["notes"] = ["T <= 1 hit"]
    runs[2]["calibrated"]["temperature"]["notes"].append("few")
    html = posthoc.calibrated(with_page(make_results(runs)))
    assert (
        '</table></div><ul class="note"><li>temperature: T &lt;= 1 hit (a, b)</li>'
        "<li>temperature: few (b)</li></ul><details>"
    ) in html


def test_conformal_sets_under_shift():
    sets = {
        "alpha": 0.1,
        "aps": {
            "clean": {"coverage": 0.91, "mean_size": 1.5},
            "fog": {"coverage": 0.8, "mean_size": 2.0},
            "snow": {"coverage": 0.6, "mean_size": 3.0},
        },
    }
    html = posthoc.conformal(
        with_page(make_results([{"method": "a", "seed": 0, "conformal": sets}]))
    )
    assert cells(html) == [("a", ["91.0", "1.500", "70.0", "60.0", "2.500"])]
    assert "<summary>APS</summary>" in html and "right class for 90 % of examples" in html
    clean = make_results([{"method": "a", "seed": 0, "conformal": sets}])
    html = posthoc.conformal(with_page(clean | {"datasets": {"id": "clean", "shifts": ["fog"]}}))
    assert cells(html) == [("a", ["91.0", "1.500", "80.0", "2.000"])] and "worst" not in html
    html = posthoc.conformal(with_page(clean | {"datasets": {"id": "clean"}}))
    assert cells(html) == [("a", ["91.0", "1.500"])] and "shift" not in html
