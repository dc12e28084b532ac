"""TFDS's notation of slices: which of them share examples."""

from __future__ import annotations

import re

from calib_jax.data.datasets.records import Split


def may_overlap(first: Split, second: Split) -> bool:
    """Whether two splits share examples, or may: TFDS alone knows where 90% is among numbers.

    Of data sets with hundreds of examples: of few, TFDS rounds 1 % to none, and -1% to all.
    """
    low, high = max(first.share[0], second.share[0]), min(first.share[1], second.share[1])
    return (
        first.name == second.name
        and low < high
        and any(
            _slices_meet(one.strip(), other.strip())
            for one in first.split.split("+")
            for other in second.split.split("+")
        )
    )


def _slices_meet(first: str, second: str) -> bool:
    parts = [re.fullmatch(r"(.+?)(?:\[(.*):(.*)\])?", text) for text in (first, second)]
    (base, start, stop), (other, other_start, other_stop) = (
        _in_one_unit(*part.groups(default="")) if part else ("", "", "") for part in parts
    )
    return base == other and not _before(stop, other_start) and not _before(other_stop, start)


def _in_one_unit(base: str, start: str, stop: str) -> tuple[str, str, str]:
    """The parts of a slice; TFDS takes both bounds for percentages where one of them is."""
    if "%" in start + stop:
        start, stop = (bound and f"{bound.removesuffix('%')}%" for bound in (start, stop))
    return base, start, stop


def _before(stop: str, start: str) -> bool:
    """Whether a slice with this end surely ends where one with that start begins."""
    bounds = [re.fullmatch(r"(-?\d+)(%?)", text) for text in (stop, start)]
    if bounds[0] is None or bounds[1] is None or bounds[0][2] != bounds[1][2]:
        return False
    end, begin = (int(bound[1]) for bound in (bounds[0], bounds[1]))
    if bounds[0][2]:  # -10% is 90%
        end, begin = (bound + 100 * (bound < 0) for bound in (end, begin))
    return end <= begin and (end < 0) == (begin < 0)
