"""Record: how good a grader was when it was judged, in the few figures that travel with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FIGURES = ("quadratic_kappa", "referable_auc", "accuracy", "macro_f1", "expected_calibration_error")
POINT = ("sensitivity", "specificity")


def record_of(run: Path) -> list[dict[str, Any]]:
    """[{name, value, low, high, n}] from RUN/metrics.json; empty where the run was not evaluated.

    Sensitivity and specificity are those of the first operating point, whose name follows theirs.
    """
    file = run / "metrics.json"
    if not file.is_file():
        return []
    result = json.loads(file.read_text(encoding="utf-8"))
    found = [(name, result["metrics"][name]) for name in FIGURES if name in result["metrics"]]
    for point in result.get("operating_points", [])[:1]:
        found += [(f"{name} at {point['name']}", point[name]) for name in POINT if name in point]
    keys = ("value", "low", "high", "n")
    return [{"name": name, **{key: entry.get(key) for key in keys}} for name, entry in found]
