"""Leaks: images that a network has learned from must not be the ones that it is judged on.

Every run lists what shaped its weights in RUN/seen.csv (sha256 of the prepared pixels), its starting run's included.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from foveal.console import say, warn
from foveal.data.records import PreparedSet


def pool_of(prepared: PreparedSet) -> pd.DataFrame:
    """What may be pre-trained on: training and unlabelled images, but no unlabelled one of a patient who is judged."""
    pool, judged = prepared.part("train", "unlabelled"), set(prepared.part("val", "test")["group"]) - {""}
    shared = pool["group"].isin(judged)
    if shared.any():
        say(f"{int(shared.sum())} unlabelled images of {prepared.path} belong to groups that are judged: left out")
    return pool[~shared]


def check_overlap(sets: Sequence[PreparedSet], pool: Sequence[tuple[PreparedSet, pd.DataFrame]], allow: bool) -> None:
    """Raise ValueError when an image of the pool stands in the validation or test part of one of the sets."""
    learned = pd.concat([records for _, records in pool])
    for prepared in sets:
        refuse_seen(prepared, set(learned["sha256"]), "the pool", allow)


def refuse_seen(prepared: PreparedSet, seen: set[str], where: str, allow: bool) -> None:
    """Raise ValueError (or only warn, when `allow`) if val or test images of `prepared` are among `seen` hashes."""
    judged = prepared.part("val", "test")
    leaked = judged[judged["sha256"].isin(seen)]
    if not len(leaked):
        return
    listed = ", ".join(f"{row.id} ({row.split})" for row in leaked.head(8).itertuples())
    more = f" and {len(leaked) - 8} more" if len(leaked) > 8 else ""
    message = f"{len(leaked)} validation or test images of {prepared.path} stand in {where} too: {listed}{more}"
    if not allow:
        raise ValueError(f"{message}. Results on them would be too good; leave them out, or say --allow-leaks")
    warn(message)


def write_seen(run: Path, pool: Sequence[tuple[PreparedSet, pd.DataFrame]], init: str) -> None:
    """Write RUN/seen.csv: sha256, id and set of every image of the pool, and all that `init` had seen."""
    parts = [records[["sha256", "id"]].assign(set=str(prepared.path)) for prepared, records in pool]
    before = Path(init) / "seen.csv"
    if before.is_file():
        parts.append(pd.read_csv(before, dtype=str, keep_default_na=False))
    pd.concat(parts).drop_duplicates(["sha256", "id"]).to_csv(run / "seen.csv", index=False, lineterminator="\n")


def read_seen(init: str) -> set[str]:
    """Hashes of what shaped the weights of a run folder; empty for other starting weights."""
    file = Path(init) / "seen.csv"
    return set(pd.read_csv(file, dtype=str, keep_default_na=False)["sha256"]) if file.is_file() else set()
