"""What a signal does to a command: small scripts that import nothing heavy, and drawn sequences."""

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from calib_jax.core import signals
from calib_jax.core.signals import SIGNALS, Stopped

CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}

PRELUDE = """
import concurrent.futures, multiprocessing, os, signal, sys, time
from calib_jax.core import signals

def send(name, after=0.0):
    time.sleep(after)
    os.kill(os.getpid(), getattr(signal, name))

name = sys.argv[1]
"""
COMMAND = """
try:
    with signals.handled():
        BODY
except KeyboardInterrupt as interrupt:
    sys.exit(signals.stopped_by(interrupt).report("calib_jax.main", ["--workdir", "a b"]))
print("finished")
"""


def script(text, *arguments, before=(), **options):
    done = subprocess.run(
        [*before, sys.executable, "-c", PRELUDE + text, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        **options,
    )
    return done.returncode, done.stdout, done.stderr


def command(body, *arguments, **options):
    return script(COMMAND.replace("BODY", body.replace("\n", "\n        ")), *arguments, **options)


def resumed_by(name):
    return (
        f"calib_jax: stopped by {name}. The same command goes on from here: "
        "python -m calib_jax.main --workdir 'a b'\n"
    )


@pytest.mark.parametrize("name", CODES)
def test_each_signal_has_its_code_and_one_line(name):
    """While a command imports, and while it works; the second half before the first's handler."""
    early = script("signals.begin(); send(name); print('on')", name)
    assert early == (
        CODES[name],
        "",
        f"calib_jax: stopped by {name}. The same command goes on from what is there.\n",
    )
    assert command("send(name); print('on')", name) == (CODES[name], "", resumed_by(name))


def test_a_signal_waits_for_the_end_of_a_held_block():
    body = (
        "with signals.held() as is_stopping:\n    send(name)\n    print(is_stopping())\nprint('on')"
    )
    assert command(body, "SIGTERM") == (143, "True\n", resumed_by("SIGTERM"))


def test_a_second_signal_ends_it_at_once():
    """Also while it saves, in a block that the first one waits for; and in what cleans up."""
    ended = "calib_jax: ended at once by SIGINT. The same command goes on from what was saved.\n"
    later = signals.SAME + 0.1
    held = f"with signals.held():\n    send(name)\n    send('SIGINT', {later})\n    print('saved')"
    assert command(held, "SIGTERM") == (130, "", ended)
    cleaning = f"try:\n    send(name)\nfinally:\n    send('SIGINT', {later})"
    assert command(cleaning, "SIGHUP") == (130, "", ended)


def test_one_stop_that_is_sent_twice_is_one():
    """As `timeout` and Slurm do, to a process and to its group."""
    body = "with signals.held():\n    send(name)\n    send('SIGHUP')\n    print('saved')"
    assert command(body, "SIGTERM") == (143, "saved\n", resumed_by("SIGTERM"))


@pytest.mark.parametrize("name", CODES)
def test_what_is_ignored_from_the_start_stays_ignored(name):
    """`nohup`, and SIGINT in a background job of a script."""
    ignore = ("sh", "-c", f"trap '' {name.removeprefix('SIG')}; exec \"$@\"", "sh")
    found = script("signals.begin(); send(name); print('on')", name, before=ignore)
    assert found == (0, "on\n", "")
    assert command("send(name)", name, before=ignore) == (0, "finished\n", "")


def test_what_a_stop_breaks_on_its_way_is_no_error():
    body = "try:\n    send(name)\nexcept KeyboardInterrupt:\n    raise OSError('a pool broke')"
    assert command(body, "SIGTERM") == (143, "", resumed_by("SIGTERM"))


def test_a_save_that_fails_after_a_signal_is_an_error():
    """Nothing was raised by the signal: what is lost is said."""
    body = "with signals.held():\n    send(name)\n    raise OSError('the device is full')"
    code, out, error = command(body, "SIGTERM")
    assert (code, out) == (1, "") and error.endswith("OSError: the device is full\n")
    assert "goes on" not in error


def test_a_stop_that_a_library_swallows_comes_again():
    body = "try:\n    send(name)\nexcept BaseException:\n    pass\nsignals.check()\nprint('on')"
    assert command(body, "SIGTERM") == (143, "", resumed_by("SIGTERM"))


def test_signals_wait_for_a_process_that_is_started_again():
    """The command's restart for huge pages: no moment in which the default handlers are there."""
    text = """
signals.begin()
if len(sys.argv) == 2:
    code = "from calib_jax.core import signals; print('begun', flush=True); signals.begin()"
    with signals.blocked():
        send(name)
        os.execv(sys.executable, [sys.executable, "-c", code, name, "again"])
"""
    code, out, error = script(text, "SIGHUP")
    assert (code, out) == (129, "begun\n")
    assert error.startswith("calib_jax: stopped by SIGHUP.") and error.count("\n") == 1


POOL = """
import os, signal, sys, time, concurrent.futures, multiprocessing
from calib_jax.core import signals

def work(folder):
    with signals.handled(), signals.held():
        open(folder + "/started", "w").close()
        while not signals._STATE.number:
            time.sleep(0.01)
        open(folder + "/saved", "w").close()

def main(folder):
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(
        2, mp_context=context, initializer=signals.begin
    ) as pool:
        results = pool.map(work, [folder])
        while not os.path.exists(folder + "/started"):
            time.sleep(0.01)
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except signals.Stopped:
            for child in multiprocessing.active_children():
                child.terminate()
                child.terminate()
            raise

if __name__ == "__main__":
    try:
        with signals.handled():
            main(sys.argv[1])
    except KeyboardInterrupt as interrupt:
        sys.exit(signals.stopped_by(interrupt).report("x", []))
"""


def test_processes_that_a_command_has_started_save_too(tmp_path):
    path = tmp_path / "pool.py"
    path.write_text(POOL)
    done = subprocess.run(
        [sys.executable, str(path), str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 143
    assert done.stderr.startswith("calib_jax: stopped by SIGTERM") and done.stderr.count("\n") == 1
    assert (tmp_path / "saved").exists()


def test_handlers_of_who_calls_a_command_come_back():
    """A notebook's or a script's own."""
    own = {number: lambda *_: None for number in SIGNALS}
    before = {number: signal.signal(number, handler) for number, handler in own.items()}
    try:
        with pytest.raises(Stopped), signals.handled():
            assert signal.getsignal(signal.SIGTERM) is not own[signal.SIGTERM]
            os.kill(os.getpid(), signal.SIGTERM)
        assert {number: signal.getsignal(number) for number in SIGNALS} == own
        signals.check()  # it is over: the next command of this process begins anew
        with signals.handled():
            pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_another_thread_than_the_main_one_handles_nothing():
    seen = []

    def work():
        with signals.handled():
            seen.append(signal.getsignal(signal.SIGTERM))
        signals.begin()
        seen.append(signal.getsignal(signal.SIGTERM))

    expected = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [expected] * 2


def test_without_a_command_a_held_block_is_no_other(monkeypatch):
    """Ctrl-C in a script or a notebook is its own."""
    with pytest.raises(KeyboardInterrupt) as raised, signals.held() as is_stopping:
        assert not is_stopping()
        signal.raise_signal(signal.SIGINT)
    assert not isinstance(raised.value, Stopped)
    assert signals.stopped_by(raised.value).exit_code == 130
    signals.check()


class Exited(BaseException):
    """Stands for the end of the process."""


def outcome(events, *, monkeypatch):
    """The exit code after these (seconds since the one before, signal) in and out of blocks."""
    now = [0.0]

    def leave(number, line):
        raise Exited(128 + number)

    def take(events):
        for wait, number in events:
            now[0] += wait
            signals._on_signal(number, None)

    monkeypatch.setattr(signals, "_exit", leave)
    monkeypatch.setattr(signals.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(signals, "_STATE", signals._State())
    try:
        with signals.handled(), signals.held():
            take(events)
    except Stopped as stopped:
        return stopped.exit_code
    except Exited as left:
        return left.args[0]
    return 0


def test_any_sequence_of_signals_ends_with_a_code_of_one_of_them(monkeypatch):
    """That of the first, or of the first one that comes later than its repetitions."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        events = [
            (float(rng.choice([0.0, 0.1, 0.4, 0.6, 5.0])), SIGNALS[rng.integers(3)])
            for _ in range(rng.integers(0, 5))
        ]
        since_first = np.cumsum([wait for wait, _ in events][1:])
        late = [n for (_, n), at in zip(events[1:], since_first, strict=True) if at >= signals.SAME]
        decisive = late[:1] or [number for _, number in events[:1]]
        expected = 128 + decisive[0] if decisive else 0
        assert outcome(events, monkeypatch=monkeypatch) == expected, events
