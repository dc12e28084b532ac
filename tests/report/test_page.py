"""The page: well-formed, self-contained, complete, escaped, deterministic, robust to gaps."""

import copy
import html.parser
import json
import re

import numpy as np
import pytest

from calib_jax.core.errors import ConfigError, DataError
from calib_jax.report.examples import Example
from calib_jax.report.page import write_report
from calib_jax.runs.page_record import with_page

METHODS = ("zero-shot", "fine-tuning", "flyp", "carot")
SHIFTS = (
    "rotated",
    "inverted and tinted",
    "outlined",
    "photo background",
    "blurred",
    "noisy",
    "occluded",
    "thin strokes",
    "thick strokes",
)
NEAR, FAR = "digits 8 and 9", "photographs"
SCORES = ("msp", "max_logit", "energy", "mcm", "max_similarity")
CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven")


def make_results(methods=METHODS, seeds=(0, 1, 2), shifts=SHIFTS):
    """A results dictionary whose numbers hang together the way those of a run do."""
    rng = np.random.default_rng(0)
    runs = [
        make_run(rng, k, method, seed, shifts) for k, method in enumerate(methods) for seed in seeds
    ]
    table = []
    for method in methods:
        own = [run["summary"] for run in runs if run["method"] == method]
        row = {"method": method}
        for key in own[0]:
            values = [summary[key] for summary in own]
            std = float(np.std(values, ddof=1)) if len(values) > 1 else None
            row[key] = {"mean": float(np.mean(values)), "std": std}
        table.append(row)
    return {
        "schema": 1,
        "name": "quickstart",
        "title": "Handwritten digits",
        "calib_jax_version": "0.1.0",
        "created": "2026-11-22T14:00:00Z",
        "environment": {
            "python": "3.11.7",
            "jax": "0.10.2",
            "platform": "cpu",
            "device_kind": "cpu",
            "num_devices": 1,
            "wall_seconds": 170.2,
        },
        "config": {"seed": 0, "methods": {m: {"steps": 200} for m in methods}},
        "class_names": list(CLASSES),
        "num_bins": 15,
        "table_score": "mcm",
        "tuned_on": "the validation split",
        "datasets": {
            "id": "clean",
            "shifts": list(shifts),
            "near": [NEAR],
            "far": [FAR],
            "num_examples": {"clean": 290, NEAR: 71, FAR: 300},
        },
        "seeds": list(seeds),
        "runs": runs,
        "table": table,
    }


def make_run(rng, k, method, seed, shifts):
    metrics, reliability = {}, {}
    for j, dataset in enumerate(("clean", *shifts)):
        difficulty = 0.0 if j == 0 else 0.05 + 0.04 * ((j * 5) % 9)
        confidence = rng.beta(5 - 0.4 * k, 1.5 + 3 * difficulty, 290)
        right = rng.random(290) < np.clip(confidence + 0.05 * k - 0.7 * difficulty, 0, 1)
        bins = make_bins(confidence, right)
        gap = [
            n * abs(a - c)
            for n, a, c in zip(bins["count"], bins["accuracy"], bins["confidence"], strict=True)
            if n
        ]
        ece = sum(gap) / 290
        reliability[dataset] = bins
        metrics[dataset] = {
            "accuracy": float(right.mean()),
            "top5_accuracy": min(1.0, float(right.mean()) + 0.2),
            "nll": 0.3 + difficulty,
            "brier": 0.2 + difficulty,
            "ece_10": ece * 0.95,
            "ece_15": ece,
            "adaptive_ece": ece * 1.05,
            "classwise_ece": ece / 4,
            "mce": ece * 3,
            "mean_confidence": float(confidence.mean()),
        }
    detection = {}
    for dataset, base in ((NEAR, 0.75), (FAR, 0.9)):
        detection[dataset] = {}
        for score in SCORES:
            auroc = min(0.99, base + 0.02 * k + 0.02 * rng.standard_normal())
            detection[dataset][score] = {
                "auroc": auroc,
                "aupr_id": auroc,
                "aupr_ood": auroc - 0.1,
                "fpr95_id_positive": 1 - auroc * 0.8,
                "fpr95_ood_positive": 1 - auroc * 0.7,
            }
    shifted = [metrics[s] for s in shifts]
    values = np.sort(2 * rng.random(32) ** (1.5 - 0.2 * k))[::-1]
    return {
        "method": method,
        "seed": seed,
        "num_steps": 200 * (k > 0),
        "train_seconds": 31.0 * k,
        "steps_per_second": 6.4,
        "metrics": metrics,
        "reliability": reliability,
        "detection": detection,
        "spectrum": {
            "smallest_singular_value": float(values[-1]),
            "singular_values": values.tolist(),
        },
        "summary": {
            "id_accuracy": metrics["clean"]["accuracy"],
            "id_ece": metrics["clean"]["ece_15"],
            "ood_accuracy": float(np.mean([m["accuracy"] for m in shifted])),
            "ood_ece": float(np.mean([m["ece_15"] for m in shifted])),
            "near_auroc": detection[NEAR]["mcm"]["auroc"],
            "far_auroc": detection[FAR]["mcm"]["auroc"],
        },
    }


def make_bins(confidence, right, num_bins=15):
    edges = np.linspace(0, 1, num_bins + 1)
    inside = [
        (confidence > a) & (confidence <= b) for a, b in zip(edges[:-1], edges[1:], strict=True)
    ]
    mean = [[float(x[i].mean()) if i.any() else None for i in inside] for x in (confidence, right)]
    return {
        "edges": edges.tolist(),
        "count": [int(i.sum()) for i in inside],
        "confidence": mean[0],
        "accuracy": mean[1],
    }


def make_history(methods=METHODS, seeds=(0, 1, 2)):
    rng = np.random.default_rng(1)
    history = []
    phases = {
        "pretrain": ("contrastive",),
        "fine-tuning": ("cross_entropy",),
        "flyp": ("contrastive",),
        "carot": ("contrastive", "orthogonality", "cross_projection", "distillation"),
    }
    for phase, terms in phases.items():
        if phase not in ("pretrain", *methods):
            continue
        for seed in seeds:
            for step in range(0, 400 if phase == "pretrain" else 200, 10):
                decay = np.exp(-step / 80)
                values = {
                    t: float((2.5 * decay + 0.4) / (i * i + 1) + 0.05 * rng.random())
                    for i, t in enumerate(terms)
                }
                history.append(
                    {
                        "phase": phase,
                        "seed": seed,
                        "step": step,
                        "loss": sum(values.values()),
                        "terms": values,
                        "learning_rate": 1e-4,
                        "smallest_singular_value": 0.02
                        + 0.1 * (1 - decay) * (phase == "carot")
                        + 0.01 * float(rng.random()),
                        "projection_smallest_singular_value": 0.1 + 0.05 * decay,
                    }
                )
    return history


def make_examples(methods=METHODS, shifts=SHIFTS, side=32, each=4):
    rng = np.random.default_rng(2)
    examples = []
    for dataset in ("clean", *shifts, NEAR, FAR):
        for index in range(each):
            label = CLASSES[rng.integers(8)] if dataset not in (NEAR, FAR) else "eight"
            coarse = rng.integers(0, 255, (side // 4, side // 4, 3), dtype=np.uint8)
            image = np.kron(coarse, np.ones((4, 4, 1), np.uint8)).astype(np.uint8)
            answers = {
                m: (
                    label if rng.random() < 0.7 and label in CLASSES else CLASSES[rng.integers(8)],
                    float(rng.random()),
                )
                for m in methods
            }
            examples.append(
                Example(
                    dataset=dataset, index=index * 17, image=image, label=label, predictions=answers
                )
            )
    return examples


class Page(html.parser.HTMLParser):
    """Checks that every element is closed in order; collects text, cells and resources."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self, text):
        super().__init__()
        self.open, self.text, self.ids, self.resources, self.tags = [], [], [], [], set()
        self.rows = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        for key, value in attrs:
            if key == "id":
                self.ids.append(value)
            if key in ("src", "href", "srcset", "xlink:href", "data", "action"):
                self.resources.append(value)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)
        if "tr" in self.open and ("td" in self.open or "th" in self.open):
            self.rows[-1][-1] += data


def render(tmp_path, results, history=(), examples=()):
    path = tmp_path / "report.html"
    write_report(path, with_page(results, list(history)), list(examples))
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return render(tmp_path_factory.mktemp("page"), make_results(), make_history(), make_examples())


def test_page_is_well_formed_and_needs_nothing_else(page):
    parsed = Page(page)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert page.count("<script>") == 1 and "link" not in parsed.tags
    for resource in parsed.resources:
        assert resource.startswith(("#", "data:image/")), resource
    # References inside the page lead somewhere.
    inside = {r[1:] for r in parsed.resources if r.startswith("#")}
    inside |= set(re.findall(r"url\(#([\w-]+)\)", page))
    assert inside <= set(parsed.ids)
    assert not re.search(r"https?:|@import|url\((?!#)", page)
    assert len(page) < 1_500_000


def test_page_names_everything(page):
    parsed = Page(page)
    text = " ".join(parsed.text)
    for name in (
        *METHODS,
        *SHIFTS,
        NEAR,
        FAR,
        "MCM",
        "max similarity",
        "pretrain",
        "the validation split",
        "2 min 50 s",
        "0, 1, 2",
        "15 bins",
        "cross_projection",
        "ID is the positive class",
        "OOD positive",
        "fine-tuning, seed 2",
    ):
        assert name in text, name
    assert page.count("<img") == 4 * (len(SHIFTS) + 3)
    assert {"✓", "✗", "?"} <= set(parsed.text)
    assert page.count("prefers-color-scheme: dark") == 1
    assert "image-rendering: pixelated" in page and 'class="pixels"' in page


def test_every_table_scrolls_in_a_box_of_its_own(page):
    boxes = re.findall(r'<div class="scroll(?: wide)?" tabindex="0"><table', page)
    assert len(boxes) == page.count("<table") > 5
    assert ".scroll { overflow-x: auto;" in page


def test_a_config_that_says_nothing_of_its_choices_is_said_to(tmp_path):
    results = make_results() | {"tuned_on": ""}
    trained = render(tmp_path, results)
    assert "not said: they are what the config has" in trained
    assert "tuned on" not in (tmp_path / "table.md").read_text(encoding="utf-8")
    for run in results["runs"]:
        run["num_steps"] = 0
    assert "Hyper-parameters chosen on" not in render(tmp_path, results)


def test_numbers_on_the_page_are_those_of_the_results(page):
    results = make_results()
    rows = [row for row in Page(page).rows if row]
    keys = ("id_accuracy", "ood_accuracy", "id_ece", "ood_ece", "near_auroc", "far_auroc")
    for row in results["table"]:
        cells = [f"{100 * row[k]['mean']:.1f} ± {100 * row[k]['std']:.1f}" for k in keys]
        assert [row["method"], *cells] in rows
    runs = [run for run in results["runs"] if run["method"] == "carot"]
    nll = [run["metrics"]["noisy"]["nll"] for run in runs]
    start = next(i for i, row in enumerate(rows) if row == ["noisy"])
    carot = next(row for row in rows[start:] if row[0] == "carot")
    header = next(row for row in rows if "NLL\N{NO-BREAK SPACE}↓" in row)
    assert (
        carot[header.index("NLL\N{NO-BREAK SPACE}↓")]
        == f"{np.mean(nll):.3f} ± {np.std(nll, ddof=1):.3f}"
    )
    energy = 100 * np.mean([run["detection"][FAR]["energy"]["auroc"] for run in runs])
    assert any(cell.startswith(f"{energy:.1f} ±") for row in rows for cell in row)


def test_same_input_gives_the_same_bytes(tmp_path, page):
    assert render(tmp_path, make_results(), make_history(), make_examples()) == page


def test_text_is_escaped(tmp_path):
    bad = '<script>alert("&")</script>$x_1$'
    results = make_results(methods=(bad, "carot"), seeds=(0,), shifts=(bad,))
    results |= {"title": bad, "name": bad, "tuned_on": bad, "config": {bad: bad}}
    history = [{"phase": bad, "seed": 0, "step": 1, "loss": 1.0, "terms": {bad: 1.0}}]
    examples = make_examples(methods=(bad,), shifts=(bad,), each=1)
    text = render(tmp_path, results, history, examples)
    Page(text)
    assert text.count("<script") == 1 and 'alert("' not in text


def test_text_that_no_font_and_no_encoding_has(tmp_path):
    bad = "\udc80$\\frac{\x1b\u202e\0\n"
    results = make_results(methods=(bad, "carot"), seeds=(0,), shifts=(bad,))
    text = render(tmp_path, results | {"title": bad, "tuned_on": bad, "config": {bad: bad}})
    Page(text)
    assert "\\udc80$\\frac{\\x1b\\u202e\\x00" in text and not re.search("[\x1b\u202e\0]", text)


def test_one_seed_has_no_spread(tmp_path):
    text = render(tmp_path, make_results(seeds=(0,)), make_history(seeds=(0,)))
    cells = [cell for row in Page(text).rows for cell in row]
    assert not any("±" in cell for cell in cells)
    assert "one seed" in text


def test_missing_numbers_become_dashes(tmp_path):
    results = make_results(shifts=("noisy", "blurred"))
    results["table"][0]["id_ece"] = {"mean": float("nan"), "std": None}
    results["table"][1]["far_auroc"] = {"mean": None, "std": None}
    del results["table"][2]["near_auroc"]
    for run in results["runs"]:
        run["metrics"]["noisy"]["accuracy"] = None
        del run["spectrum"], run["reliability"]["blurred"]
        run["detection"][NEAR]["energy"]["auroc"] = float("inf")
    del results["environment"]["wall_seconds"]
    examples = make_examples(shifts=("noisy",), each=1)
    examples[0].predictions["carot"] = ("two", float("nan"))
    rows = [row for row in Page(render(tmp_path, results, (), examples)).rows if row]
    first = [next(row for row in rows if row[0] == m) for m in METHODS]
    assert (first[0][3], first[1][6], first[2][5]) == ("–", "–", "–")
    assert not any(word in cell for row in rows for cell in row for word in ("nan", "inf", "None"))


def test_everything_optional_may_be_absent(tmp_path):
    results = make_results(seeds=(0,))
    for key in ("title", "environment", "config", "created", "seeds", "tuned_on"):
        del results[key]
    results["datasets"] = {"id": "clean"}
    results["runs"] = [{"method": m, "seed": 0} for m in METHODS]
    text = render(tmp_path, results)
    assert "<h2>Training</h2>" not in text and "#losses" not in text
    Page(text)


def test_many_methods_and_shifts(tmp_path):
    methods = tuple(f"method {i}" for i in range(10))
    shifts = tuple(f"corruption_with_long_name_{i}" for i in range(25))
    results = make_results(methods=methods, shifts=shifts, seeds=(0,))
    for run in results["runs"]:
        run["reliability"] = {}  # the slowest figures, drawn in the other tests
    text = render(tmp_path, results, (), make_examples(methods=methods, shifts=shifts, side=96))
    assert len(text) < 3_000_000
    Page(text)


def with_all_keys(results):
    """The results with everything that may be absent."""
    clean, *shifts = results["datasets"]["id"], *results["datasets"]["shifts"]
    line = {"accuracy": [0.5, 0.6], "ece_15": [0.2, 0.1]}
    for run in results["runs"]:
        metrics = run["metrics"]
        run["num_steps"] = 200
        run["spectrum"]["smallest_singular_value"] += 0.01
        run["intervals"] = {s: {"accuracy": [0.25, 0.75], "nll": [0.1, 0.2]} for s in metrics}
        run["selective"] = {s: {"coverage": [0.1, 1.0], "risk": [0.0, 0.4]} for s in metrics}
        wrong = {"index": 34, "label": "one", "prediction": "six", "confidence": 0.9}
        run["mistakes"] = {clean: [wrong], shifts[0]: [wrong, wrong]}
        run["calibrated"] = {
            "temperature": {
                "fitted_on": "validation",
                "parameters": {"temperature": 1.25},
                "metrics": {
                    s: {k: m[k] / 2 for k in ("ece_15", "nll")} for s, m in metrics.items()
                },
            }
        }
        sets = {s: {"coverage": 0.875, "mean_size": 2.5} for s in metrics}
        run["conformal"] = {"alpha": 0.1, "aps": sets}
        for value in metrics.values():
            value |= {"aurc": 0.1, "ece_10_per_batch_512": 0.2, "brier_resolution": 0.125}
    for row in results["table"]:
        row["ood_ece_calibrated"] = {"mean": 0.0625, "std": None}
    return results | {
        "curves": {"flyp": {"alphas": [0.0, 1.0], "splits": {clean: line, shifts[0]: line}}}
    }


def test_everything_that_can_be_measured(tmp_path):
    methods = (*METHODS, "tracer")
    results = with_all_keys(make_results(methods=methods, seeds=(0,), shifts=("noisy", "blurred")))
    examples = make_examples(methods=methods, shifts=("noisy",), each=3)
    text = render(tmp_path, results, (), examples)
    parsed = Page(text)
    assert len(parsed.ids) == len(set(parsed.ids))
    for shown in (
        "If it may abstain",
        "temperature: the mean OOD ECE falls for 5 of 5 methods",
        "Fitted: temperature 1.250.",
        "Conformal sets",
        "The most confident mistakes",
        "flyp: ECE, %",
        "95 % intervals over test examples",
        "With other test examples: the intervals above.",
        "Does the theory order the models?",
        "mean OOD ECE, T scaled",
        "only\N{NBSP}to\N{NBSP}compare with\N{NBSP}papers",
        "[25.0, 75.0]",
    ):
        assert shown in text, shown
    assert text.count("noisy #34") == 2 * 5 and text.count("clean #34") == 5
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "report.html",
        "table.csv",
        "table.md",
        "table.tex",
    ]


def test_predictions_from_files(tmp_path):
    results = with_all_keys(make_results(methods=("model",), seeds=(0,), shifts=("blurred",)))
    for run in results["runs"]:
        for key in ("num_steps", "train_seconds", "detection", "spectrum", "conformal"):
            del run[key]
        run["summary"] |= dict.fromkeys(("near_auroc", "far_auroc"))
        run["level"] = 0.8
    results["table"][0] |= dict.fromkeys(("near_auroc", "far_auroc"))
    results["datasets"] |= {"near": [], "far": []}
    results |= {"curves": {}, "table_score": "", "tuned_on": ""}
    text = re.sub(r"<(style|script)>.*?</\1>", "", render(tmp_path, results), flags=re.S)
    page = Page(text)
    words = " ".join(page.text)
    assert "1 method, 1 shift: whether it stays accurate" in words
    for absent in ("image", "models saw", "Device", "Seeds", "first seed", "one seed", "AUROC"):
        assert absent not in words, absent
    for absent in ("Unknown classes", "OOD score", "Every run", "best of the column", "pooled"):
        assert absent not in words, absent
    assert not any(cell == "–" for row in page.rows for cell in row)
    assert 'class="tile' not in text and words.count("80 % ") == 3
    for name, absent in {"md": "**", "tex": "textbf", "csv": "_std"}.items():
        assert absent not in (tmp_path / f"table.{name}").read_text(encoding="utf-8")


def test_results_survive_json_and_are_not_changed(tmp_path):
    results = make_results(methods=("flyp", "carot"), seeds=(0, 1))
    before = copy.deepcopy(results)
    text = render(tmp_path, results)
    assert results == before
    assert render(tmp_path, json.loads(json.dumps(results))) == text


def test_wrong_results_are_refused(tmp_path):
    path = tmp_path / "report.html"
    with pytest.raises(DataError, match=r"results: got schema 2, expected 1\."):
        write_report(path, make_results() | {"schema": 2})
    with pytest.raises(DataError, match=r"results: got nothing under \['table', 'runs'\]"):
        write_report(path, make_results() | {"table": [], "runs": []})
    with pytest.raises(DataError, match=r"results: got nothing under 'page'.* Run the command"):
        write_report(path, make_results())


def test_sections_of_ones_own(tmp_path):
    path, results = tmp_path / "report.html", with_page(make_results(shifts=("noisy",)))
    sections = {"Own <one>": lambda found: f"<p>seeds: {found['seeds']}</p>", "Empty": lambda _: ""}
    write_report(path, results, sections=sections)
    text = path.read_text(encoding="utf-8")
    parsed = Page(text)
    assert "<h2>Own &lt;one&gt;</h2>" in text and "<p>seeds: [0, 1, 2]</p>" in text
    assert "Empty" not in text and len(parsed.ids) == len(set(parsed.ids))


def test_a_metric_of_ones_own_says_what_it_is(tmp_path):
    results = make_results(methods=("flyp", "carot"), shifts=("noisy",), seeds=(0,))
    for k, run in enumerate(results["runs"]):
        for values in run["metrics"].values():
            values["surprise"] = 1.5 + k
    own = {"surprise": {"title": "surprise", "unit": "nats", "direction": "lower"}}
    text = render(tmp_path, results | {"quantities": own})
    assert "surprise\N{NBSP}↓" in text and '<td class="best">1.500</td>' in text
    with pytest.raises(ConfigError, match="^number: got 'surprise', expected a key of the catal"):
        render(tmp_path, results)


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8)])
def test_wrong_example_is_refused(image):
    example = make_examples(each=1)[0]
    with pytest.raises(DataError, match=r"example 0 of clean: got uint8 of shape \("):
        # The annotations, checked in the tests only, would get there first.
        object.__setattr__(example, "image", image)
        example.__post_init__()
