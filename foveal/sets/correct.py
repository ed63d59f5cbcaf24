"""correct: give a prepared image another label, as a row of DATA/corrections.csv that is kept beside the source's."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import tyro

from foveal.console import say
from foveal.files import write_text
from foveal.sets.corrections import COLUMNS, FILE, corrections_text, label_of, read_corrections
from foveal.sets.records import open_prepared


@dataclass(frozen=True, kw_only=True)
class CorrectConfig:
    """Options of `foveal correct`."""

    # Prepared set.
    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    # Id of the image, as in records.csv.
    image: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ID")]
    # The grade that it should have: number or name of the class; none takes its label away.
    new: str
    # The reason, for whoever reads it later.
    why: str
    # Who decides; by default the name of your account.
    who: str = ""

    def __post_init__(self) -> None:
        if not self.why.strip():
            raise ValueError("--why must say why: a correction without a reason convinces nobody")


def correct(config: CorrectConfig) -> Path:
    """Add one correction to DATA/corrections.csv; returns the file."""
    prepared = open_prepared(config.data)
    records = prepared.records.set_index("id")
    if config.image not in records.index:
        raise ValueError(f"{config.data} has no image '{config.image}'; ids are those of records.csv")
    label: Any = records["label"][config.image]
    file = config.data / FILE
    before = read_corrections(file) if file.is_file() else pd.DataFrame(columns=list(COLUMNS))
    taken_away = pd.isna(label) and config.image in set(before["id"])
    if pd.isna(label) and not taken_away:
        raise ValueError(
            f"'{config.image}' has no label to be corrected; a first label belongs into the source's table: add it "
            "there and prepare again"
        )
    new = label_of(config.new, prepared.classes)
    if new == (None if taken_away else label):
        raise ValueError(f"'{config.image}' has this label already: {_name(new, prepared.classes)}")
    row = {
        "id": config.image,
        "old": "" if taken_away else str(label),
        "new": "" if new is None else str(new),
        "why": config.why.strip(),
    }
    row |= {"who": config.who or getpass.getuser(), "when": datetime.now(UTC).isoformat(timespec="seconds")}
    table = pd.concat([before, pd.DataFrame([row])])[list(COLUMNS)]
    write_text(file, corrections_text(table))
    had = None if taken_away else int(row["old"])
    change = f"{_name(had, prepared.classes)} -> {_name(new, prepared.classes)}"
    say(f"{config.image}: {change}; {len(table)} corrections in {file}")
    return file


def _name(label: int | None, classes: list[str]) -> str:
    return "no label" if label is None else classes[label]
