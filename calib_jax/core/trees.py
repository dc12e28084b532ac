"""Trees of arrays by path: `encoder/image/block_0/mlp/up/kernel`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import jax

from calib_jax.core.errors import ConfigError, nearest


def path_name(path: jax.tree_util.KeyPath) -> str:
    """The slash-separated name of a leaf, `optimizer state` indices and fields included."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def leaf_names(tree: Any) -> list[str]:
    """The names of all leaves, in tree order."""
    return [path_name(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def regex_mask(tree: Any, patterns: Sequence[str]) -> Any:
    """A tree of bools: True where a pattern matches the whole name or the start of a leaf's name.

    Args:
        tree: Arrays or shapes.
        patterns: Regular expressions, matched from the beginning of the name (`re.match`).

    Raises:
        ConfigError: A pattern is no regular expression, or matches no leaf.
    """
    compiled = [_compile(pattern) for pattern in patterns]
    names = leaf_names(tree)
    for pattern in compiled:
        if not any(pattern.match(name) for name in names):
            raise ConfigError(
                f"trainable: regex {pattern.pattern!r} matches no parameter of the "
                f"{len(names)} (such as {names[0] if names else 'none'!r})."
                f"{nearest(pattern.pattern, names)}"
            )
    return jax.tree_util.tree_map_with_path(
        lambda path, _: any(pattern.match(path_name(path)) for pattern in compiled), tree
    )


def count(tree: Any) -> int:
    """The number of scalars in a tree of arrays or shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def _compile(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"trainable: {pattern!r} is not a regular expression: {error}. Escape it or correct it."
        ) from None
