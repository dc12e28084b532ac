"""The folder of a run: what has been finished, and what it depends on."""

from __future__ import annotations

import contextlib
import fcntl
import functools
import itertools
import json
import os
import pathlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from calib_jax.core import manifests, text_files
from calib_jax.core.errors import ConfigError, DataError
from calib_jax.core.settings import differences


class Workdir:
    """Paths in the folder of a run.

    docs/workdir.md says what each file and folder is.
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

    def training(self, phase: str, seed: int) -> pathlib.Path:
        """What a training depends on (`identity.Identities.training`)."""
        return self.path / "trainings" / f"seed_{seed}" / f"{phase}.json"

    def predictions(self, name: str, seed: int) -> pathlib.Path:
        """Where the predictions of a row of the table are kept (`evaluation.store.Store`)."""
        return self.path / "predictions" / f"seed_{seed}" / name

    @contextlib.contextmanager
    def opened(self) -> Iterator[Self]:
        """The folder, made where it is missing, and locked against a second process.

        What raises leaves neither a lock nor a folder that was not there before.

        Raises:
            ConfigError: It cannot be written, or is in use.
        """
        missing = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        path = self.path / ".lock"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            is_new = not path.exists()
            # Neither followed nor emptied: a link may lead to anything.
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
            lock = os.fdopen(os.open(path, flags, 0o666), "rb+", buffering=0)
        except OSError as error:
            reason = ".lock is a link" if path.is_symlink() else error.strerror
            raise ConfigError(
                f"workdir {self.path}: cannot be written ({reason}). Choose another --workdir."
            ) from None
        with lock:
            self._lock(lock.fileno(), path)
            try:
                yield self
            except BaseException:
                _remove(path if is_new else None, missing)
                raise

    def _lock(self, descriptor: int, path: pathlib.Path) -> None:
        """Raises a ConfigError where another process holds the lock."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Between the two lines above a process that failed may have removed it.
            if not os.path.samestat(os.fstat(descriptor), path.stat()):
                raise BlockingIOError
        except OSError:
            raise ConfigError(
                f"workdir {self.path}: another process is running in it. "
                "Wait for it, or choose another --workdir."
            ) from None

    def check(self, config: dict[str, Any]) -> None:
        """Raises a ConfigError where the folder holds the run of another config."""
        stored = self._stored_config()
        if stored is not None:
            self.refuse(differences(stored, json.loads(json.dumps(config))))

    def check_kind(self, config: dict[str, Any]) -> None:
        """Raises a ConfigError where the folder holds a run of another kind of config."""
        stored = self._stored_config()
        if stored is not None:
            self.refuse(differences({"()": stored.get("()")}, {"()": config["()"]}))

    def claim(self, config: dict[str, Any]) -> None:
        """Writes the config of a new run: from here on the folder is its own."""
        if not self.config.exists():
            write_json(self.config, config)

    def check_trainings(self, identities: Mapping[tuple[str, int], Mapping[str, Any]]) -> None:
        """Raises a ConfigError where the folder keeps a training that depends on other things.

        A training of which nothing is kept may be another one.

        Args:
            identities: What each training depends on, by its phase and its seed.
        """
        records = map(read_json, sorted((self.path / "evaluations").rglob("*.json")))
        has_checkpoints = (self.path / "checkpoints").exists()
        if (has_checkpoints and not (self.path / "trainings").exists()) or any(
            "identity" not in record for record in records
        ):
            raise ConfigError(
                f"workdir {self.path}: it holds a run of an earlier version, which is left as it "
                "is. Choose another --workdir."
            )
        changes: dict[str, None] = {}
        for (phase, seed), identity in identities.items():
            path = self.training(phase, seed)
            kept = [self.checkpoints(phase, seed), self.trial(phase, seed)]
            found = [one for one in kept if one.exists()]
            if found and not path.exists():
                raise ConfigError(
                    f"workdir {self.path}: got {found[0]} without {path}, which says what it "
                    "depends on, expected both. Delete the former to have it made again."
                )
            if found:
                now = json.loads(json.dumps(identity))
                changes |= dict.fromkeys(differences(read_json(path), now))
        self.refuse(changes)

    def refuse(self, changes: Iterable[str]) -> None:
        """Raises a ConfigError that lists the changes, if there are any."""
        changes = list(changes)
        if not changes:
            return
        more = f" and {len(changes) - 8} more" if len(changes) > 8 else ""
        differ = "1 field differs" if len(changes) == 1 else f"{len(changes)} fields differ"
        raise ConfigError(
            f"workdir {self.path}: it holds a run of another config, which is left as it is; "
            f"{differ}: {'; '.join(changes[:8])}{more}. "
            "Choose another --workdir, or undo the change to go on with that run."
        )

    @functools.cached_property
    def earlier(self) -> pathlib.Path:
        """A new folder for what this command replaces."""
        taken = {path.name for path in (self.path / "earlier").glob("*")}
        number = next(n for n in itertools.count(1) if str(n) not in taken)
        return self.path / "earlier" / str(number)

    def archive(self, paths: Iterable[pathlib.Path]) -> None:
        """Moves what is there of these files to `earlier`."""
        for path in paths:
            if path.exists():
                target = self.earlier / path.relative_to(self.path)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.replace(target)

    def page(self) -> list[pathlib.Path]:
        """The results, and all that is made of them."""
        tables = [self.path / f"table.{suffix}" for suffix in ("md", "csv", "tex")]
        return [self.results, self.report, *tables]

    def _stored_config(self) -> dict[str, Any] | None:
        """The config of the run that the folder holds; None in a new one."""
        if not self.config.exists():
            if self.metrics.exists() or self.results.exists():
                raise ConfigError(
                    f"workdir {self.path}: it holds results but no config.json. "
                    "Choose another --workdir."
                )
            return None
        try:
            found = dict(text_files.parse_json(self.config.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:  # of the JSON or of its encoding
            raise ConfigError(
                f"workdir {self.path}: config.json is damaged ({error}). Choose another --workdir."
            ) from None
        manifests.check([self.config], error=ConfigError)
        return found


def read_json(path: pathlib.Path, kind: type = dict) -> Any:
    """The content of a JSON file that a run has written.

    Args:
        path: The file.
        kind: What it holds: an object (dict) or an array (list).

    Raises:
        DataError: The file is damaged, or differs from its checksum.
    """
    try:
        found = text_files.parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(found, kind):
            raise ValueError(f"got a {type(found).__name__}, expected a {kind.__name__}")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: damaged ({error}). Delete it to have it made again.") from None
    manifests.check([path], error=DataError)
    return found


def write_json(path: pathlib.Path, value: Any) -> None:
    """Writes a JSON file at once or not at all, and then its checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, indent=1) + "\n"
    with manifests.recorded(path.parent, [path.name]):
        partial = path.with_suffix(".partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)


def _remove(lock: pathlib.Path | None, folders: Iterable[pathlib.Path]) -> None:
    """Removes a lock, and those of the folders, the deepest first, that hold nothing then."""
    if lock is not None:
        lock.unlink(missing_ok=True)
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()
