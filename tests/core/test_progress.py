"""Lines off a terminal and bars on one, on a clock that the tests turn."""

import io
import re

import numpy as np
import pytest

from calib_jax.core import progress
from calib_jax.core.progress import INTERVAL, Board, Work


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    """A stream that is one."""

    def isatty(self):
        return True


def lines_of(board):
    return board.stream.getvalue().splitlines()


def trained(board, clock, *, steps, seconds, title="carot, seed 0", initial=0, loss=0.5):
    with board.stage(title, total=steps, unit="step", initial=initial) as stage:
        for step in range(initial + 1, steps + 1):
            clock.now += seconds
            stage.reach(step, loss=loss)


def test_a_long_stage_has_a_line_every_half_minute():
    clock = Clock()
    board = Board(stream=io.StringIO(), clock=clock)
    trained(board, clock, steps=100, seconds=1.0, loss=np.float32(1.25))
    assert lines_of(board) == [
        "carot, seed 0: step 0 of 100, time left unknown yet",
        "carot, seed 0: step 30 of 100, loss=1.25, 1 steps/s, 0:01:10 left",
        "carot, seed 0: step 60 of 100, loss=1.25, 1 steps/s, 0:00:40 left",
        "carot, seed 0: step 90 of 100, loss=1.25, 1 steps/s, 0:00:10 left",
        "carot, seed 0: 100 steps in 0:01:40, loss=1.25",
    ]


def test_a_resumed_stage_says_where_it_is_and_counts_what_it_did():
    clock = Clock()
    board = Board(stream=io.StringIO(), clock=clock)
    trained(board, clock, steps=100, seconds=4.0, initial=90)
    assert lines_of(board) == [
        "carot, seed 0: step 90 of 100, time left unknown yet",
        "carot, seed 0: step 98 of 100, loss=0.5, 4 s/step, 0:00:08 left",
        "carot, seed 0: 10 steps in 0:00:40, loss=0.5",
    ]


def test_what_is_compiled_first_is_no_part_of_the_rate():
    clock = Clock()
    board = Board(stream=io.StringIO(), clock=clock)
    with board.stage("x", total=101, unit="step", compiles=True) as stage:
        clock.now += 300.0
        stage.advance()
        assert board.seconds_left() == (0.0, True)
        for _ in range(100):
            clock.now += 1.0
            stage.advance()
    assert "x: step 31 of 101, 1 steps/s, 0:01:10 left" in lines_of(board)
    assert lines_of(board)[1] == "x: step 1 of 101, time left unknown yet"


def test_short_stages_have_a_closing_line_and_minor_ones_none():
    clock = Clock()
    board = Board(stream=io.StringIO(), clock=clock)
    for title, is_minor in (("first", False), ("text head", True), ("second", False)):
        with board.stage(title, total=3, unit="image", is_minor=is_minor) as stage:
            clock.now += 1.0
            stage.advance(3)
    assert lines_of(board) == [
        "first: image 0 of 3, time left unknown yet",  # somebody waits for a sign of life
        "first: 3 images in 0:00:01",
        "second: 3 images in 0:00:01",
    ]


def test_a_failed_stage_leaves_the_last_word_to_its_error():
    board = Board({"x": Work("step", 9)}, stream=io.StringIO(), clock=Clock())
    with pytest.raises(OSError, match="no room"), board.stage("x", total=9, unit="step") as stage:
        stage.advance()
        raise OSError("no room")
    assert len(lines_of(board)) == 1
    assert board.seconds_left() == (0.0, False)  # it is not waited for


def test_a_stopped_stage_says_how_far_it_came():
    board = Board(stream=io.StringIO(), clock=Clock())
    with board.stage("x", total=9, unit="step") as stage:
        stage.reach(4, loss=2.0)
    assert lines_of(board)[-1] == "x: step 4 of 9 after 0:00:00, loss=2"


def test_a_stage_without_a_total_counts():
    clock = Clock()
    board = Board(stream=io.StringIO(), clock=clock)
    with board.stage("soup", total=None, unit="model") as stage:
        clock.now += 31.0
        stage.advance()
    assert lines_of(board) == [
        "soup: model 0, time left unknown yet",
        "soup: model 1, 31 s/model, time left unknown yet",
        "soup: 1 model in 0:00:31",
    ]


def test_the_whole_run_is_unknown_then_more_than_then_known():
    clock = Clock()
    plan = {
        "pretrain, seed 0": Work("step", 10),
        "carot, seed 0": Work("step", 100),
        "evaluate carot, seed 0": Work("image", 50),
        "kept, seed 0": Work("step", 1000),
    }
    board = Board(plan, stream=io.StringIO(), clock=clock)
    assert board.whole() == "whole run: time left unknown yet"
    trained(board, clock, steps=10, seconds=2.0, title="pretrain, seed 0")
    board.drop("kept, seed 0")
    assert board.whole() == "whole run: more than 0:03:20 left"
    trained(board, clock, steps=100, seconds=2.0)
    assert board.whole() == "whole run: time left unknown yet"
    with board.stage("evaluate carot, seed 0", total=50, unit="image") as stage:
        clock.now += 1.0
        stage.advance(10)
        assert board.whole() == "whole run: 0:00:04 left"
        stage.advance(40)
    assert board.whole() == "whole run: 0:00:00 left"
    assert "; whole run: more than 0:00:20 left" in board.stream.getvalue()


def test_what_is_inside_a_stage_is_counted_once():
    clock = Clock()
    board = Board({"curve": Work("model", 4)}, stream=io.StringIO(), clock=clock)
    with board.stage("curve", total=4, unit="model") as outer:
        clock.now += 10.0
        outer.advance()
        with board.stage("images", total=100, unit="image") as inner:
            clock.now += 1.0
            inner.advance(50)
            assert board.seconds_left() == (33.0, False)


def test_a_label_stands_before_every_line():
    board = Board(stream=io.StringIO(), clock=Clock(), label="colours (2 of 5)")
    with board.stage("x", total=1, unit="step") as stage:
        stage.advance()
    assert [line[:18] for line in lines_of(board)] == ["colours (2 of 5): "] * 2


def test_other_processes_than_the_first_show_nothing():
    for stream in (io.StringIO(), Terminal()):
        board = Board({}, stream=stream, clock=Clock(), is_shown=False)
        trained(board, board.clock, steps=50, seconds=9.0)
        assert stream.getvalue() == ""


def test_a_process_without_standard_error_shows_nothing(monkeypatch):
    monkeypatch.setattr("sys.stderr", None)
    trained(Board({}), Clock(), steps=3, seconds=1.0)


def test_a_terminal_has_a_bar_for_the_stage_and_one_for_the_run():
    clock = Clock()
    plan = {"carot, seed 0": Work("step", 4), "flyp, seed 0": Work("step", 8)}
    board = Board(plan, stream=Terminal(), clock=clock)
    with progress.put_up(board):
        trained(board, clock, steps=4, seconds=3.0)
        with board.stage("text head", total=1, unit="prompt", is_minor=True):
            pass  # no stage of the run
    text = board.stream.getvalue()
    assert "stage 1 of 2, whole run: time left unknown yet" in text
    assert "stage 2 of 2, whole run: 0:00:24 left" in text
    assert "carot, seed 0: 100%" in text and "4/4" in text and "loss=0.5" in text
    assert "carot, seed 0: step" not in text  # no lines


@pytest.mark.parametrize("bars", [None, False])
def test_where_bars_cannot_be_there_are_lines(monkeypatch, bars):
    """A terminal that cannot move its cursor, and processes that share one."""
    if bars is None:
        monkeypatch.setenv("TERM", "dumb")
    board = Board({}, stream=Terminal(), clock=Clock(), bars=bars)
    trained(board, board.clock, steps=2, seconds=1.0)
    assert "\r" not in board.stream.getvalue()
    assert lines_of(board)[-1] == "carot, seed 0: 2 steps in 0:00:02, loss=0.5"


def test_the_board_of_a_run_is_taken_down_after_it():
    first = progress.board()
    with pytest.raises(KeyboardInterrupt), progress.put_up(Board({})) as new:
        assert progress.board() is new
        raise KeyboardInterrupt
    assert progress.board() is first


def num_lines(board):
    return board.stream.getvalue().count("\n")


def drawn_run(seed):
    """(plan, seconds a unit): stages in order with sizes, each unit taking as long everywhere."""
    rng = np.random.default_rng(seed)
    units = {"step": float(rng.uniform(0.1, 50)), "image": float(rng.uniform(0.001, 1))}
    plan = {}
    for number in range(rng.integers(1, 6)):
        unit = str(rng.choice(list(units)))
        plan[f"stage {number}"] = Work(unit, int(rng.integers(1, 20)))
    return plan, units


def check_drawn_run(seed):
    """Lines are as far apart as they should be, and every estimate is the truth or unknown."""
    plan, units = drawn_run(seed)
    clock = Clock()
    board = Board(plan, stream=io.StringIO(), clock=clock)
    said = []
    left = sum(work.amount * units[work.unit] for work in plan.values())
    measured = set()
    for title, work in plan.items():
        with board.stage(title, total=work.amount, unit=work.unit) as stage:
            for _ in range(work.amount):
                clock.now += units[work.unit]
                left -= units[work.unit]
                stage.advance()
                measured.add(work.unit)
                said += [clock.now] * (num_lines(board) - len(said))
                found, has_unknown = board.seconds_left()
                later = list(plan)[list(plan).index(title) + 1 :]
                is_known = {plan[name].unit for name in later} <= measured
                assert has_unknown is not is_known
                assert found == pytest.approx(left, abs=1e-6) if is_known else found <= left + 1e-6
        said += [clock.now] * (num_lines(board) - len(said))
    closing = [line for line in lines_of(board) if re.search(r": [\d,]+ \w+ in ", line)]
    assert len(closing) == len(plan)
    assert board.seconds_left() == (0.0, False)
    slowest = max(units.values())
    assert max(np.diff(said), default=0) <= INTERVAL + slowest
    assert len(said) <= 1 + len(plan) + (clock.now - 1000.0) / INTERVAL
    assert max(map(len, lines_of(board))) < 120


def test_any_run_is_told_in_time_and_truly():
    for seed in range(100):
        check_drawn_run(seed)


@pytest.mark.many
def test_many_runs_are_told_in_time_and_truly():
    for seed in range(1000):
        check_drawn_run(seed)
