"""Images on the page: examples, and the most confident mistakes with and without pixels."""

import numpy as np

from calib_jax.report import examples
from calib_jax.report.examples import Example
from calib_jax.runs.page_record import with_page


def mistake(index, confidence):
    return {"index": index, "label": "cat", "prediction": "<dog>", "confidence": confidence}


def make_results():
    wrong = {"clean": [mistake(3, 0.9)], "fog": [mistake(5, 0.7)], "snow": [mistake(6, 0.99)]}
    runs = [
        {"method": "a", "seed": 0, "mistakes": wrong},
        {"method": "a", "seed": 1, "mistakes": {"clean": [mistake(77, 0.9)]}},
        {"method": "b", "seed": 0},
    ]
    table = [{"method": "a"}, {"method": "b"}]
    return {"table": table, "runs": runs, "datasets": {"id": "clean", "shifts": ["fog", "snow"]}}


def picture(dataset, index, predictions):
    pixels = np.zeros((4, 4, 3), np.uint8)
    return Example(dataset=dataset, index=index, image=pixels, label="cat", predictions=predictions)


def test_mistakes_of_the_first_seed_the_surest_first():
    html = examples.mistakes(with_page(make_results()), [picture("snow", 6, {})])
    assert html.count('class="card example mistake"') == 3 and "#77" not in html
    assert html.index("snow #6") < html.index("fog #5")
    assert "✗ &lt;dog&gt; 99\N{NO-BREAK SPACE}%" in html and "<dog>" not in html
    assert html.count("<img") == 1 and 'alt="cat, image 6 of snow"' in html
    assert html.count("<details") == 1  # the other method has none


def test_no_more_mistakes_than_fit():
    results = make_results()
    rows = [mistake(i, 0.5 + i / 100) for i in range(20)]
    results["runs"] = [{"method": "a", "seed": 0, "mistakes": {"clean": rows}}]
    html = examples.mistakes(with_page(results), [])
    assert html.count("mistake") == examples.MAX_MISTAKES
    assert "clean #19" in html and "clean #11" not in html


def test_of_files_there_are_no_images_but_mistakes():
    results, answers = make_results(), {"a": ("cat", 0.9), "b": ("dog", 0.4)}
    title, html = examples.section(with_page(results), [])
    assert title == "The most confident mistakes" and title not in html and "snow #6" in html
    title, html = examples.section(with_page(results), [picture("fog", 2, answers)])
    assert title == "What the models saw" and html.count("<h3>The most confident mistakes<") == 1
    assert examples.section(with_page(results | {"runs": []}), [])[1] == ""


def test_nothing_without_mistakes():
    assert examples.mistakes(with_page(make_results() | {"runs": []}), []) == ""


def test_an_image_without_predictions_is_no_example():
    results, answers = make_results(), {"a": ("cat", 0.9), "b": ("dog", 0.4)}
    html = examples.examples(
        with_page(results), [picture("fog", 1, {}), picture("fog", 2, answers)]
    )
    assert html.count("<img") == 1 and "#2" in html
    assert examples.examples(with_page(results), [picture("fog", 1, {})]) == ""


def test_cards_of_many_methods_have_the_drawn_ones():
    names = [f"m{i}" for i in range(12)]
    results = make_results() | {"table": [{"method": name} for name in names]}
    answers = {name: ("cat", 0.9) for name in names}
    html = examples.examples(with_page(results), [picture("clean", 0, answers)])
    assert html.count("<li") == 8 and ">m7<" in html and ">m8<" not in html
