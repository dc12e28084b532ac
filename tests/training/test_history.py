"""Rows survive a crash and a rewind."""

import pytest

from calib_jax.core.errors import DataError
from calib_jax.training.history import History


def row(step, phase="carot", seed=0):
    return {"phase": phase, "seed": seed, "step": step, "loss": step / 7}


@pytest.fixture
def history(tmp_path):
    return History(tmp_path / "metrics.jsonl")


def test_rows_come_back_in_order(history):
    assert history.rows() == []
    rows = [row(1), row(2), row(1, phase="flyp")]
    for each in rows:
        history.append(each)
    assert history.rows() == rows
    assert History(history.path).rows() == rows


@pytest.mark.parametrize("length", [1, 10, -2])
def test_a_last_line_cut_short_is_left_out_and_gone_after_a_rewind(history, length):
    history.append(row(1))
    history.append(row(2))
    first, second = history.path.read_text().splitlines(keepends=True)
    history.path.write_text(first + second[:length])
    assert history.rows() == [row(1)]
    history.rewind("carot", 0, 1)
    history.append(row(2))
    assert history.rows() == [row(1), row(2)]


def test_a_damaged_line_in_the_middle_is_named(history):
    history.append(row(1))
    history.path.write_text('{"step": 1\n' + history.path.read_text())
    with pytest.raises(DataError, match=r"metrics\.jsonl: line 1 is damaged \(.*Remove the line"):
        history.rows()


def test_rewind_drops_the_later_rows_of_one_phase_and_seed(history):
    for phase in ("carot", "flyp"):
        for seed in (0, 1):
            for step in (10, 20, 30):
                history.append(row(step, phase, seed))
    before = history.rows()
    history.rewind("carot", 1, 20)
    assert history.rows() == [each for each in before if each != row(30, "carot", 1)]
    history.rewind("carot", 1, 0)
    assert len(history.rows()) == 9


def test_rewind_of_nothing_leaves_an_empty_file(history):
    history.rewind("carot", 0, 0)
    assert history.rows() == []
    assert [path.name for path in history.path.parent.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize(
    "line",
    [b"[1]", b"3", b"null", b"{}", b'{"phase": 3, "seed": 0, "step": 1}', b"\xff", b"[" * 5000],
    ids=["list", "number", "null", "empty", "phase", "bytes", "deep"],
)
def test_a_line_that_is_no_row_is_named(history, line):
    """Wherever it stands: a last line that ends as a whole one was not cut short."""
    history.append(row(1))
    whole = history.path.read_bytes()
    for content, number in ((line + b"\n" + whole, 1), (whole + line + b"\n", 2)):
        history.path.write_bytes(content)
        with pytest.raises(
            DataError, match=rf"metrics\.jsonl: line {number} is damaged \("
        ) as caught:
            history.rows()
        assert "\n" not in str(caught.value)


def test_a_history_that_is_a_folder_is_named(history):
    history.path.mkdir()
    with pytest.raises(DataError, match=r"metrics\.jsonl: cannot be read \(Is a directory\)"):
        history.rows()
