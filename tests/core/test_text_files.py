"""JSON and lines of files that anything may have written."""

import hypothesis
import hypothesis.strategies as st
import pytest

from calib_jax.core import text_files


@pytest.mark.parametrize("text", ["[" * 5000 + "]" * 5000, '{"a":' * 5000 + "1" + "}" * 5000])
def test_json_that_is_nested_too_deeply_is_a_value_error(text):
    with pytest.raises(ValueError, match="^it is nested too deeply$"):
        text_files.parse_json(text)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"nul", b"{'a': 1}"])
def test_what_is_no_json_is_a_value_error(content):
    with pytest.raises(ValueError):
        text_files.parse_json(content)


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(st.binary(max_size=60))
def test_any_bytes_are_json_or_a_value_error(content):
    try:
        text_files.parse_json(content)
    except ValueError as error:
        assert "\n" not in str(error).split(":")[0]


NAMES = st.text(
    st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), min_size=1, max_size=8
)


@hypothesis.settings(max_examples=100, deadline=None)
@hypothesis.given(
    st.lists(NAMES, max_size=5),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.booleans(),
)
@hypothesis.example(["a\u2028b", "c\x85d", "e\x0bf\x0cg"], "\n", True, True)
def test_lines_end_as_those_of_editors_do(names, end, has_mark, has_last_end):
    hypothesis.assume(not (names and names[0].startswith("\ufeff")))
    text = end.join(names) + end * (has_last_end and bool(names))
    content = b"\xef\xbb\xbf" * has_mark + text.encode("utf-8")
    assert text_files.lines(content) == names
