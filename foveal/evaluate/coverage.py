"""Coverage of prediction sets: how often they contain the true grade. The target coverage is in readout.json."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from foveal.evaluate.intervals import Resampling
from foveal.readout.readout import from_words


def measure_sets(table: pd.DataFrame, names: Sequence[str], resampling: Resampling) -> dict[str, Any]:
    """Coverage overall and per class, mean size, and share of sets with one grade, for labelled rows with a set.

    Empty if no row has a set. Each figure has value, low, high, n and noise.
    """
    if "set" not in table:
        return {}
    members, labels = from_words(table["set"], len(names)), table["label"].to_numpy(np.int64)
    having = np.any(members, axis=1)
    if not having.any():
        return {}
    members, labels, resampling = members[having], labels[having], resampling.part(having)
    inside, size = members[np.arange(len(labels)), labels], members.sum(1)
    found = {
        "coverage": resampling.mean(inside, is_share=True),
        "size": resampling.mean(size),
        "single": resampling.mean(size == 1, is_share=True),
    }
    for k, name in enumerate(names):
        if (labels == k).any():
            found[f"coverage of {name}"] = resampling.mean(inside, labels == k, is_share=True)
    return found
