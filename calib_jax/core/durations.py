"""Durations and paces as people read them."""

from __future__ import annotations


def clock_time(seconds: float) -> str:
    """`1:02:03`, hours and more of them, rounded."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def pace(rate: float, unit: str) -> str:
    """`3.4 steps/s` of units a second, or `2.5 s/step` where a unit takes longer than that."""
    if rate < 1:
        return f"{1 / rate:,.3g} s/{unit}"
    return f"{rate:,.0f} {unit}s/s" if rate >= 100 else f"{rate:.3g} {unit}s/s"
