"""Sources held out: keep one camera or clinic out of training and validation, and evaluate the grader on it.

The sources are the sets that a prepared set was joined from, by the names of their folders (`source` in records.csv).
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from foveal.errors import FovealError
from foveal.sets.joined import joined_sources, prefixes
from foveal.sets.options import PrepareConfig
from foveal.sets.prepare import prepare
from foveal.sets.records import PreparedSet, counts_of, open_prepared
from foveal.sets.splits import HELD_OUT


def open_together(paths: Sequence[Path], names: Sequence[str] = ()) -> PreparedSet:
    """Open a set, or the one that several are joined to; FovealError if none of them is the source of `names`."""
    if len(paths) == 1:
        return open_prepared(paths[0])
    refuse_unknown(names, joined_sources(paths, [open_prepared(path) for path in paths]), "these sets")
    return open_prepared(prepare(PrepareConfig(source=tuple(paths), out=paths[0].parent / "+".join(prefixes(paths)))))


def sources_of(prepared: PreparedSet) -> list[str]:
    """The names of the sources, in the order of the records."""
    return list(dict.fromkeys(prepared.records["source"]))


def check_sources(prepared: PreparedSet, names: Sequence[str]) -> None:
    """FovealError unless these sources can be held out: they exist, have labels, and others with labels remain."""
    if len(there := sources_of(prepared)) < 2:
        what = f"{prepared.path} has one source only: {', '.join(there)}"
        raise FovealError("source.single", what, fix="give several prepared sets, or join them with foveal prepare")
    refuse_unknown(names, there, str(prepared.path))
    labelled = list(dict.fromkeys(prepared.part("train", "val", "test")["source"]))
    expected = f"some of the {len(labelled)} sources with labels: {', '.join(labelled) or 'there are none'}"
    if bare := [name for name in names if name not in labelled]:
        raise FovealError("source.no_labels", f"--hold-out {bare[0]}: it has no labels", expected=expected)
    if set(names) >= set(labelled):
        raise FovealError("source.none_left", f"--hold-out {' '.join(names)} leaves no labels", expected=expected)


def refuse_unknown(names: Sequence[str], there: Sequence[str], where: str) -> None:
    """FovealError for the first of `names` that is not one of the sources in `there`."""
    if unknown := [name for name in names if name not in there]:
        raise FovealError("source.unknown", f"--hold-out {unknown[0]}: not in {where}", expected=", ".join(there))


def hold_out(prepared: PreparedSet, names: Sequence[str]) -> tuple[PreparedSet, pd.DataFrame]:
    """(the set without these sources, their labelled records with the split "held-out"); see `check_sources`."""
    check_sources(prepared, names)
    held = prepared.records["source"].isin(names)
    left = prepared.records[~held].reset_index(drop=True)
    card = prepared.card | {"counts": counts_of(left, prepared.classes)}
    known = held & (prepared.records["split"] != "unlabelled")
    return replace(prepared, records=left, card=card), prepared.records[known].assign(split=HELD_OUT)
