"""README and docs: links lead somewhere, code compiles, commands parse, names exist."""

import ast
import dataclasses
import importlib
import inspect
import itertools
import pathlib
import pkgutil
import re
import shlex
import subprocess

import pytest
from PIL import Image

from calib_jax import calibrators, main, methods
from calib_jax.calibrators.calibrator import Calibrator, PairedCalibrator
from calib_jax.core import command_line
from calib_jax.core.errors import ConfigError
from calib_jax.data.official import command as prepare_command
from calib_jax.methods.method import Method
from calib_jax.runs.workdir import Workdir
from calib_jax.weight_space import rows
from calib_jax.weight_space.rows import Combination

ROOT = pathlib.Path(__file__).resolve().parents[1]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [path for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS) if path.exists()]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MAX_WORDS = 30

of_every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def prose(page):
    """The page without its fenced and its indented blocks."""
    return re.sub(r"^ {4}.*$", "", FENCE.sub("", page.read_text("utf-8")), flags=re.MULTILINE)


def anchors(page):
    """What GitHub calls the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in headings}


@of_every_page
def test_links_lead_to_files_and_headings_that_exist(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if link.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("start", ["README.md", "docs/index.md"])
def test_every_page_is_one_click_from_the_index_and_two_from_the_readme(start):
    def linked(page):
        links = re.findall(r"\]\(([^)#\s]+)[^)\s]*\)", page.read_text("utf-8"))
        return {(page.parent / link).resolve() for link in links}

    found = linked(ROOT / start)
    if start == "README.md":
        assert ROOT / "docs" / "index.md" in found
        found |= set().union(*(linked(page) for page in found if page.suffix == ".md"))
    assert set(DOCS) - {ROOT / "docs" / "index.md"} <= found


def test_the_readme_is_short_and_has_the_set_up_commands_that_ci_runs():
    text = (ROOT / "README.md").read_text("utf-8")
    assert 5.5 * 1024 <= len(text.encode()) <= 8 * 1024
    setup = text.partition("\n<!-- setup -->\n")[2].partition("\n<!-- end setup -->\n")[0]
    commands = [line for line in setup.splitlines() if line.startswith("pip install")]
    assert len(commands) == 2
    assert "--config configs/quickstart.py --workdir runs/quickstart" in commands[0]


def test_the_readme_shows_a_few_rows_of_the_study_as_they_are():
    def table(page):
        lines = (ROOT / page).read_text("utf-8").splitlines()
        first = next(n for n, line in enumerate(lines) if line.startswith("| | CIFAR-10: ID"))
        return list(itertools.takewhile(lambda line: line.startswith("|"), lines[first:]))

    few, every = table("README.md"), table("docs/study.md")
    assert 1 <= len(few) - 2 <= 8
    assert set(few) <= set(every)
    assert len(every) - 2 == 38


def test_the_picture_is_small_and_wide_enough():
    path = ROOT / "docs" / "report.png"
    assert path.stat().st_size < 300_000
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.width >= 1000


def test_the_picture_is_of_a_report_that_is_there(tmp_path):
    script = ROOT / "docs" / "make_picture.sh"
    missing = tmp_path / "report.html"
    run = subprocess.run([script, missing, tmp_path / "x.png"], capture_output=True, text=True)
    assert run.returncode == 1
    assert f"got {missing}, expected a report. Run the quickstart." in run.stderr


@of_every_page
def test_python_blocks_compile_and_import_what_exists(page):
    for language, code in FENCE.findall(page.read_text("utf-8")):
        if language != "python":
            continue
        compile(code, page.name, "exec")
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("calib_jax"):
                for alias in node.names:
                    assert resolves(f"{node.module}.{alias.name}"), (node.module, alias.name)


def commands(page):
    """The command lines of the fenced blocks, each on one line."""
    for language, block in FENCE.findall(page.read_text("utf-8")):
        if language != "python":
            yield from re.sub(r"\\\n", " ", block).splitlines()


@of_every_page
def test_commands_name_configs_fields_and_files_that_exist(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    for line in commands(page):
        words = shlex.split(line.split("&&")[-1]) if "python -m" in line else line.split()
        for word in words:
            if re.fullmatch(r"(configs|benchmarks|docs|launch)/[\w/]+\.(py|sh|md)", word):
                assert (ROOT / word).is_file(), line
        if "calib_jax.main" in words:
            command_line.parse(words[words.index("calib_jax.main") :], main.RUNNERS)
        if "calib_jax.data.prepare" in words:
            name = words[words.index("calib_jax.data.prepare") + 1]
            assert name == "NAME" or prepare_command(name, pathlib.Path("DIR")), line


def test_a_command_with_a_field_that_does_not_exist_would_be_found(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    line = "python -m calib_jax.main --config configs/quickstart.py --workdir x --config.sedes=1"
    page.write_text(f"```\n{line}\n```\n")
    with pytest.raises(ConfigError, match="sedes"):
        test_commands_name_configs_fields_and_files_that_exist(page, monkeypatch)


@pytest.fixture(scope="module")
def root_configs():
    """A config of every kind, for the options that the text names."""
    files = ("quickstart.py", "finetune.py", "evaluate_predictions.py", "study/study.py")
    argv = ("x", "--workdir=w", "--config")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return [command_line.parse((*argv, f"configs/{file}"), main.RUNNERS)[0] for file in files]


@of_every_page
def test_options_that_the_text_names_are_fields(page, root_configs):
    for option in re.findall(r"--config\.([a-z][\w.]*[\w])", prose(page)):
        found = 0
        for config in root_configs:
            try:
                command_line._held(config, option)
                found += 1
            except ConfigError:
                continue
        assert found, f"--config.{option}"


def resolves(name):
    """Whether a dotted name is a module, or an attribute of one."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            found = getattr(found, part, None)
        return found is not None
    return False


@of_every_page
def test_files_and_names_that_the_text_has_in_code_exist(page):
    for code in re.findall(r"`([^`\n]+)`", prose(page)):
        for path in re.findall(r"(?<![\w/.-])((?:\w+/)+(?:\w+\.(?:py|sh|md))?)(?![\w{])", code):
            if path.split("/")[0] in ("calib_jax", "configs", "tests", "benchmarks", "docs"):
                assert (ROOT / path).exists(), code
        for name in re.findall(r"\bcalib_jax(?:\.\w+)+", code):
            assert resolves(name), code


def sentences(page):
    """The sentences of the prose, of list items and of the cells of tables, as plain words."""
    text = re.sub(r"<!--.*?-->", "", prose(page), flags=re.DOTALL)
    if page.name == "results.md":  # a metric's line in its table says all that there is to say
        text = text.partition("\n## Metrics\n")[0]
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`\n]*`", "Code", text)
    # What begins a paragraph, an item, a heading or a cell ends the sentence before it.
    text = re.sub(r"\n\s*\n|\n(?=\s*(?:[-#>]|\d+\.) )|\|", "\0", text)
    for part in re.split(r"\0|(?<=[.!?:;])\*{0,2}\s+(?=[A-Z`*\"])", text):
        yield re.findall(r"[\w'%.−-]*\w[\w'%.−-]*", part)


@of_every_page
def test_sentences_are_short(page):
    assert not [" ".join(words) for words in sentences(page) if len(words) > MAX_WORDS]


def modules(package):
    names = (found.name for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."))
    return [importlib.import_module(name) for name in names]


def first_cells(page, heading):
    """What stands in code in the first cells of the table under a heading; '' is the page's top."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    text = re.split(r"^##+ ", text.partition(heading)[2], flags=re.MULTILINE)[0]
    cells = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def test_every_recipe_is_in_the_table_of_methods():
    recipes = {
        name: module
        for module in modules(methods)
        for name, found in inspect.getmembers(module, inspect.isfunction)
        if found.__module__ == module.__name__ and not name.startswith("_")
        if inspect.signature(found).return_annotation in (Method, "Method")
    }
    assert len(recipes) > 15
    assert sorted(first_cells("methods.md", "## The recipes")) == sorted(recipes)
    text = (ROOT / "docs" / "methods.md").read_text("utf-8")
    for name, module in recipes.items():
        row = next(line for line in text.splitlines() if re.match(rf"\| .*`{name}`", line))
        assert f"`{module.__name__.rpartition('.')[2]}.py`" in row


def test_every_row_of_weights_is_in_its_table():
    made = [
        name
        for name, found in inspect.getmembers(rows, inspect.isclass)
        if issubclass(found, Combination) and found is not Combination
    ]
    assert sorted(first_cells("methods.md", "## Rows made of finished weights")) == sorted(made)


def test_every_calibrator_is_in_its_table():
    made = {
        name: module.__name__.rpartition(".")[2]
        for module in modules(calibrators)
        for name, found in inspect.getmembers(module, dataclasses.is_dataclass)
        if found.__module__ == module.__name__
        if issubclass(found, Calibrator | PairedCalibrator) or hasattr(found, "of_texts")
        if name != "SplitConformal"
    }
    assert sorted(first_cells("calibrators.md", "# Calibrators")) == sorted(made)
    text = (ROOT / "docs" / "calibrators.md").read_text("utf-8")
    for name, module in made.items():
        assert f"| `{name}` | `{module}.py` |" in text


def test_every_path_of_a_workdir_is_explained():
    workdir = Workdir(pathlib.Path("w"))
    made = [value for value in vars(workdir).values() if value != workdir.path]
    for name, method in inspect.getmembers(workdir, inspect.ismethod):
        if method.__annotations__.get("return") == "pathlib.Path":
            arguments = {
                key: 0 if kind == "int" else "NAME"
                for key, kind in method.__annotations__.items()
                if key != "return"
            }
            made.append(getattr(workdir, name)(**arguments))
    assert len(made) > 8
    explained = first_cells("workdir.md", "## Files")
    for path in made:
        top = path.parts[1]
        assert any(cell.split("/")[0] == top for cell in explained), path
