"""Formatting of values, intervals, percentages, counts and lists for people.

An entry is a dict from `evaluate.intervals`: {"value", "low", "high", ...}; a missing number is None or nan.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

DASH = "–"
PERCENT = "\N{NO-BREAK SPACE}%"


def known(value: Any) -> bool:
    """Whether the value is a number: neither None nor nan."""
    return value is not None and not math.isnan(value)


def number(value: float | None, digits: int = 2) -> str:
    """`0.84`; a dash if there is no value. What rounds to 0 has no sign."""
    return f"{value:z.{digits}f}".replace("-", "−") if value is not None and known(value) else DASH


def signed(value: float | None, digits: int = 3) -> str:
    """A difference with its sign, `+0.041`; a dash if there is no value."""
    return f"{value:+.{digits}f}".replace("-", "−") if value is not None and known(value) else DASH


def percent(value: float | None, digits: int = 0) -> str:
    """A share: 0.875 is `88 %`; a dash if there is no value."""
    return f"{100 * value:.{digits}f}{PERCENT}" if value is not None and known(value) else DASH


def interval(entry: Mapping[str, Any], digits: int = 2) -> str:
    """`0.79–0.88`, or `−0.02 to 0.05` if an end is negative; a dash if there is no interval."""
    if not known(entry["low"]):
        return DASH
    between = " to " if min(entry["low"], entry["high"]) < 0 else DASH
    return f"{number(entry['low'], digits)}{between}{number(entry['high'], digits)}"


def percent_interval(entry: Mapping[str, Any], digits: int = 0) -> str:
    """`79–88 %`; a dash if there is no interval."""
    return f"{100 * entry['low']:.{digits}f}{DASH}{percent(entry['high'], digits)}" if known(entry["low"]) else DASH


def value_with_interval(entry: Mapping[str, Any], digits: int = 2) -> str:
    """`0.84 (0.79–0.88)`, `0.84 (no interval)`, or a dash if there is no value."""
    return _both(number(entry["value"], digits), interval(entry, digits))


def percent_with_interval(entry: Mapping[str, Any], digits: int = 0) -> str:
    """`84 % (79–88 %)`, `84 % (no interval)`, or a dash if there is no value."""
    return _both(percent(entry["value"], digits), percent_interval(entry, digits))


def difference_with_interval(entry: Mapping[str, Any], digits: int = 3) -> str:
    """`+0.041 (+0.010 to +0.072)`, `+0.041 (no interval)`, or a dash if there is no value."""
    ends = f"{signed(entry['low'], digits)} to {signed(entry['high'], digits)}" if known(entry["low"]) else DASH
    return _both(signed(entry["value"], digits), ends)


def _both(value: str, ends: str) -> str:
    return value if value == DASH else f"{value} ({'no interval' if ends == DASH else ends})"


def counted(count: int, noun: str) -> str:
    """`1 image`, `1,744 images`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def listed(items: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))


def capital(text: str) -> str:
    """The text with a capital letter at its start."""
    return f"{text[:1].upper()}{text[1:]}"
