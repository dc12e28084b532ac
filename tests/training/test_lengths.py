"""The loop and the step stay as short as the design has them."""

import ast
import inspect
import io
import textwrap
import tokenize

import pytest

from calib_jax.training import loop, step

BLANK = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef)


def num_code_lines(source):
    """Lines that are neither blank nor a comment nor of a docstring."""
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in BLANK:
            lines |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines)


def test_lines_are_counted():
    source = '''
    """A docstring.

    Of three lines."""
    # a comment

    text = """two
    lines"""


    def function():
        "Another."
        return (
            text
        )
    '''
    assert num_code_lines(textwrap.dedent(source)) == 6


@pytest.mark.parametrize(("thing", "most"), [(loop, 120), (step.train_step, 40)])
def test_the_design_is_kept(thing, most):
    assert num_code_lines(inspect.getsource(thing)) <= most
