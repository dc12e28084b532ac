"""The page of a study and its Markdown: complete, escaped, self-contained, deterministic."""

import html.parser
import re

import pytest

from calib_jax.report.comparison import unbeaten
from calib_jax.report.figures import style
from calib_jax.report.study import study_markdown, write_study
from calib_jax.runs.bound_record import bound_record
from calib_jax.runs.results import mean_and_std
from calib_jax.runs.study_record import collect_study

NONE = dict.fromkeys(("id_ece", "near_auroc", "far_auroc"))
ORDER = ("finetune", "flyp", "carot")
# OOD accuracy and OOD ECE by seed.
CELLS = {
    "finetune": ((0.50, 0.30), (0.52, 0.32), (0.54, 0.31)),
    "flyp": ((0.55, 0.20), (0.57, 0.21), (0.59, 0.22)),
    "carot": ((0.54, 0.10), (0.56, 0.11), (0.58, 0.12)),
    "<new|er>": ((0.60, 0.08), (0.62, 0.09), (0.64, 0.10)),
}
TUNING = {
    "flyp": {
        "chosen": "lr_3",
        "metric": "nll",
        "trials": [{"name": "lr_1", "score": 0.5}, {"name": "lr_3", "score": 0.25}],
    },
    "carot": {
        "chosen": "lr_1",
        "metric": "nll",
        "trials": [{"name": "lr_1", "score": 0.5}, {"name": "lr_3", "score": float("inf")}],
    },
    "finetune": {"chosen": "x", "metric": "nll", "trials": [{"name": "x", "score": 1.0}]},
}


def make_results(title, num_seeds=3):
    runs = [
        {
            "method": method,
            "seed": seed,
            "train_seconds": 10.0,
            "summary": {"id_accuracy": 0.9, "ood_accuracy": accuracy, "ood_ece": ece, **NONE},
        }
        for method, cells in CELLS.items()
        for seed, (accuracy, ece) in enumerate(cells[:num_seeds])
    ]
    return {
        "schema": 1,
        "title": title,
        "num_bins": 15,
        "table_score": "mcm",
        "tuned_on": "the validation split",
        "environment": {"num_devices": 2, "device_kind": "H100", "wall_seconds": 90.0, "jax": "1"},
        "datasets": {"id": "clean", "shifts": ["fog", "snow"], "num_examples": {"fog": 70}},
        "seeds": list(range(num_seeds)),
        "runs": runs,
        "table": mean_and_std(runs),
    }


def make_study(num_seeds=3, published=None):
    results = {
        "a": make_results("CIFAR & co", num_seeds) | {"tuning": TUNING},
        "b": make_results("", num_seeds),
    }
    settings = {} if published is None else {"published": published}
    return collect_study(results, title="Every <method>", order=ORDER, **settings)


class Page(html.parser.HTMLParser):
    """Checks that every element is closed in order; collects ids, links and resources."""

    VOID = frozenset({"meta"})

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.resources, self.tags = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        for key, value in attrs:
            if key == "id":
                self.ids.append(value)
            elif key == "href":
                self.links.append(value)
            elif key in ("src", "xlink:href"):
                self.resources.append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_is_self_contained_and_deterministic(tmp_path):
    path = tmp_path / "study.html"
    write_study(path, make_study())
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.resources == [] and page.tags.count("script") == 1 and "http" not in text
    assert page.links == [f"#{anchor}" for anchor in page.ids] and len(set(page.ids)) == 5
    assert "<method>" not in text and "Every &lt;method&gt;" in text and "&lt;new|er&gt;" in text
    assert page.tags.count("circle") == 8  # a mark for each method in each experiment
    assert "prefers-color-scheme: dark" in text
    assert '<td class="best">✓ -10.0 [-10.0, -10.0]</td>' in text
    assert "<h3>Difference to flyp</h3>" in text and "<summary>Difference to carot<" in text
    write_study(path, make_study())
    assert path.read_text(encoding="utf-8") == text
    rows = (tmp_path / "table.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0].startswith("experiment,method,id_accuracy_mean,id_accuracy_std,")
    assert [row.split(",")[0] for row in rows[1:]] == ["CIFAR & co"] * 4 + ["b"] * 4
    assert (tmp_path / "table.md").exists() and (tmp_path / "table.tex").exists()


def test_of_many_methods_those_that_matter_are_named(tmp_path):
    study = make_study()
    table = study["experiments"]["b"]["table"]
    # Accurate and badly calibrated, or the reverse, is beaten by none; the rest by "<new|er>".
    for name, accuracy, ece in (
        ("accurate", 0.9, 0.5),
        ("modest", 0.1, 0.01),
        *((f"beaten{i}", 0.3, 0.3) for i in range(4)),
        ("twin", 0.62, 0.09),
        ("blank", None, None),
    ):
        of = {"ood_accuracy": {"mean": accuracy}, "ood_ece": {"mean": ece}}
        table.append({"method": name, **of})
    study["experiments"]["b"]["unbeaten"] = unbeaten(table)
    write_study(tmp_path / "study.html", study)
    text = (tmp_path / "study.html").read_text(encoding="utf-8")
    first, second = re.findall(r'<svg viewBox="0 0 440 400".*?</svg>', text, flags=re.S)
    assert "<title>" not in first and first.count("<circle") == 4
    assert re.findall(r"<title>(\w+)</title>", second) == [f"beaten{i}" for i in range(4)]
    named = {"finetune", "flyp", "carot", "&lt;new|er&gt;", "accurate", "modest", "twin"}
    assert named == set(re.findall(r'paint-order="stroke">([^<]*)</text>', second))
    assert text.count("point at any other mark for its name") == 1
    # The names stand above the marks of the others, which are hollow.
    assert second.rindex("</title>") < second.index(f'fill="{style(0).color}"')


def test_the_bound_of_an_experiment_that_has_its_runs(tmp_path):
    study = make_study()
    runs = [
        {
            "method": f"m{i}",
            "seed": 0,
            "num_steps": 1,
            "spectrum": {"smallest_singular_value": 0.1 * i, "singular_values": [1.0] * 8},
            "summary": {"ood_accuracy": 0.5 + 0.01 * i**2, "ood_ece": 0.1 / i, "id_ece": 0.01 * i},
        }
        for i in range(1, 6)
    ]
    study["experiments"]["a"]["page"]["bound"] = bound_record(runs)
    write_study(tmp_path / "study.html", study)
    text = (tmp_path / "study.html").read_text(encoding="utf-8")
    Page(text)
    assert text.count("<h2>Does the theory order the models? CIFAR &amp; co</h2>") == 1
    assert text.count("Pearson r = ") == 6


def lines_of(markdown, heading):
    """The lines under the first such heading."""
    after = markdown[markdown.index(f"{heading}\n") + len(heading) :]
    return [line for line in re.split(r"\n#+ ", after)[0].splitlines() if line]


def test_markdown_in_short():
    text = study_markdown(make_study())
    assert text.startswith("# Every &lt;method&gt;\n\n## In short\n\n### CIFAR & co\n")
    assert lines_of(text, "### CIFAR & co") == [
        "- Most accurate under shift: &lt;new\\|er&gt; (62.0 ± 2.0 %).",
        "- Best calibrated under shift: &lt;new\\|er&gt; (9.0 ± 1.0 %).",
        "- Published order in OOD accuracy (finetune &lt; flyp &lt; carot): of 2 steps: holds 1, "
        "reversed 1, undecided 0; Kendall's tau +0.33.",
        "- OOD ECE, of 4 methods: carot is number 2.",
        "- Better than each of carot in OOD accuracy and OOD ECE at once (✓: by both whole "
        "intervals): &lt;new\\|er&gt; (✓).",
    ]
    assert "| CIFAR & co | 4 | 0, 1, 2 | 2 | 2 × H100 | 1 | 1 min 30 s |" in text


def test_markdown_tables():
    text = study_markdown(make_study())
    results = lines_of(text, "### Results")
    assert results[0] == "| method | ID acc ↑ | mean OOD acc ↑ | mean OOD ECE ↓ |"
    assert results[2] == "| finetune | **90.0 ± 0.0** | 52.0 ± 2.0 | 31.0 ± 1.0 |"
    assert "| &lt;new\\|er&gt; | **90.0 ± 0.0** | **62.0 ± 2.0** | **9.0 ± 1.0** |" in results
    paired = lines_of(text, "### Difference to flyp")
    assert paired[0] == "| method | both | ID acc ↑ | mean OOD acc ↑ | mean OOD ECE ↓ |"
    assert paired[2].startswith(
        "| finetune | no | +0.0 [+0.0, +0.0] | ✗ -5.0 [-5.0, -5.0] | ✗ +10.0 [+7.5, +12.5] |"
    )
    assert paired[4].startswith(
        "| &lt;new\\|er&gt; | ✓ yes | +0.0 [+0.0, +0.0] | **✓ +5.0 [+5.0, +5.0]"
    )
    assert text.count("same seed minus same seed") == 2  # once an experiment
    order = lines_of(text, "### The published order in OOD accuracy")
    assert (
        order[2]
        == "| finetune &lt; flyp | 52.0 ± 2.0 | 57.0 ± 2.0 | ✓ +5.0 [+5.0, +5.0] | ✓ holds |"
    )
    assert order[3].endswith("| ✗ -1.0 [-1.0, -1.0] | ✗ reversed |")
    ranks = lines_of(text, "### Ranking by OOD ECE")
    assert ranks[2] == "| 1. &lt;new\\|er&gt; | 9.0 ± 1.0 | – | **yes** |"
    assert ranks[3] == "| 2. carot | 11.0 ± 1.0 | ✗ +2.0 [+2.0, +2.0] | no |"
    tuning = lines_of(text, "### Hyper-parameters")
    assert tuning[2] == "| flyp | lr_3 | 2 | nll | 0.25 | 0.25 to 0.5 |"
    assert tuning[3] == "| carot | lr_1 | 2 | nll | 0.5 | 0.5 to 0.5, 1 broke down |"
    assert tuning[5].endswith("Trials a method: 1, 2: unequal.")
    assert text.count("### Hyper-parameters") == 1  # the second experiment has none
    assert lines_of(text, "### Test images") == [
        "- In-distribution: clean.",
        "- Shifts: fog (70), snow.",
    ]


def test_published_numbers_are_marked_as_such():
    published = lines_of(study_markdown(make_study()), "## Published: ImageNet, CLIP ViT-B/16")
    assert published[-1].startswith("In %. Numbers of the papers, not ours: ImageNet-1k")
    carot = next(line for line in published if line.startswith("| CaRot |"))
    assert carot == "| CaRot | 83.15 | 62.54 | 7.9 | TRACER, tables 1 and 5 |"
    assert "| CaRot, from memory |" in next(line for line in published if line.startswith("| FT"))
    assert "Published:" not in study_markdown(make_study(published=()))


def test_one_seed_has_no_intervals(tmp_path):
    study = make_study(num_seeds=1)
    text = study_markdown(study)
    assert "| finetune | no | +0.0 | -5.0 | +10.0 |" in text
    assert "| &lt;new\\|er&gt; | yes | +0.0 | +5.0 | -12.0 |" in text
    assert "(60.0 %); one seed has no interval to tell others apart from it." in text
    assert "not told apart" not in text
    assert "of 2 steps: holds 0, reversed 0, undecided 2" in text
    write_study(tmp_path / "study.html", study)
    Page((tmp_path / "study.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("order", [(), ("lp_ft",)])
def test_sections_without_content_vanish(order):
    results = {"a": make_results("A")}
    text = study_markdown(collect_study(results, title="T", order=order, calibrated=()))
    assert "published order" not in text and "OOD ECE, of" not in text
    assert "Hyper-parameters" not in text
