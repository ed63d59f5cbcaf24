"""Worklist: the photographs that `foveal select` chose, for the page to open in their order.

Photographs come from the files that the worklist names, or else from its prepared set, as they were prepared. Only the
photographs of the worklist can be read, by their rank.
"""

import csv
import hashlib
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import cv2

from foveal.errors import FovealError
from foveal.sets.records import open_prepared

NEEDED = ("rank", "id", "reason", "file", "set")
REASON = ("reason", "why", "grade", "probability", "second_grade", "second_probability", "third_grade",
          "third_probability", "unlike", "camera", "source")  # fmt: skip


class Worklist:
    """The rows of a worklist; made by `read_worklist`."""

    def __init__(self, rows: list[dict[str, str]]) -> None:
        self.rows = rows
        self._digest = cache(lambda rank: hashlib.sha256(self.photograph(rank)).hexdigest())
        self._set = cache(open_prepared)

    def listed(self, reviewed: set[str]) -> list[dict[str, Any]]:
        """rank, name, sha256, whether it is in `reviewed`, and `REASON` as text, of all photographs in order."""
        return [{"rank": rank, "name": self.name(rank), "sha256": self._digest(rank),
                 "reviewed": self._digest(rank) in reviewed, **{name: row.get(name, "") for name in REASON}}
                for rank, row in enumerate(self.rows, 1)]  # fmt: skip

    def name(self, rank: int) -> str:
        """The name of the photograph with this rank, from 1."""
        row = self.rows[rank - 1]
        return Path(row["file"]).name if Path(row["file"]).is_file() else f"{PurePosixPath(row['id']).name}.png"

    def photograph(self, rank: int) -> bytes:
        """The bytes of the photograph with this rank; FovealError if there is none."""
        if not 1 <= rank <= len(self.rows):
            what = f"the worklist has no photograph {rank}"
            raise FovealError("request.not_found", what, expected=f"1 to {len(self.rows)}")
        row = self.rows[rank - 1]
        if Path(row["file"]).is_file():
            return Path(row["file"]).read_bytes()
        prepared = self._set(Path(row["set"]))
        pixels = prepared.pixels(prepared.records[prepared.records["id"] == row["id"]])
        if not len(pixels):
            raise FovealError("request.not_found", f"{row['set']} has no image {row['id']} any more")
        return cv2.imencode(".png", pixels[0][..., ::-1])[1].tobytes()


def read_worklist(file: Path) -> Worklist:
    """The worklist in a CSV file; FovealError if it is not one, or if a photograph is in no file and no set."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FovealError("worklist.unreadable", f"--worklist {file} cannot be read: {error}") from None
    expected = f"a file of foveal select, with the columns {', '.join(NEEDED)}"
    if not rows or not set(NEEDED) <= set(rows[0]):
        raise FovealError("worklist.unreadable", f"--worklist {file} is not a worklist", expected=expected)
    for row in rows:
        if not (Path(row["file"]).is_file() or (Path(row["set"]) / "records.csv").is_file()):
            where = f"neither in the file '{row['file']}' nor in the set '{row['set']}'"
            what, fix = f"--worklist {file}: {row['id']} is {where}", "choose again with foveal select"
            raise FovealError("worklist.missing", what, fix=fix)
    return Worklist(rows)
