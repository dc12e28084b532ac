"""How far a command is: bars on a terminal, elsewhere a line every half minute, on stderr.

A `Board` knows what a run still has to do and how long such work has taken. Each stage, such as a
training, reports to the board that is up. A Jupyter notebook is no terminal: it gets the lines.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

from tqdm import tqdm

from calib_jax.core import signals
from calib_jax.core.durations import clock_time, pace
from calib_jax.core.printing import say

INTERVAL = 30.0
"""Seconds between two lines."""

_REFRESH = 0.5  # seconds between two looks of a bar over all stages
_LONG = 2.0  # seconds after which a stage that says little has a bar


@dataclasses.dataclass(frozen=True)
class Work:
    """What a stage has to do.

    Attributes:
        unit: `step`, `image`, ...: what takes about as long in every stage.
        amount: How many of them; None: not known yet.
    """

    unit: str
    amount: int | None


@dataclasses.dataclass(eq=False)
class Board:
    """The stages of a run, and the time that is left of them.

    Attributes:
        todo: What is to be done, by the titles of the stages; None: no run, but stages alone.
        stream: Where it is shown; standard error, whatever that is at the time.
        clock: Seconds.
        interval: Between two lines.
        is_shown: False: shows nothing, as in all processes but one.
        bars: Whether it shows bars; None: on a terminal.
        label: Stands before every title.
        later: What comes after the run.
    """

    todo: Mapping[str, Work] | None = None
    stream: Any = None
    clock: Callable[[], float] = time.monotonic
    interval: float = INTERVAL
    is_shown: bool = True
    bars: bool | None = None
    label: str = ""
    later: Mapping[str, Work] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self._plan = dict(self.todo or {})
        self._measured: dict[str, tuple[float, float]] = {}  # units and seconds
        self._open: list[StageProgress] = []
        self._num_done = 0
        self._said = self._refreshed = -float("inf")
        self._overall: tqdm | None = None

    def plan(self, plan: Mapping[str, Work]) -> None:
        """Takes this for what is still to be done."""
        self._plan, self.todo = {**plan, **self.later}, plan

    def drop(self, title: str) -> None:
        """A stage of the plan is not needed, or is done."""
        if self._plan.pop(title, None) is not None:
            self._num_done += 1

    def stage(
        self,
        title: str,
        *,
        total: int | None,
        unit: str,
        initial: int = 0,
        is_minor: bool = False,
        compiles: bool = False,
    ) -> StageProgress:
        """A stage, to be opened by `with`.

        Args:
            title: What a reader sees, and what the plan calls it.
            total: Units in all; None: unknown.
            unit: Of its work.
            initial: Units that are done already.
            is_minor: Shown only where it takes long.
            compiles: With its first units a program is compiled: their time says nothing.
        """
        return StageProgress(self, title, total, unit, initial, is_minor, compiles)

    def seconds_left(self) -> tuple[float, bool]:
        """Seconds that are left of all stages, and whether some could not be estimated."""
        seconds, has_unknown = 0.0, False
        for stage in self._open[:1]:  # others are a part of it
            left = stage.seconds_left()
            seconds, has_unknown = seconds + (left or 0.0), has_unknown or left is None
        for title, work in self._plan.items():
            if work.amount == 0 or any(stage.title == title for stage in self._open):
                continue
            amount, took = self._measured_of(work.unit)
            if work.amount is None or not amount:
                has_unknown = True
            else:
                seconds += work.amount * took / amount
        return seconds, has_unknown

    def whole(self) -> str:
        """`whole run: 1:02:03 left`, with a `more than` or an `unknown yet` where it has to."""
        seconds, has_unknown = self.seconds_left()
        if has_unknown and not seconds:
            return "whole run: time left unknown yet"
        return f"whole run: {'more than ' * has_unknown}{clock_time(seconds)} left"

    def close(self) -> None:
        """Takes the bars off the terminal."""
        if self._overall is not None:
            self._overall.close()
            self._overall = None

    def _measured_of(self, unit: str) -> tuple[float, float]:
        """Units and seconds of finished stages and of those that are open."""
        pairs = [self._measured.get(unit, (0.0, 0.0))]
        pairs += [stage.measured() for stage in self._open if stage.unit == unit]
        return sum(pair[0] for pair in pairs), sum(pair[1] for pair in pairs)

    def _add(self, stage: StageProgress) -> None:
        if not self._open and not stage.is_minor:  # stages inside others are not counted
            self._plan.setdefault(stage.title, Work(stage.unit, 0))
        self._open.append(stage)
        self._show(stage)

    def _remove(self, stage: StageProgress, *, is_done: bool) -> None:
        self._open.remove(stage)
        amount, seconds = self._measured.get(stage.unit, (0.0, 0.0))
        more, took = stage.measured()
        self._measured[stage.unit] = (amount + more, seconds + took)
        if not self._open:
            is_counted = self._plan.pop(stage.title, None) is not None
            self._num_done += is_counted and is_done
        is_long = stage.seconds() >= self.interval
        if is_done and not self._shows_bars() and (is_long or not stage.is_minor):
            self._say(stage.closing())
        self._show_overall(at_once=True)

    def _show(self, stage: StageProgress) -> None:
        """Shows how far a stage is, if it is time to."""
        is_due = self.clock() - self._said >= self.interval
        if self._shows_bars():
            self._show_overall()
        elif is_due and not (stage.is_minor and stage.seconds() < _LONG):
            whole = f"; {self.whole()}" if self.todo is not None else ""
            self._say(f"{stage.line()}{whole}")

    def _show_overall(self, *, at_once: bool = False) -> None:
        if self.todo is None or not self._shows_bars():
            return
        if not at_once and self.clock() - self._refreshed < _REFRESH:
            return
        self._refreshed = self.clock()
        if self._overall is None:
            form = "{percentage:3.0f}%|{bar}| {desc}"
            options = {"position": 0, "leave": False, "dynamic_ncols": True}
            self._overall = tqdm(total=1, file=self._out(), bar_format=form, **options)
        total = max(self._num_done + len(self._plan), 1)
        self._overall.total = total
        self._overall.n = self._num_done + sum(stage.share() for stage in self._open[:1])
        number = f"stage {min(self._num_done + 1, total)} of {total}"
        self._overall.set_description_str(self._titled(f"{number}, {self.whole()}"), refresh=False)
        self._overall.refresh()

    def _shows_bars(self) -> bool:
        if not self.is_shown or self.bars is not None:
            return self.is_shown and bool(self.bars)
        out = self._out()
        return out is not None and out.isatty() and os.environ.get("TERM") != "dumb"

    def _titled(self, text: str) -> str:
        return f"{self.label}: {text}" if self.label else text

    def _out(self) -> Any:
        return sys.stderr if self.stream is None else self.stream

    def _say(self, line: str) -> None:
        self._said = self.clock()
        if self.is_shown and self._out() is not None:
            say(self._titled(line), file=self._out())


@dataclasses.dataclass(eq=False)
class StageProgress:
    """One stage of a board: a training, an evaluation, a data set that is written.

    Attributes as the arguments of `Board.stage`.
    """

    board: Board
    title: str
    total: int | None
    unit: str
    initial: int
    is_minor: bool
    compiles: bool = False

    def __post_init__(self) -> None:
        self._count = self.initial
        self._details: dict[str, Any] = {}
        self._began = self._first = self.board.clock()
        self._first_count: int | None = None
        self._bar: tqdm | None = None

    def __enter__(self) -> StageProgress:
        """Shows it."""
        board = self.board
        self._began = board.clock()
        board._add(self)
        if board._shows_bars():
            self._bar = tqdm(
                total=self.total,
                initial=self.initial,
                desc=board._titled(self.title),
                unit=self.unit,
                file=board._out(),
                leave=len(board._open) == 1 and not self.is_minor,
                delay=_LONG if self.is_minor else 0,
                mininterval=_REFRESH,
                dynamic_ncols=True,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Says how it ended; of an error, which says more itself, nothing."""
        if self._bar is not None:
            self._bar.close()
        self.board._remove(self, is_done=kind is None)

    def reach(self, count: int, **details: Any) -> None:
        """So many units are done, of `total`.

        Args:
            count: As many as before or fewer are no news.
            details: Numbers to be shown, each read only when it is.
        """
        signals.check()
        self._details.update(details)
        if count <= self._count:
            return
        if self._bar is not None:
            if details:
                self._bar.set_postfix_str(self._numbers(), refresh=False)
            self._bar.update(count - self._count)
        self._count = count
        if self._first_count is None:  # with the first come compilations
            self._first, self._first_count = self.board.clock(), count
        self.board._show(self)

    def advance(self, number: int = 1) -> None:
        """So many more units are done."""
        self.reach(self._count + number)

    def seconds(self) -> float:
        """Since it began."""
        return self.board.clock() - self._began

    def measured(self) -> tuple[float, float]:
        """The units that it has done itself, and the seconds that they took."""
        done = self._count - self.initial
        if not done or (self.compiles and self._count == self._first_count):
            return 0.0, 0.0
        return float(done), self.seconds()

    def share(self) -> float:
        """How much of it is done, in 0..1."""
        return min(self._count / self.total, 1.0) if self.total else 0.0

    def seconds_left(self) -> float | None:
        """Of this stage; None while nothing is measured."""
        rate = self._rate()
        if self.total is None or (rate is None and self._count < self.total):
            return None
        return max(self.total - self._count, 0) / rate if rate else 0.0

    def line(self) -> str:
        """`carot, seed 0: step 5 of 9, loss=1.2, 3.4 steps/s, 0:00:02 left`."""
        total = "" if self.total is None else f" of {self.total:,}"
        parts = [f"{self.title}: {self.unit} {self._count:,}{total}"]
        left, rate = self.seconds_left(), self._rate()
        parts += [self._numbers()] if self._details else []
        parts += [pace(rate, self.unit)] if rate else []
        parts += ["time left unknown yet" if left is None else f"{clock_time(left)} left"]
        return ", ".join(parts)

    def closing(self) -> str:
        """`carot, seed 0: 9 steps in 0:00:03, loss=1.2`; of a stopped one `step 5 of 9`."""
        done, took = self._count - self.initial, clock_time(self.seconds())
        how = f"{done:,} {self.unit}{'s' * (done != 1)} in {took}"
        if self.total is not None and self._count < self.total:
            how = f"{self.unit} {self._count:,} of {self.total:,} after {took}"
        return f"{self.title}: {how}{f', {self._numbers()}' * bool(self._details)}"

    def _numbers(self) -> str:
        return ", ".join(f"{name}={float(value):.4g}" for name, value in self._details.items())

    def _rate(self) -> float | None:
        """Units a second: without the first ones, as soon as there are others."""
        now = self.board.clock()
        if self._first_count is not None and self._count > self._first_count and now > self._first:
            return (self._count - self._first_count) / (now - self._first)
        done, seconds = self.measured()
        return done / seconds if done and seconds > 0 else None


_BOARDS = [Board()]
"""The last is up; the first is of what is called without a run."""


def board() -> Board:
    """The board that is up."""
    return _BOARDS[-1]


@contextlib.contextmanager
def put_up(new: Board) -> Iterator[Board]:
    """A block in which this board is up."""
    _BOARDS.append(new)
    try:
        yield new
    finally:
        _BOARDS.remove(new)
        new.close()
