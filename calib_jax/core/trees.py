"""Trees of arrays by path: `encoder/image/block_0/mlp/up/kernel`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from calib_jax.core.errors import ConfigError, nearest

_STATISTIC = re.compile(r"norm(_\d+)?/(mean|var)$")


def path_name(path: tuple[Any, ...]) -> str:
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


def interpolate(first: Any, second: Any, share: float) -> Any:
    """`(1 - share) first + share second`, leaf by leaf as `combine`, exact at 0 and 1."""
    return combine(lambda a, b: (1 - share) * a + share * b, first, second)


def combine(function: Callable[..., Any], first: Any, *others: Any) -> Any:
    """`function(*leaves)`, leaf by leaf, as `first` is built and typed.

    Computed in float32 at least; integers are rounded. NumPy leaves stay NumPy's.
    """

    def of_leaves(*leaves: Any) -> Any:
        dtype = leaves[0].dtype
        at_least = jnp.promote_types(dtype, jnp.float32)
        value = function(*(leaf.astype(at_least, copy=False) for leaf in leaves))
        exact = value if jnp.issubdtype(dtype, jnp.floating) else value.round()
        return exact.astype(dtype, copy=False)

    return jax.tree.map(of_leaves, first, *others)


def check_same_shapes(expected: Any, given: Any, *, what: str, like: str) -> None:
    """Raises a ConfigError that names the first leaf in which two models differ.

    Args:
        expected: Arrays or shapes.
        given: Arrays or shapes.
        what: What the message calls `given`.
        like: What it calls `expected`.
    """
    wanted = dict(zip(leaf_names(expected), jax.tree.leaves(expected), strict=True))
    found = dict(zip(leaf_names(given), jax.tree.leaves(given), strict=True))
    for name in dict.fromkeys((*wanted, *found)):
        shapes = [
            f"shape {tree[name].shape}" if name in tree else "none" for tree in (found, wanted)
        ]
        if shapes[0] != shapes[1]:
            raise ConfigError(
                f"{what}, parameter {name!r}: got {shapes[0]}, expected {shapes[1]} as in {like}. "
                "Combine models of one architecture."
            )


def trainable_mask(tree: Any, patterns: Sequence[str]) -> Any:
    """A tree of bools: `regex_mask`, but False for the statistics of batch norms.

    They are parameters by name alone (`norm_1/mean`, `shortcut_norm/var`): neither gradients nor
    weight decay may move them.

    Args:
        tree: Arrays or shapes.
        patterns: Regular expressions, as `regex_mask` takes them.

    Raises:
        ConfigError: As `regex_mask`, or a pattern matches statistics alone.
    """
    mask = regex_mask(tree, patterns)
    names = leaf_names(tree)
    for pattern in patterns:
        matched = [name for name in names if re.match(pattern, name)]
        if all(map(is_statistic, matched)):
            raise ConfigError(
                f"trainable: regex {pattern!r} matches only statistics of batch norms (such as "
                f"{matched[0]!r}), expected parameters. They are never trained: remove it."
            )
    return jax.tree_util.tree_map_with_path(
        lambda path, matches: matches and not is_statistic(path_name(path)), mask
    )


def is_statistic(name: str) -> bool:
    """Whether a leaf of this name is the mean or the variance of a batch norm."""
    return _STATISTIC.search(name) is not None


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
