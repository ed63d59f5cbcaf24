"""How a grader travels: its figures on each source by itself, those of its training and those held out.

Rows of a source that is held out have the split "held-out": they are in no other part, so they are in no figure of all
images, and no threshold is chosen on them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from foveal.errors import FovealError
from foveal.evaluate.columns import measure_subgroup, read_column
from foveal.evaluate.intervals import RESAMPLES, Resampling
from foveal.readout.scales import Scale
from foveal.sets.held_out import refuse_unknown
from foveal.sets.splits import HELD_OUT, group_codes

ALL, OTHERS, MEAN = "all", "all but the tested one", "mean"  # names in compare.csv


def with_source(table: pd.DataFrame, data: Path | None) -> pd.DataFrame:
    """The predictions with the source of each row, if the table or the prepared set `data` has it."""
    known = None if "source" in table or data is None else read_column(data / "records.csv", "source")
    return table if known is None else table.assign(source=table["id"].map(known).fillna(""))


def held_out(table: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """The predictions with the split "held-out" in rows of the sources `names`; FovealError if not all are there."""
    if not names:
        return table
    there = sorted(set(table.get("source", pd.Series(dtype=str))) - {""})
    if not there:
        raise FovealError("source.unnamed", f"--hold-out {names[0]}: no sources are known", fix="--records JOINED_SET")
    refuse_unknown(names, there, "the predictions")
    if len(there) == 1:
        raise FovealError("source.single", f"--hold-out {names[0]}: there is no other source", fix="leave it out")
    return table.assign(split=table["split"].where(~table["source"].isin(names), HELD_OUT))


def by_source(
    everything: pd.DataFrame, table: pd.DataFrame, scale: Scale, resampling: Resampling, seed: int
) -> list[dict[str, Any]]:
    """Figures of each source of `table`, the judged part, and of those held out in `everything`; [] for one source."""
    if "source" not in everything:
        return []
    found = []
    for name in filter(None, dict.fromkeys(table["source"])):
        chosen = (table["source"] == name).to_numpy()
        away = bool((table["split"][chosen] == HELD_OUT).all())
        own = measure_subgroup(table[chosen], scale, resampling.part(chosen))
        found.append({"source": name, "held_out": away, **own})
    abroad = (everything["split"] == HELD_OUT) & everything["label"].notna() & ~everything["id"].isin(table["id"])
    for name, rows in everything[abroad].groupby("source", sort=False):
        own = measure_subgroup(rows, scale, Resampling(group_codes(rows["group"]), RESAMPLES, seed))
        found.append({"source": str(name), "held_out": True, **own})
    return found if len(found) > 1 else []


def all_but(source: str) -> str:
    """What a grader was trained on, as in compare.csv: "all", or "all but malaysia"."""
    return f"{ALL} but {source}" if source else ALL
