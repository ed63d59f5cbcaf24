"""Record: the main metrics of a grader from its evaluation, to be exported together with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foveal.evaluate.operating import BY_GRADE
from foveal.files import read_json

FIGURES = ("quadratic_kappa", "referable_auc", "accuracy", "macro_f1", "expected_calibration_error")
SHARES = ("sensitivity", "specificity")


def record_of(run: Path) -> list[dict[str, Any]]:
    """[{name, value, low, high, n}] from RUN/metrics.json; empty if the run was not evaluated.

    Sensitivity and specificity for referable disease are those of the grades, which decide about referral.
    """
    file = run / "metrics.json"
    if not file.is_file():
        return []
    result = read_json(file)
    found = [(name, result["metrics"][name]) for name in FIGURES if name in result["metrics"]]
    for point in result.get("operating_points", []):
        if (point["target"], point["name"]) == ("referable", BY_GRADE):
            found += [(f"referable_{name}", point[name]) for name in SHARES]
    keys = ("value", "low", "high", "n")
    return [{"name": name, **{key: entry.get(key) for key in keys}} for name, entry in found]
