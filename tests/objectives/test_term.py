import pytest

from calib_jax.objectives.term import Term


def test_a_term_without_a_value_says_so(views_of):
    class Unfinished(Term):
        pass

    with pytest.raises(NotImplementedError, match="Unfinished must define __call__"):
        Unfinished()(views_of(1))
