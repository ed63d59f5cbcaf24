"""correct: give a prepared image another label, as a row of DATA/corrections.csv; the label of the source stays."""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import tyro

from foveal.console import say
from foveal.errors import FovealError
from foveal.files import write_text
from foveal.runs import sole_writer
from foveal.sets.corrections import (
    COLUMNS,
    FILE,
    corrections_text,
    label_of,
    later_names,
    read_changes,
    read_corrections,
)
from foveal.sets.records import open_prepared


@dataclass(frozen=True, kw_only=True)
class CorrectConfig:
    """Options of `foveal correct`."""

    # Prepared set.
    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    # Id of the image, as in records.csv.
    image: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ID")]
    # The correct grade: number or name of the class; none removes the label.
    new: str
    # The reason, for later readers.
    why: str
    # Who made the decision; by default the name of your account.
    who: str = ""

    def __post_init__(self) -> None:
        if not self.why.strip():
            raise FovealError("option.value", "--why is empty", expected="the reason for the correction")


def correct(config: CorrectConfig) -> Path:
    """Add one correction to DATA/corrections.csv; returns the file."""
    with sole_writer(config.data, "correct"):  # two corrections at once would lose one of them
        return _correct(config)


def _correct(config: CorrectConfig) -> Path:
    prepared = open_prepared(config.data)
    records = prepared.records.set_index("id")
    names = later_names(read_changes(config.data), records.index)
    image = names.get(config.image, config.image)
    if image not in records.index:
        raise FovealError("corrections.image", f"{config.data} has no image '{image}' in its records.csv")
    label: Any = records["label"][image]
    file = config.data / FILE
    before = read_corrections(file) if file.is_file() else pd.DataFrame(columns=list(COLUMNS))
    old = None if pd.isna(label) else int(label)
    if old is None and image not in {names.get(name, name) for name in before["id"]}:
        fix = "add a first label to the table of the source and prepare again"
        raise FovealError("corrections.unlabelled", f"'{image}' has no label to correct", fix=fix)
    new = label_of(config.new, prepared.classes)
    if new == old:
        name = _name(new, prepared.classes)
        raise FovealError("corrections.unchanged", f"'{image}' has this label already: {name}")
    old_text, new_text = ("" if label is None else str(label) for label in (old, new))
    now = datetime.now(UTC).isoformat(timespec="seconds")
    row = (image, old_text, new_text, config.who or getpass.getuser(), now, config.why.strip())
    table = pd.concat([before, pd.DataFrame([row], columns=list(COLUMNS))])
    write_text(file, corrections_text(table))
    change = f"{_name(old, prepared.classes)} -> {_name(new, prepared.classes)}"
    say(f"{image}: {change}; {len(table)} corrections in {file}")
    return file


def _name(label: int | None, classes: list[str]) -> str:
    return "no label" if label is None else classes[label]
