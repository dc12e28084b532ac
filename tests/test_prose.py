"""Prose and names: short sentences in docstrings and documents, no name that means two things."""

import ast
import collections
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[1]
MAX_WORDS = 30
# Functions that are called by their module's name (`page_curves.spectrum`) and say the same of
# other things: a report's section is called as what it shows.
QUALIFIED = {
    "calibrated",
    "check",
    "conformal",
    "curve",
    "detection",
    "difference",
    "fit",
    "intervals",
    "methods",
    "mistakes",
    "project",
    "reliability",
    "resampled",
    "risk_coverage",
    "section",
    "shifts",
    "spectrum",
    "summary",
}
# One question asked of each: what a module is about stands before the dot.
FAMILIES = (
    ("calib_jax/data/datasets/*.py", "calib_jax/data/prepare.py"),
    ("calib_jax/models/weights/*.py",),
    # A metric of a split, and the same one of its resamples.
    ("calib_jax/metrics/*.py",),
    # `main` of the two commands.
    ("calib_jax/main.py", "calib_jax/data/prepare.py"),
)
MODULES = sorted((ROOT / "calib_jax").rglob("*.py"))
DOCUMENTS = sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").glob("**/*.md"))

_HEADING = re.compile(r"(Args|Attributes|Raises|Returns|Yields|Examples?|Notes?):$")
_ENTRY = re.compile(r"^[\w.*, ]+(\(.*?\))?: ")
_CITATION = re.compile(
    r"\([^()]*(?:arXiv|\beqs?\.|\bsections?\b|\bappendix\b|et al|\b(?:19|20)\d\d\b)[^()]*\)"
)
_ABBREVIATION = re.compile(r"\b(e\.g|i\.e|et al|eqs?|vs|cf|fig|secs?|App|Dr)\.", re.IGNORECASE)


def sentences(paragraph):
    """The sentences of a paragraph; a formula in backticks and a citation in brackets is a word."""
    text = re.sub(r"`+[^`]+`+", "FORMULA", paragraph)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = _CITATION.sub("CITATION", text.replace("...", "…"))
    text = _ABBREVIATION.sub(r"\1", text)
    return [one for one in re.split(r"(?<=[.!?])[\"')*\]]*\s+", text) if one]


def num_words(sentence):
    return sum(bool(re.search(r"\w", word)) for word in sentence.split())


def paragraphs(lines):
    """(index of the first line, text) of every paragraph, list item and entry of a docstring."""
    found, is_open, entries = [], False, None  # entries: the indent of a section's entries
    for index, line in enumerate(lines):
        text, indent = line.strip(), len(line) - len(line.lstrip())
        if _HEADING.match(text):
            is_open, entries = False, -1
            continue
        if not text:
            is_open = False
            continue
        if entries is not None:
            entries = None if indent == 0 else indent if entries < 0 else entries
        is_entry = indent == entries
        if is_entry or not is_open or re.match(r"([-*]|\d+\.) ", text):
            found.append((index, []))
        found[-1][1].append(_ENTRY.sub("", text, count=1) if is_entry else text)
        is_open = True
    return [(index, " ".join(texts)) for index, texts in found]


def docstrings(path):
    """(line, name, text) of a module's docstring and those of its classes and functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(tree):
        text = ast.get_docstring(node) if isinstance(node, kinds) else None
        if text is not None:
            yield node.body[0].lineno, getattr(node, "name", path.stem), text


def prose(path):
    """(line, text) of every paragraph of a document: no code, no tables, no headings."""
    lines, is_code = [], False
    for line in path.read_text(encoding="utf-8").splitlines():
        fence = line.lstrip().startswith("```")
        is_code ^= fence
        skipped = fence or is_code or line.lstrip().startswith(("|", "#", "<!--", "!["))
        lines.append("" if skipped else line)
    return [(index + 1, text) for index, text in paragraphs(lines)]


def long_sentences(path):
    if path.suffix == ".md":
        texts = prose(path)
    else:
        texts = [
            (line + index, text)
            for line, _, docstring in docstrings(path)
            for index, text in paragraphs(docstring.splitlines())
        ]
    return [
        f"{path.relative_to(ROOT)}:{line}: {num_words(sentence)} words: {sentence}"
        for line, text in texts
        for sentence in sentences(text)
        if num_words(sentence) > MAX_WORDS
    ]


def opens_with_nothing(path):
    return [
        f"{path.relative_to(ROOT)}:{line}: {name}: {text.splitlines()[0]}"
        for line, name, text in docstrings(path)
        if re.match(r"Nothing\b", text)
    ]


def unclean(path):
    docstring_of = opens_with_nothing(path) if path.suffix == ".py" else []
    return long_sentences(path) + docstring_of


def names_defined_twice():
    """{name: the modules that define it}: public, at the top of two modules of no one family."""
    found = collections.defaultdict(list)
    for path in MODULES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            is_public = isinstance(node, ast.ClassDef | ast.FunctionDef)
            if is_public and not node.name.startswith("_"):
                found[node.name].append(path.relative_to(ROOT))
    return {
        name: [str(path) for path in paths]
        for name, paths in found.items()
        if len(paths) > 1
        and not any(
            all(any(path.match(pattern) for pattern in family) for path in paths)
            for family in FAMILIES
        )
    }


def test_sentences_are_short_and_no_docstring_opens_with_nothing():
    found = [text for path in MODULES + DOCUMENTS for text in unclean(path)]
    assert not found, "\n".join(["make two of each, or say what it does:", *found])


def test_no_name_means_two_things():
    twice = {k: v for k, v in names_defined_twice().items() if k not in QUALIFIED}
    assert not twice, f"rename one of each: {twice}"


def test_the_list_has_no_more_than_there_is():
    assert set(names_defined_twice()) >= QUALIFIED


def test_the_check_sees_what_it_should(tmp_path, monkeypatch):
    long, short = " ".join(["word"] * 31), " ".join(["word"] * 30)
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    module = tmp_path / "module.py"
    module.write_text(
        f'"""{long}.\n\n- {short}\n- {short}\n"""\n\n\n'
        f'def f():\n    """Nothing, if so.\n\n    Args:\n        a: {short}.\n'
        f'        b: {long}.\n    """\n'
    )
    assert [text.split(": ")[0] for text in unclean(module)] == [
        "module.py:1",
        "module.py:13",
        "module.py:9",
    ]
    page = tmp_path / "page.md"
    page.write_text(f"# {long}\n\n{short}. {short}\n\n```\n{long}\n```\n\n{long}\n{long}\n")
    assert [text[:20] for text in unclean(page)] == ["page.md:9: 62 words:"]


def test_formulas_citations_and_links_are_words():
    text = "See `a + b` (Guo et al. 2017, section 4) and [two words](https://x.org). Next, e.g. it."
    assert [num_words(one) for one in sentences(text)] == [6, 3]
