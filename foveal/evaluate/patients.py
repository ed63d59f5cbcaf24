"""Results per patient: the worse eye decides, and patients without a gradable photograph count as insufficient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from foveal.evaluate.intervals import Resampling
from foveal.evaluate.operating import calls_of, judge, severity
from foveal.fundus.quality import UNGRADABLE
from foveal.readout.oedema import labelled_oedema
from foveal.readout.scales import Scale
from foveal.sets.splits import group_codes
from foveal.sources.messidor import is_coarse

COPIES = r"(?:^|/)copies-"  # groups of copies of one photograph, whose patient is unknown


def measure_patients(
    table: pd.DataFrame, ungraded: pd.DataFrame, scale: Scale, prevalence: float | None, each: str = "patient"
) -> dict[str, Any]:
    """Sensitivity, specificity, PPV and NPV of referral per patient; {} without real patients or a referral cutoff.

    each: "eye" counts eyes of known side instead; {} without a column `eye`. table: labelled rows with a grade.
    ungraded: those without, of which the splits in `table` count. A graded photograph with a flag of `UNGRADABLE`
    counts as ungraded, as in `predict`. Groups of several patients are left out. A patient has the disease if any
    photograph is labelled with it, and is referred if any gradable photograph is.
    """
    cut = scale.cuts.get("referable")
    if cut is None or (each == "eye" and "eye" not in table):
        return {}
    flags = table["flags"].fillna("") if "flags" in table else pd.Series("", index=table.index)
    gradable = ~flags.str.split().map(lambda words: bool(UNGRADABLE & set(words))).to_numpy(bool)
    columns = ["id", "group", *(["eye"] if each == "eye" else [])]
    unseen = ungraded[ungraded["split"].isin(table["split"])]
    unseen = unseen if each in ("patient", *unseen) else unseen.assign(eye="")  # --by eye joined it to graded ones only
    rows = pd.concat([
        table[columns].assign(
            gradable=gradable, called=gradable & calls_of(table, cut), ill=severity(table, cut)[1]
        ),
        unseen[columns].assign(
            gradable=False, called=False, ill=unseen["label"].astype(int).ge(cut) | labelled_oedema(unseen)
        ),
    ])  # fmt: skip
    names = rows["group"].fillna("").astype(str)
    coarse = [is_coarse(str(name), group) for name, group in zip(rows["id"], names, strict=True)]
    known = rows[(names != "") & ~names.str.contains(COPIES) & ~np.array(coarse, bool)]
    if not known["group"].duplicated().any():  # each photograph is its own group
        return {}
    unit = columns[1:]
    known = known[(known[unit].fillna("") != "").all(axis=1)]
    units = known.groupby(unit)[["gradable", "called", "ill"]].any()
    judged = units[units["gradable"]]
    if not len(judged):
        return {}
    resampling = Resampling(group_codes(judged.index.get_level_values("group").to_numpy().astype(str)))
    called, ill = (judged[name].to_numpy(bool) for name in ("called", "ill"))
    lost = units[~units["gradable"]]
    return {
        f"{each}s": len(units), "photographs": len(known), "ungradable": int((~known["gradable"]).sum()),
        "insufficient": len(lost), "insufficient_positive": int(lost["ill"].sum()),
        "unknown_patient": len(rows) - len(known), **judge(called, ill, resampling, prevalence),
    }  # fmt: skip
