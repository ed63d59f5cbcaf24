"""Output: writes predictions while images are graded, so that an interrupted command can resume, and prints a summary.

    OUT.partial        the rows so far, as they will appear in OUT
    OUT.partial.json   what they were made with; the same command resumes, a different one is refused

OUT is created when all images have been graded, so it is always complete.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from os.path import samestat
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from foveal.console import say, show_table, warn
from foveal.errors import FovealError
from foveal.files import read_json, telling_full, write_json
from foveal.page.words import counted
from foveal.predict.likeness import is_batch_unlike
from foveal.runs import locked

ROWS_AT_ONCE = 10_000  # rows of an interrupted command to read at a time
SHOWN = 12  # predictions printed; the file holds all


class Writer:
    """Writes rows to OUT; `done` are the ids written by an earlier, interrupted command."""

    def __init__(self, out: Path, made_with: Mapping[str, Any]) -> None:
        self.out = out
        self.partial, self.about = out.with_name(f"{out.name}.partial"), out.with_name(f"{out.name}.partial.json")
        self.done, self.columns = set[str](), list[str]()
        out.parent.mkdir(parents=True, exist_ok=True)
        self._stream: BinaryIO = self.partial.open("ab")
        try:
            self._hold()
            self._resume(dict(made_with))
            write_json(self.about, dict(made_with))
        except BaseException:
            self._stream.close()
            raise
        if self.done:
            say(f"resuming: {self.partial} already contains {counted(len(self.done), 'image')}")

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *failure: object) -> None:
        if not self._stream.closed and self._stream.tell() == 0:
            self.discard()
        self._stream.close()

    def earlier(self) -> Iterator[pd.DataFrame]:
        """The rows written by an interrupted command, some thousand at a time, as text."""
        if self.partial.stat().st_size:
            text: dict[str, Any] = {"dtype": str, "keep_default_na": False, "lineterminator": "\n"}
            with pd.read_csv(self.partial, chunksize=ROWS_AT_ONCE, **text) as parts:
                yield from parts

    def write(self, table: pd.DataFrame) -> None:
        """Append the rows and flush them to disk."""
        first = self._stream.tell() == 0
        self.columns = self.columns or list(table.columns)
        if list(table.columns) != self.columns:
            what = f"columns {list(table.columns)} do not match those of {self.partial}"
            raise FovealError("output.columns", what, expected=str(self.columns))
        with telling_full(self.partial):
            self._stream.write(table.to_csv(index=False, header=first, lineterminator="\n").encode())
            self._stream.flush()
            os.fsync(self._stream.fileno())

    def discard(self) -> None:
        """Delete the partial files."""
        self._stream.close()
        self.partial.unlink()
        self.about.unlink(missing_ok=True)

    def finish(self) -> None:
        """Rename the partial file to OUT; until then, no other command may write to it."""
        if os.name == "nt":  # an open file cannot be renamed there, and has no lock to lose
            self._stream.close()
        self.partial.replace(self.out)
        self.about.unlink()
        self._stream.close()

    def _hold(self) -> None:
        """Lock the file; FovealError if another command is writing this table, or has just finished it."""
        held = os.fstat(self._stream.fileno())
        if not (locked(self._stream.fileno()) and self.partial.is_file() and samestat(self.partial.stat(), held)):
            what = f"another foveal predict is writing {self.out}"
            raise FovealError("output.busy", what, fix="wait until it has finished, or choose another --out")

    def _resume(self, made_with: dict[str, Any]) -> None:
        """Read the ids of the existing rows; drops a truncated last row."""
        whole = 0
        # Beside an empty file, a .json is left over from a command that was stopped while finishing.
        if self.about.is_file() and self.partial.stat().st_size:
            before = read_json(self.about)
            if different := sorted(key for key in {*before, *made_with} if before.get(key) != made_with.get(key)):
                what = f"{self.partial} is from a command with different {', '.join(different)}"
                raise FovealError("output.other_command", what, fix="finish it first, delete the file, or change --out")
            whole = _end_of_rows(self.partial)
        self._stream.truncate(whole)
        self._stream.seek(0, os.SEEK_END)  # `write` uses the position to decide about the header
        for part in self.earlier():
            self.done.update(part["id"])
            self.columns = list(part.columns)


def _end_of_rows(file: Path) -> int:
    """The length of the complete rows in a CSV file; a line break within quotes does not end a row."""
    end = position = quotes = 0
    with file.open("rb") as stream:
        for line in stream:
            position += len(line)
            quotes += line.count(b'"')
            if line.endswith(b"\n") and quotes % 2 == 0:
                end = position
    return end


class Tally:
    """Counts of rows, and the first few rows: the table that `foveal predict` prints at the end."""

    def __init__(self) -> None:
        self.rows, self.first, self.first_error = 0, list[dict[Any, Any]](), ""
        self.again = list[list[str]]()  # the first ungradable ones: id and advice
        self.words: dict[str, Counter[str]] = {name: Counter() for name in ("answer", "flags", "unlike")}
        self.marked: Counter[str] = Counter()  # column -> rows with words in it

    def count(self, table: pd.DataFrame) -> None:
        """Count some rows."""
        self.first += table.head(SHOWN - len(self.first)).to_dict("records")
        self.rows += len(table)
        for name in self.words:
            words = [text.split() for text in table.get(name, ())]
            self.words[name].update(chain.from_iterable(words))
            self.marked[name] += sum(map(bool, words))
        poor = table.loc[table["answer"] == "ungradable", ["id", "advice"]].head(SHOWN - len(self.again))
        self.again += poor.astype(str).to_numpy().tolist()
        bad = table[table["answer"] == "unreadable"]
        if len(bad) and not self.first_error:
            self.first_error = f"{bad['id'].iloc[0]}: {bad['reason'].iloc[0]}"

    def show(self, classes: list[str]) -> None:
        """Print whether the photographs are unlike as a whole, the first rows, and how many lack quality or a grade."""
        answers, unlike, flagged = self.words["answer"], self.marked["unlike"], self.marked["flags"]
        if is_batch_unlike(unlike, self.rows - answers["unreadable"]):
            warn(f"{unlike} of {self.rows} pictures are unlike the training photographs ({self._counts('unlike')}): "
                 "results on the test part may not hold here")  # fmt: skip
        columns = ["image", "grade", "refer", f"probability of 0 to {len(classes) - 1}"]
        show_table(counted(self.rows, "image"), columns, [_shown(row, classes) for row in self.first])
        if self.rows > len(self.first):
            say(f"… and {self.rows - len(self.first)} more")
        if flagged:
            warn(f"{flagged} of {self.rows} pictures have quality flags ({self._counts('flags')}): check them first")
        if answers["ungradable"]:
            warn(f"{answers['ungradable']} of {self.rows} are ungradable and have no grade: see reason and advice")
        for name, advice in self.again:
            say(f"  {name}: {advice}")
        if answers["unreadable"]:
            warn(f"{answers['unreadable']} of {self.rows} are unreadable and have no grade: see the column reason")

    def _counts(self, column: str) -> str:
        return ", ".join(f"{count} {word}" for word, count in self.words[column].most_common())


def _shown(row: dict[Any, Any], classes: list[str]) -> list[str]:
    """The printed cells of a row, whose values may be text."""
    grade = f"{row['grade']} {classes[int(row['grade'])]}" if row["answer"] == "graded" else str(row["answer"])
    refer = {"0": "no", "1": "yes"}.get(str(row["referable"]), "")
    shares = [row[f"p{number}"] for number in range(len(classes))] if row["answer"] != "unreadable" else []
    return [str(row["id"]), grade, refer, "  ".join(f"{float(share):.2f}" for share in shares)]
