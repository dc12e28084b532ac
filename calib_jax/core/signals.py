"""How a command ends on SIGINT, SIGTERM or SIGHUP: in order, with one line and the code 128 + n.

Handlers are a command's alone: what calls the Python API keeps its own. A signal that is ignored
when the command starts (`nohup`, a background job) stays ignored. It imports next to nothing, so
that a command is covered before it imports JAX.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

SAME = 0.5
"""Seconds within which a second signal is the first: `timeout`, Slurm and terminals send two."""


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end; all that it had to keep is kept.

    A KeyboardInterrupt, so that other libraries clean up after it as after Ctrl-C.

    Attributes:
        number: The signal's.
    """

    def __init__(self, number: int):
        """Args: number: the signal's."""
        super().__init__(number)  # what a pickle of it is made of
        self.number = number

    @property
    def exit_code(self) -> int:
        """130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP, as shells have it."""
        return 128 + self.number

    def report(self, module: str, arguments: Sequence[str]) -> int:
        """The exit code, after the one line that says how to go on.

        Args:
            module: The command's, as Python starts it.
            arguments: What it was given.
        """
        # Not at the top: a command is covered before it imports what this does.
        import shlex

        from calib_jax.core.printing import say

        name = signal.Signals(self.number).name
        command = f"python -m {module} {shlex.join(arguments)}"
        say(
            f"calib_jax: stopped by {name}. The same command goes on from here: {command}",
            file=sys.stderr,
        )
        return self.exit_code


class _State:  # no dataclass: their module takes longer to import than all else here
    """Of the process.

    Attributes:
        number: The first signal, once it is there.
        since: When it came.
        raises: Whether there is something to clean up, so that it raises.
        has_raised: Whether it did: other errors may then come of it.
        holds: How many blocks it has to wait for.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.since = 0.0
        self.raises = self.has_raised = False
        self.holds = 0


_STATE = _State()


def begin() -> None:
    """The process ends on a signal with one line, from here on; `handled` then does it in order.

    For the first line of a command, and of a process that a command starts.
    """
    if _install():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # see `blocked`


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """A block in which a signal raises Stopped, and a second one ends the process at once.

    In another thread than the main one it does nothing. Handlers that were there come back.
    """
    before, raises = _install(), _STATE.raises
    _STATE.raises = True
    try:
        yield
    except Exception:
        if _STATE.number is None or not _STATE.has_raised:
            raise
        # What the signal has broken on its way, such as a pool of processes, is no error.
        raise Stopped(_STATE.number) from None
    finally:
        _STATE.raises = raises
        for number, handler in before.items():
            signal.signal(number, handler)
        if any(handler is not _on_signal for handler in before.values()):
            _STATE.number, _STATE.has_raised = None, False


@contextlib.contextmanager
def held() -> Iterator[Callable[[], bool]]:
    """A block whose end a signal waits for; gives a function: whether one has come.

    Raises:
        Stopped: At the end, where one has.
    """
    _STATE.holds += 1
    try:
        yield lambda: _STATE.number is not None
    finally:
        _STATE.holds -= 1
    check()


def stopped_by(interrupt: KeyboardInterrupt) -> Stopped:
    """What ended a command; a KeyboardInterrupt of somebody else's handler is a SIGINT."""
    return interrupt if isinstance(interrupt, Stopped) else Stopped(signal.SIGINT)


def check() -> None:
    """Raises Stopped where a signal came whose exception was lost, as in a finalizer."""
    if _STATE.number is not None and _STATE.raises and not _STATE.holds:
        _STATE.has_raised = True
        raise Stopped(_STATE.number)


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """A block in which signals wait, and the processes that it starts wait for their `begin`."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS if _is_installed() else ())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _install() -> dict[int, Any]:
    """Installs the handler for what is not ignored; gives the handlers that were there."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    before: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    # None: another language's handler, which could not be put back.
    before = {k: v for k, v in before.items() if v not in (signal.SIG_IGN, None)}
    for number in before:
        signal.signal(number, _on_signal)
    return before


def _is_installed() -> bool:
    return any(signal.getsignal(number) is _on_signal for number in SIGNALS)


def _on_signal(number: int, frame: Any) -> None:
    del frame
    first = _STATE.number
    if first is None:
        _STATE.number, _STATE.since = number, time.monotonic()
        name = signal.Signals(number).name
        if not _STATE.raises:
            _exit(number, f"stopped by {name}. The same command goes on from what is there.")
        if not _STATE.holds:
            _STATE.has_raised = True
            raise Stopped(number)
        if _is_terminal():
            _write(f"{name}: saving after this step; once more ends it at once.")
    elif time.monotonic() - _STATE.since >= SAME:
        name = signal.Signals(number).name
        _exit(number, f"ended at once by {name}. The same command goes on from what was saved.")


def _exit(number: int, line: str) -> None:
    """Ends the process and those that it has started: no exception that a library could catch."""
    multiprocessing = sys.modules.get("multiprocessing")
    is_child = False
    with contextlib.suppress(Exception):  # whatever is half made or half gone
        if multiprocessing is not None:
            is_child = multiprocessing.parent_process() is not None
            for child in multiprocessing.active_children():
                child.kill()
    if not is_child:
        _write(line)
    os._exit(128 + number)


def _write(line: str) -> None:
    """Writes past Python's buffers, in whose midst a signal may come."""
    with contextlib.suppress(OSError):
        os.write(2, f"{chr(10) * _is_terminal()}calib_jax: {line}\n".encode())


def _is_terminal() -> bool:
    try:
        return os.isatty(2)
    except OSError:
        return False
