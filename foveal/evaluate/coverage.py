"""How often sets of grades hold the true one, with intervals; what was promised stands in readout.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from foveal.evaluate.intervals import Resampling
from foveal.readout.prediction_sets import from_words


def measure_sets(table: pd.DataFrame, names: Sequence[str], resampling: Resampling) -> dict[str, Any]:
    """Coverage in all and per class, mean size and share of single grades, of labelled rows that have a set.

    Empty where no row has one. Each figure has value, low, high and n.
    """
    if "set" not in table:
        return {}
    members, labels = from_words(table["set"], len(names)), table["label"].to_numpy(np.int64)
    having = np.any(members, axis=1)
    if not having.any():
        return {}
    members, labels, resampling = members[having], labels[having], resampling.part(having)
    inside = members[np.arange(len(labels)), labels].astype(float)
    size = members.sum(1).astype(float)
    found = {
        "coverage": _mean(inside, np.ones(len(labels), bool), resampling, is_share=True),
        "size": _mean(size, np.ones(len(labels), bool), resampling, is_share=False),
        "single": _mean((size == 1).astype(float), np.ones(len(labels), bool), resampling, is_share=True),
    }
    for k, name in enumerate(names):
        if (labels == k).any():
            found[f"coverage of {name}"] = _mean(inside, labels == k, resampling, is_share=True)
    return found


def _mean(values: np.ndarray, chosen: np.ndarray, resampling: Resampling, *, is_share: bool) -> dict[str, Any]:
    sums = resampling.sums(np.stack([values * chosen, chosen.astype(float)], axis=1))
    drawn = sums[:, 0] / np.where(sums[:, 1] > 0, sums[:, 1], np.nan)
    return resampling.entry(
        float(values[chosen].mean()), drawn, int(chosen.sum()), share_of=chosen if is_share else None
    )
