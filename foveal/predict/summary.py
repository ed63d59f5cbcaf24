"""Summary: the table that `foveal predict` prints at the end, counted while rows are written."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from foveal.console import say, show_table, warn

SHOWN = 12  # predictions printed; the file holds all


@dataclass(kw_only=True)
class Tally:
    """Counts of rows, and the first few rows."""

    rows: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    flags: Counter[str] = field(default_factory=Counter)
    flagged: int = 0
    first: list[dict[Any, Any]] = field(default_factory=list)
    first_error: str = ""

    def count(self, table: pd.DataFrame) -> None:
        """Count some rows."""
        self.first += table.head(SHOWN - len(self.first)).to_dict("records")
        self.rows += len(table)
        self.answers.update(table["answer"])
        self.flags.update(word for words in table["flags"].str.split() for word in words)
        self.flagged += int((table["flags"] != "").sum())
        bad = table[table["answer"] == "unreadable"]
        if len(bad) and not self.first_error:
            self.first_error = f"{bad['id'].iloc[0]}: {bad['reason'].iloc[0]}"

    def show(self, classes: list[str]) -> None:
        """Print the first rows, and how many are flagged or have no grade."""
        rows = [_shown(row, classes) for row in self.first]
        columns = ["image", "grade", "refer", f"probability of 0 to {len(classes) - 1}"]
        show_table(f"{self.rows} images", columns, rows)
        if self.rows > len(rows):
            say(f"… and {self.rows - len(rows)} more")
        if self.flagged:
            counts = ", ".join(f"{count} {flag}" for flag, count in self.flags.items())
            warn(f"{self.flagged} of {self.rows} pictures have quality flags ({counts}): check them first")
        for answer in ("ungradable", "unreadable"):
            if self.answers[answer]:
                warn(f"{self.answers[answer]} of {self.rows} are {answer} and have no grade: see the column reason")


def _shown(row: dict[Any, Any], classes: list[str]) -> list[str]:
    """The printed cells of a row, whose values may be text."""
    grade = f"{row['grade']} {classes[int(row['grade'])]}" if row["answer"] == "graded" else str(row["answer"])
    refer = {"0": "no", "1": "yes"}.get(str(row["referable"]), "")
    shares = [row[f"p{number}"] for number in range(len(classes))] if row["answer"] != "unreadable" else []
    return [str(row["id"]), grade, refer, "  ".join(f"{float(share):.2f}" for share in shares)]
