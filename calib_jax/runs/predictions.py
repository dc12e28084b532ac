"""Predictions of any framework, read from files, in `results.json` and a report."""

import dataclasses
import pathlib
import time
import zlib
from typing import Any

import numpy as np

from calib_jax.calibrators.calibrator import Calibrator
from calib_jax.calibrators.checks import check_settings
from calib_jax.calibrators.temperature import TemperatureScaling
from calib_jax.core import settings, text_files
from calib_jax.core.errors import ConfigError, DataError
from calib_jax.core.paths import expanded
from calib_jax.core.printing import say
from calib_jax.evaluation.api import evaluate_predictions
from calib_jax.evaluation.posthoc import VALIDATION
from calib_jax.evaluation.prediction_files import located, read_predictions
from calib_jax.evaluation.record import check_trends
from calib_jax.metrics.bootstrap import check_level, check_num_resamples
from calib_jax.metrics.outcomes import Kind
from calib_jax.metrics.robustness import Trend
from calib_jax.report.page import write_report
from calib_jax.report.tables import terminal_table
from calib_jax.runs.page_record import with_page
from calib_jax.runs.results import results_of
from calib_jax.runs.workdir import Workdir, read_json, write_json


@dataclasses.dataclass(kw_only=True)
class PredictionFiles:
    """Files with what one model says of its splits.

    A file `x.npz` holds `labels`, and `logits` or `probs`. `x_logits.npy` (or `x_probs.npy`) lies
    beside `x_labels.npy`, and is memory-mapped. `x.parquet` has the columns `label`, and `logits`,
    a list in each row, or `logit_0`, `logit_1` ...; `prob` stands for `logit` there too. A path may
    begin with `~`.

    Attributes:
        name: A word.
        title: The report's headline.
        model: What the report calls the model.
        reported: `name=path` of every split, or its path alone, with commas between; the first is
            the ID split, the others are shifts.
        calibration: The path of the split that calibrators are fitted on, reported nowhere; empty:
            nothing is calibrated.
        calibrators: By name; those that need a second model's predictions are for
            `evaluate_predictions` alone.
        class_names: For the mistakes, with commas between, or the path of a text file with one on
            each line; empty: numbers.
        trends: For shifts, by name, the line of baseline models: the effective robustness beyond
            it.
        num_resamples: Of the bootstrap intervals; 0: none.
        level: Of the intervals.
    """

    name: str = "predictions"
    title: str = "Predictions"
    model: str = "model"
    reported: str
    calibration: str = ""
    calibrators: dict[str, Calibrator] = dataclasses.field(
        default_factory=lambda: {"temperature": TemperatureScaling()}
    )
    class_names: str = ""
    trends: dict[str, Trend] = dataclasses.field(default_factory=dict)
    num_resamples: int = 1000
    level: float = 0.95

    def paths(self) -> dict[str, pathlib.Path]:
        """The reported files, by the names of their splits.

        Raises:
            ConfigError: A name is empty, taken or used twice, or a path begins with no user's `~`.
        """
        paths: dict[str, pathlib.Path] = {}
        for text in self.reported.split(","):
            name, path = _named(text)
            if not name or name == VALIDATION or name in paths:
                raise ConfigError(
                    f"reported: got the name {name!r} in {self.reported!r}, expected distinct "
                    f"names other than {VALIDATION!r}. Set it as in test=a.npz,blurred=b.npz."
                )
            paths[name] = expanded(path, field="reported")
        return paths

    def names(self) -> tuple[str, ...]:
        """The class names.

        Raises:
            ConfigError: There is no such file, or it is no text.
        """
        if pathlib.Path(self.class_names).suffix != ".txt":
            return tuple(name.strip() for name in self.class_names.split(",") if name.strip())
        path = expanded(self.class_names, field="class_names")
        try:
            found = tuple(filter(None, map(str.strip, text_files.lines(path.read_bytes()))))
            if not found:
                raise ValueError("it is empty")
            return found
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"class_names: {path} cannot be read ({error}). Write one name on each line, or "
                "set them as in cat,dog."
            ) from None

    def validate(self) -> None:
        """Raises a ConfigError for a setting of another type, or names that do not tell splits."""
        _, *shifts = self.paths()
        expanded(self.calibration, field="calibration")
        self.names()
        check_trends(self.trends, shifts, where="trends")
        check_settings(self.calibrators, where="calibrators")
        check_num_resamples(self.num_resamples)
        check_level(self.level)


def run_predictions(config: PredictionFiles, path: pathlib.Path) -> dict[str, Any]:
    """The content of `results.json`, which `path` then holds beside `report.html`.

    Raises:
        ConfigError: A file is missing or of an unknown kind, or as `evaluate_predictions`.
        DataError: A file is damaged or lacks an array, or as `evaluate_predictions`.
    """
    start = time.monotonic()
    settings.check(config)
    paths = config.paths()
    (id_name, id_path), *others = paths.items()
    kind, given = read_predictions(id_path)
    shifts = {name: _same_kind(other, kind) for name, other in others}
    files = {"": id_path} | {f"shifts.{name}.": other for name, other in others}
    held_out = None
    if config.calibration:
        files["calibration."] = expanded(config.calibration, field="calibration")
        held_out = _same_kind(files["calibration."], kind)
    splits = {id_name: given, **shifts, **({VALIDATION: held_out} if held_out else {})}
    # A path alone does not tell the predictions.
    checksums = {name: _checksum(*arrays) for name, arrays in splits.items()}
    described = settings.to_dict(config) | {"predictions_crc32": checksums}
    class_names = config.names()
    if pathlib.Path(config.class_names).suffix == ".txt":  # nor the class names
        described["class_names"] = list(class_names)
    with Workdir(path).opened() as workdir, located(files):
        workdir.check(described)
        record = evaluate_predictions(
            *given,
            name=id_name,
            probs=True if kind == "probs" else None,
            calibration=held_out,
            shifts=shifts,
            class_names=class_names or None,
            calibrators=None if held_out is None else config.calibrators,
            trends=config.trends,
            num_resamples=config.num_resamples,
            level=config.level,
        )
        workdir.claim(described)
        sizes = {name: len(labels) for name, (_, labels) in splits.items()}
        results = results_of(
            [{"method": config.model, "seed": 0, **record}],
            {"id": id_name, "shifts": list(shifts), "near": [], "far": [], "num_examples": sizes},
            name=config.name,
            title=config.title,
            class_names=class_names,
            seeds=(0,),
            tuned_on="",
            config=described,
            wall_seconds=time.monotonic() - start,
        )
        write_json(workdir.results, with_page(results))
        results = read_json(workdir.results)
        write_report(workdir.report, results)
    say(terminal_table(results))
    say(f"Report: {workdir.report}")
    return results


def _same_kind(path: pathlib.Path, kind: Kind) -> tuple[np.ndarray, np.ndarray]:
    found, arrays = read_predictions(path)
    if found != kind:
        raise DataError(f"{path}: got {found}, expected {kind} as in the first file. Convert it.")
    return arrays


def _checksum(scores: np.ndarray, labels: np.ndarray) -> int:
    checksum = 0
    for array in (scores, labels):
        checksum = zlib.crc32(array.ravel(order="K").view(np.uint8).data, checksum)
    return checksum


def _named(text: str) -> tuple[str, str]:
    """The name and the path of `name=path`, or of a path alone, whose folders may hold a `=`."""
    whole = text.strip()
    name, equals, path = (part.strip() for part in whole.partition("="))
    if not equals or "/" in name or pathlib.Path(whole).is_file():
        name, path = "", whole
    return name or pathlib.Path(path).stem, path
