"""Numbers and lists as people read them: one way to write a value, an interval, a share, a count."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def number(value: float | None, digits: int = 2) -> str:
    """A figure for people; a dash where there is no value."""
    return "–" if value is None else f"{value:.{digits}f}".replace("-", "−")


def interval(entry: dict[str, Any], digits: int = 2) -> str:
    """`low to high`; a dash where the resamples gave none."""
    if entry["low"] is None or math.isnan(entry["low"]):
        return "–"
    return f"{number(entry['low'], digits)} to {number(entry['high'], digits)}"


def percent(value: float | None, digits: int = 0) -> str:
    """A share for people: 0.875 is `88 %`; a dash where there is no value."""
    return "–" if value is None or math.isnan(value) else f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%"


def percent_interval(entry: dict[str, Any]) -> str:
    """`95 % interval 80 to 92 %`; `no interval` where the resamples gave none."""
    if entry.get("low") is None or math.isnan(entry["low"]):
        return "no interval"
    return f"95\N{NO-BREAK SPACE}% interval {100 * entry['low']:.0f} to {percent(entry['high'])}"


def signed(value: float) -> str:
    """A difference with its sign; a dash where it has no value."""
    return "–" if math.isnan(value) else f"{value:+.3f}".replace("-", "−")


def counted(count: int, noun: str) -> str:
    """`1 image`, `1,744 images`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(items: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))
