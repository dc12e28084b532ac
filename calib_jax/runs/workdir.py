"""The folder of a run: one config for ever, and what has been finished."""

from __future__ import annotations

import contextlib
import fcntl
import json
import pathlib
from collections.abc import Iterator
from typing import Any, Self

from calib_jax.core.errors import ConfigError, DataError
from calib_jax.core.settings import differences


class Workdir:
    """Paths in the folder of a run.

    `config.json`, `metrics.jsonl`, `results.json`, `report.html`, `data/` (prepared by the run),
    `checkpoints/seed_0/carot/`, `pretrained/seed_0/`, `tuning/seed_0/carot.TRIAL.json`,
    `evaluations/seed_0/carot.json`, `curves/seed_0/carot.json`,
    `models/seed_0/carot/` (the exports), `compiled/` (JAX's compilation cache: may be deleted).
    """

    def __init__(self, path: pathlib.Path):
        """Args: path: the folder; it need not exist."""
        self.path = path
        self.config = path / "config.json"
        self.metrics = path / "metrics.jsonl"
        self.results = path / "results.json"
        self.report = path / "report.html"
        self.data = path / "data"
        self.models = path / "models"

    def checkpoints(self, phase: str, seed: int) -> pathlib.Path:
        """Where a training keeps its checkpoints."""
        return self.path / "checkpoints" / f"seed_{seed}" / phase

    def pretrained(self, seed: int) -> pathlib.Path:
        """Where the pre-trained model is exported."""
        return self.path / "pretrained" / f"seed_{seed}"

    def model(self, name: str, seed: int) -> pathlib.Path:
        """Where a fine-tuned model is exported."""
        return self.models / f"seed_{seed}" / name

    def trial(self, phase: str, seed: int) -> pathlib.Path:
        """What a trial of the tuning scored."""
        return self.path / "tuning" / f"seed_{seed}" / f"{phase}.json"

    def evaluation(self, method: str, seed: int) -> pathlib.Path:
        """The record of a finished method."""
        return self.path / "evaluations" / f"seed_{seed}" / f"{method}.json"

    def curve(self, method: str, seed: int) -> pathlib.Path:
        """What WiSE-FT makes of a method, over alpha."""
        return self.path / "curves" / f"seed_{seed}" / f"{method}.json"

    @contextlib.contextmanager
    def opened(self, config: dict[str, Any]) -> Iterator[Self]:
        """The folder, made where it is missing, checked, and locked against a second process.

        Raises:
            ConfigError: It cannot be written, is in use, or holds the run of another config.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / ".lock").open("w")
        except OSError as error:
            raise ConfigError(
                f"workdir {self.path}: cannot be written ({error.strerror}). "
                "Choose another --workdir."
            ) from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ConfigError(
                    f"workdir {self.path}: another process is running in it. "
                    "Wait for it, or choose another --workdir."
                ) from None
            self.check(config)
            yield self

    def check(self, config: dict[str, Any]) -> None:
        """Raises a ConfigError where the folder holds the run of another config."""
        if not self.config.exists():
            if self.metrics.exists() or self.results.exists():
                raise ConfigError(
                    f"workdir {self.path}: it holds results but no config.json. "
                    "Choose another --workdir."
                )
            return
        try:
            stored = json.loads(self.config.read_text(encoding="utf-8"))
        except ValueError as error:  # of the JSON or of its encoding
            raise ConfigError(
                f"workdir {self.path}: config.json is damaged ({error}). Choose another --workdir."
            ) from None
        changes = list(differences(stored, json.loads(json.dumps(config))))
        if changes:
            more = f" and {len(changes) - 8} more" if len(changes) > 8 else ""
            differ = "1 field differs" if len(changes) == 1 else f"{len(changes)} fields differ"
            raise ConfigError(
                f"workdir {self.path}: it holds a run of another config, which is left as it is; "
                f"{differ}: {'; '.join(changes[:8])}{more}. "
                "Choose another --workdir, or undo the change to go on with that run."
            )

    def claim(self, config: dict[str, Any]) -> None:
        """Writes the config of a new run: from here on the folder is its own."""
        if not self.config.exists():
            write_json(self.config, config)


def read_json(path: pathlib.Path) -> Any:
    """The content of a JSON file that a run has written.

    Raises:
        DataError: The file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: damaged ({error}). Delete it to have it made again.") from None


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes a JSON file at once or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)
