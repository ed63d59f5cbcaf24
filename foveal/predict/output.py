"""Output: predictions written row by row while images are graded, so that an interruption loses none of them.

    OUT.partial        the rows so far, as they will stand in OUT
    OUT.partial.json   what they were made with: the same command goes on, another one is refused

OUT itself appears when all is graded: whoever finds it has all of it. It is CSV, or JSON lines where it ends in .jsonl.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator, Mapping
from io import StringIO
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import pandas as pd

from foveal.console import say
from foveal.files import read_json, write_json
from foveal.runs import locked

ROWS_AT_ONCE = 10_000  # of an interrupted command, read back for the summary


class Writer:
    """Rows on their way into OUT; `done` are the ids that an earlier, interrupted command has written."""

    def __init__(self, out: Path, made_with: Mapping[str, Any]) -> None:
        self.out, self.lines = out, out.suffix.lower() == ".jsonl"
        self.partial, self.about = out.with_name(f"{out.name}.partial"), out.with_name(f"{out.name}.partial.json")
        out.parent.mkdir(parents=True, exist_ok=True)
        self._stream: BinaryIO = self.partial.open("ab")
        try:
            self._hold()
            self.done, self.columns = self._resume(dict(made_with))
        except BaseException:
            self._stream.close()
            raise
        if self.done:
            say(f"{len(self.done):,} images are graded already ({self.partial}); going on behind them")
        write_json(self.about, dict(made_with))

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._stream.closed and self._stream.tell() == 0:  # nothing to go on from
            self.discard()
        self._stream.close()

    def earlier(self) -> Iterator[pd.DataFrame]:
        """The rows that an interrupted command has written, some thousand at a time."""
        if not self.done:
            return
        with self.partial.open(encoding="utf-8", newline="") as stream:
            rows = map(_row, map(json.loads, stream)) if self.lines else csv.DictReader(stream)
            while part := list(islice(rows, ROWS_AT_ONCE)):
                yield _with_types(pd.DataFrame(part))

    def write(self, table: pd.DataFrame) -> None:
        """Append the rows; they survive the death of this process, and of the machine."""
        first = self._stream.tell() == 0
        self.columns = self.columns or list(table.columns)
        if list(table.columns) != self.columns:
            raise ValueError(
                f"rows with columns {list(table.columns)} do not fit below {self.columns} in {self.partial}"
            )
        self._stream.write((_json_lines(table) if self.lines else _csv(table, header=first)).encode())
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def discard(self) -> None:
        """Nothing in it is worth to go on from: leave no file."""
        self._stream.close()
        self.partial.unlink()
        self.about.unlink()

    def finish(self) -> None:
        """All is written: give the file its name."""
        self._stream.close()
        self.partial.replace(self.out)
        self.about.unlink()

    def _hold(self) -> None:
        """ValueError where another command writes this table, or has just given it its name."""
        if not (locked(self._stream.fileno()) and self.partial.is_file() and _same(self.partial, self._stream)):
            raise ValueError(f"another foveal predict is writing {self.out}; let it finish, or choose another --out")

    def _resume(self, made_with: dict[str, Any]) -> tuple[set[str], list[str]]:
        """(ids of the rows that there are, their columns where the table has a header)."""
        if not self.about.is_file():
            self._stream.truncate(0)
            return set(), []
        before = read_json(self.about)
        different = sorted(key for key in {*before, *made_with} if before.get(key) != made_with.get(key))
        if different:
            raise ValueError(
                f"{self.partial} was begun by another command (it differs in {', '.join(different)}): finish that one, "
                f"choose another --out, or delete {self.partial}"
            )
        data = self.partial.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]  # a killed process may have left half a line
        self._stream.truncate(len(whole))
        if self.lines:  # other signs than \n may stand in a name
            return {json.loads(row)["id"] for row in whole.decode().split("\n") if row}, []
        rows = csv.reader(StringIO(whole.decode(), newline=""))
        columns = next(rows, [])
        return {row[0] for row in rows}, columns


def _same(file: Path, stream: BinaryIO) -> bool:
    there, held = file.stat(), os.fstat(stream.fileno())
    return (there.st_dev, there.st_ino) == (held.st_dev, held.st_ino)


def _row(line: dict[str, Any]) -> dict[str, Any]:
    """A JSON line as the row of a table that it was."""
    shares = line.pop("probabilities") or []
    return {**line, **{f"p{number}": share for number, share in enumerate(shares)}}


def _with_types(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that the summary counts or shows, typed as they were before they were written."""
    whole = [name for name in ("grade", "referable") if name in table]
    shares = [name for name in table if str(name)[:1] == "p" and str(name)[1:].isdigit()]
    numbers = table[[*whole, *shares]].apply(pd.to_numeric)
    return table.assign(**numbers.astype(dict.fromkeys(whole, "Int64")))


def _csv(table: pd.DataFrame, *, header: bool) -> str:
    return table.to_csv(index=False, header=header, lineterminator="\n")


def _json_lines(table: pd.DataFrame) -> str:
    """A line per row: probabilities as one list, what is not known as null."""
    columns = [name for name in table.columns if name[:1] == "p" and name[1:].isdigit()]
    lines = []
    for row in table.astype(object).where(table.notna(), None).to_dict("records"):
        shares = [row.pop(name) for name in columns]
        row["probabilities"] = None if None in shares else shares
        lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    return "".join(lines)
