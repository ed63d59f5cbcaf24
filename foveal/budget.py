"""--budget: how many epochs fit into a time, from real steps that `pretrain` and `train` measure."""

import re
from collections.abc import Callable

from foveal.console import duration
from foveal.errors import FovealError

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
MOST_MEASURED, SHARE_MEASURED = 12.0, 0.02  # seconds of measuring steps, at most this share of the budget


def seconds_of(budget: str) -> float:
    """Seconds of a time such as 45s, 90m, 2h, 1.5d."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", budget.strip())
    if match is None or not float(match[1]) > 0:
        raise FovealError("option.value", f"--budget is {budget}", expected="a time such as 90m, 2h or 1.5d")
    return float(match[1]) * SECONDS[match[2]]


def most_epochs(seconds: float, seconds_of_run: Callable[[int], float], shortest: float, one: str) -> int:
    """The most epochs whose run takes no longer than `seconds`; FovealError if a single one takes longer.

    shortest: seconds of an epoch, at least. one: a single epoch in words.
    """
    epochs = max(1, int(seconds / shortest))
    while epochs > 1 and seconds_of_run(epochs) > seconds:
        epochs -= 1
    if (needed := seconds_of_run(epochs)) > seconds:
        what = f"--budget is too short: after measuring, {duration(max(0.0, seconds))} are left"
        raise FovealError("option.value", what, expected=f"{duration(needed)} for {one}")
    return epochs
