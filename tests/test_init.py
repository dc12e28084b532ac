"""What `import calib_jax` gives, and what it does not load."""

import ast
import pathlib
import re
import subprocess
import sys
import tomllib

import numpy as np
import pytest

import calib_jax
from calib_jax.evaluation.api import evaluate_predictions


def test_the_suite_for_predictions_is_there():
    assert calib_jax.evaluate_predictions is evaluate_predictions
    with pytest.raises(AttributeError, match="module 'calib_jax' has no attribute 'evaluate'"):
        _ = calib_jax.evaluate


def test_dir_has_the_public_names_and_no_others():
    program = "import calib_jax; print(*dir(calib_jax))"
    found = subprocess.run(
        [sys.executable, "-c", program], check=True, timeout=60, capture_output=True, text=True
    )
    assert found.stdout.split() == ["__version__", "core", "evaluate_predictions"]
    assert set(calib_jax.__all__) <= set(dir(calib_jax))


def test_importing_the_package_is_light_and_the_suite_reads_no_data_sets():
    program = (
        "import sys, calib_jax; assert not {'numpy', 'jax'} & set(sys.modules);"
        "calib_jax.evaluate_predictions; assert 'tensorflow_datasets' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_no_module_imports_the_package_itself():
    """Its `__init__` stands above all of them; the linter's layers do not see it."""
    root = pathlib.Path(calib_jax.__file__).parent
    above = []
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import) and "calib_jax" in [name.name for name in node.names]:
                above.append(str(path.relative_to(root)))
            if isinstance(node, ast.ImportFrom) and node.module == "calib_jax":
                above += [
                    f"{path.relative_to(root)}: {name.name}"
                    for name in node.names
                    if not ((root / name.name).is_dir() or (root / f"{name.name}.py").is_file())
                ]
    assert above == []


def test_the_version_is_that_of_the_distribution():
    """Read from the source, as the build does: whoever runs from a clone has installed nothing."""
    root = pathlib.Path(__file__).resolve().parents[1]
    metadata = tomllib.loads((root / "pyproject.toml").read_text())
    assert metadata["project"]["dynamic"] == ["version"]
    attribute = metadata["tool"]["setuptools"]["dynamic"]["version"]["attr"]
    module, _, name = attribute.rpartition(".")
    tree = ast.parse((root / f"{module.replace('.', '/')}.py").read_text())
    (assignment,) = (node for node in tree.body if isinstance(node, ast.Assign))
    assert assignment.targets[0].id == name
    assert ast.literal_eval(assignment.value) == calib_jax.__version__
    cited = re.search(r"^version: (.*)$", (root / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited[1] == calib_jax.__version__
    assert f"## {calib_jax.__version__} " in (root / "CHANGELOG.md").read_text()


def test_the_readme_evaluates_predictions():
    readme = (pathlib.Path(__file__).resolve().parents[1] / "README.md").read_text()
    example = re.search(r"<!-- evaluate -->\n```python\n(.*?)```", readme, re.DOTALL)[1]
    rng = np.random.default_rng(0)
    labels, validation_labels = rng.integers(0, 3, (2, 60))
    logits, validation_logits = rng.normal(size=(2, 60, 3))
    names = dict(logits=logits, labels=labels, calib_jax=calib_jax)
    names |= dict(validation_logits=validation_logits, validation_labels=validation_labels)
    exec(compile(example, "README.md", "exec"), names)
    record = names["record"]
    assert record == calib_jax.evaluate_predictions(
        logits, labels, calibration=(validation_logits, validation_labels)
    )
    assert "ece_15" in record["intervals"]["reported"]
