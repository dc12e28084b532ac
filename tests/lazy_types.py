"""Beartype for the import hook, which decorates a function when it is first called."""

import functools

from beartype import beartype


def lazily(function):
    """The function with its arguments checked; the checks are written at the first call."""
    checked = []

    @functools.wraps(function)
    def check(*args, **kwargs):
        if not checked:
            checked.append(beartype(function))
        return checked[0](*args, **kwargs)

    return check
