"""Stress: do the grades of the same photographs change when the photographs get worse? `foveal evaluate RUN --stress`

    RUN/stress.csv    change, level, id, p0 … pK, grade, …: a row per photograph and level; the first are unaltered

predict/stress.py writes that table. Here every level is compared, paired, with the unaltered photographs. It holds if
quadratic kappa (accuracy where classes have no order) drops by at most `MARGIN`, or by more but not significantly (the
interval includes 0), at most `MOST_CHANGED` of the grades change, and all milder levels hold.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from foveal import metrics
from foveal.console import warn
from foveal.evaluate.curves import roc_area
from foveal.evaluate.difference import difference
from foveal.evaluate.intervals import RESAMPLES, Figure, Resampling
from foveal.evaluate.operating import severity
from foveal.files import json_ready
from foveal.readout.predictions import probability_columns
from foveal.readout.scales import Scale
from foveal.sets.splits import group_codes

FILE = "stress.csv"
MARGIN = 0.05  # of kappa or accuracy
MOST_CHANGED = 0.2  # of the grades
SAME = 0.8  # share of untouched photographs with the grade of predictions.csv; a fold's calibration may differ


class Change(NamedTuple):
    """One way in which photographs get worse. levels: from mild to harsh. words: of one level, {} is its number."""

    title: str
    words: str
    levels: tuple[float, ...]
    coloured: bool = False  # needs colours


# Levels of resolution and blur are shares of the side of the prepared image, so that they suit images of every size.
CHANGES = {
    "resolution": Change(title="resolution", words="{:.0f} px across", levels=(0.75, 0.5, 0.375, 0.25, 0.15)),
    "blur": Change(title="blur", words="sigma {:.2g} px", levels=(0.0025, 0.005, 0.01, 0.02)),
    "jpeg": Change(title="JPEG quality", words="quality {:.0f}", levels=(95, 80, 50, 30, 10)),
    "darker": Change(title="darker", words="{:g} times the light", levels=(0.7, 0.5, 0.25, 0.1)),
    "brighter": Change(title="brighter", words="{:g} times the light", levels=(1.4, 2, 3, 4)),
    "warmer": Change(title="warmer colours", words="{:,.0f} K", levels=(5500, 5000, 4500, 4000), coloured=True),
    "cooler": Change(title="cooler colours", words="{:,.0f} K", levels=(7500, 9000, 12000), coloured=True),
}


def levels_of(size: int, channels: int) -> Iterator[tuple[str, float]]:
    """(change, level) from mild to harsh: resolution and blur in pixels of images of side `size`."""
    for name, change in CHANGES.items():
        for level in change.levels if channels == 3 or not change.coloured else ():
            yield name, {"resolution": round(level * size), "blur": round(level * size, 2)}.get(name, level)


def measure_stress(file: Path, table: pd.DataFrame, scale: Scale, about: Mapping[str, Any]) -> dict[str, Any]:
    """about, untouched and levels, from stress.csv and the evaluated rows `table`; {} without the file.

    A level has change, level, words, holds, the entries of its figures, and the paired `differences` from untouched.
    about: added to that of the result. Warns and returns {} if the file is of another grader.
    """
    if not file.is_file():
        return {}
    altered = pd.read_csv(file, dtype={"id": str, "change": str}, keep_default_na=False, na_values={"level": [""]})
    tasks = {name.partition("=")[0] for name in map(str, altered) if "=" in name}
    altered = altered.merge(table[["id", "label", "group", *(name for name in tasks if name in table)]], on="id")
    first = altered[altered["change"] == ""].reset_index(drop=True)
    known = table.set_index("id")["grade"].reindex(first["id"]).to_numpy()
    if not len(first) or first["label"].nunique() < 2:
        return {}
    if (known == first["grade"].to_numpy()).mean() < SAME:
        warn(f"{file} has other grades than the predictions, so it is ignored: run foveal evaluate --stress again")
        return {}
    resampling = Resampling(group_codes(first["group"]), RESAMPLES, about["seed"])
    untouched, found = _figures(first, scale, resampling), list[dict[str, Any]]()
    for _, rows in altered[altered["change"] != ""].groupby(["change", "level"], sort=False):
        same = rows.set_index("id").loc[first["id"]].reset_index()  # in the order of `first`
        change, level = same["change"][0], float(same["level"][0])
        changed = resampling.mean((same["grade"] != first["grade"]).to_numpy(), is_share=True)
        after = _figures(same, scale, resampling)
        apart = {name: difference(untouched[name], after[name], resampling) for name in after}
        main = next(iter(apart.values()))
        holds = (main["answer"] != "worse" or main["value"] >= -MARGIN) and changed["value"] <= MOST_CHANGED
        found.append({
            "change": change, "level": level, "words": CHANGES[change].words.format(level), "changed": changed,
            **{name: resampling.entry(*figure, len(first)) for name, figure in after.items()}, "differences": apart,
            "holds": holds and all(milder["holds"] for milder in found if milder["change"] == change),
        })  # fmt: skip
    about = {**about, "photographs": len(first), "groups": resampling.groups, "margin": MARGIN,
             "most_changed": MOST_CHANGED}  # fmt: skip
    entries = {name: resampling.entry(*figure, len(first)) for name, figure in untouched.items()}
    return json_ready({"about": about, "untouched": entries, "levels": found})


def limits(found: Mapping[str, Any]) -> Iterator[tuple[str, str | None, dict[str, Any] | None]]:
    """For each change its title, the harshest level that holds, in words, and the first level that does not."""
    for name in dict.fromkeys(one["change"] for one in found["levels"]):
        own = [one for one in found["levels"] if one["change"] == name]
        held, broken = [one["words"] for one in own if one["holds"]], [one for one in own if not one["holds"]]
        yield CHANGES[name].title, held[-1] if held else None, broken[0] if broken else None


def _figures(rows: pd.DataFrame, scale: Scale, resampling: Resampling) -> dict[str, Figure]:
    """name -> value and resamples; the first decides whether grades hold."""
    labels, grades, size = rows["label"].to_numpy(np.int64), rows["grade"].to_numpy(np.int64), len(scale.names)
    metric = metrics.quadratic_kappa if scale.ordered else metrics.accuracy
    found = {metric.__name__: resampling.graded(metric, labels, grades, size)}
    if "referable" in scale.cuts:
        found["referable_auc"] = roc_area(*severity(rows, scale.cuts["referable"]), resampling)
    elif size == 2:
        found["auc"] = roc_area(rows[probability_columns(rows)[1]].to_numpy(float), labels == 1, resampling)
    return found
