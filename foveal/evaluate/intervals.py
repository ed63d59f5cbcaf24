"""Bootstrap intervals that respect groups: whole patients are drawn, never single images of one.

Images of a patient agree with one another; drawing images would claim more evidence than there is.
"""

from __future__ import annotations

import math

import numpy as np


def draw_counts(groups: int, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """int [R, G]: how often each group stands in each resample (drawn with replacement, G draws)."""
    return generator.multinomial(groups, np.full(groups, 1 / groups), size=resamples)


def percentile_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Low and high percentile of resampled values; nan when more than one in ten has no value."""
    valid = values[~np.isnan(values)]
    if len(valid) < 0.9 * len(values) or not len(valid):
        return math.nan, math.nan
    low, high = np.quantile(valid, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
