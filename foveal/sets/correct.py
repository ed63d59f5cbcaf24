"""correct: give a prepared image another label, as a row of DATA/corrections.csv; the label of the source stays."""

import getpass
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import pandas as pd
import tyro

from foveal.console import say
from foveal.errors import FovealError
from foveal.files import write_text
from foveal.runs import sole_writer
from foveal.sets import corrections
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
        prepared = open_prepared(config.data)
        labels = prepared.records.set_index("id")["label"]
        names = corrections.later_names(corrections.read_changes(config.data), labels.index)
        image = names.get(config.image, config.image)
        if image not in labels.index:
            raise FovealError("corrections.image", f"{config.data} has no image '{image}' in its records.csv")
        file, columns = config.data / corrections.FILE, list(corrections.COLUMNS)
        before = corrections.read_corrections(file) if file.is_file() else pd.DataFrame(columns=columns)
        old = None if pd.isna(labels[image]) else int(labels[image])
        if old is None and image not in {names.get(name, name) for name in before["id"]}:
            fix = "add a first label to the source and prepare again"
            raise FovealError("corrections.unlabelled", f"'{image}' has no label to correct", fix=fix)
        new = corrections.label_of(config.new, prepared.classes)
        then, now = ("no label" if label is None else prepared.classes[label] for label in (old, new))
        if new == old:
            raise FovealError("corrections.unchanged", f"'{image}' has this label already: {now}")
        texts = ["" if label is None else str(label) for label in (old, new)]
        when = datetime.now(UTC).isoformat(timespec="seconds")
        row = (image, *texts, config.who or getpass.getuser(), when, config.why.strip())
        table = pd.concat([before, pd.DataFrame([row], columns=columns)])
        write_text(file, corrections.corrections_text(table))
    say(f"{image}: {then} -> {now}; {len(table)} corrections in {file}")
    return file
