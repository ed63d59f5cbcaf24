"""Writing and reading files: every finished file of Foveal is written through `replacing`.

A file is written under a temporary name in the same folder, synced to the disk and then renamed. So there is always
either the old file or the new one, even after a power cut or a kill. Files that grow line by line (metrics.jsonl, the
rows of an unfinished prediction) are the exception: `whole_lines` leaves out a torn last line.
"""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveal.errors import FovealError

if TYPE_CHECKING:
    import pandas as pd


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to; it replaces `path` when the block ends, and is deleted if it fails.

    Its name begins with a dot and keeps the suffix of `path`, which some writers depend on. Several processes may
    replace one file: each writes its own temporary file, and the last one to finish wins.
    """
    partial = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        yield partial
        with partial.open("rb+") as stream:
            os.fsync(stream.fileno())
        partial.chmod(0o644)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a UTF-8 text file; line ends are written as they are."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file by these bytes."""
    with replacing(path) as partial:
        partial.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file, indented for people."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def json_ready(value: Any) -> Any:
    """The value as JSON can hold it: nan and infinity become None, tuples become lists."""
    import numpy as np  # here, so that the command line starts quickly

    if isinstance(value, dict):
        return {key: json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Replace a CSV file by a table without its index."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


def read_json(path: Path) -> dict[str, Any]:
    """The object that a JSON file holds; FovealError where the file is damaged or holds something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FovealError("file.damaged", f"{path} is damaged ({error})", fix="copy it or write it again") from None
    if not isinstance(found, dict):
        raise FovealError("file.damaged", f"{path} holds a {type(found).__name__}", expected="a JSON object")
    return found


def whole_lines(path: Path) -> list[str]:
    """The complete lines of a file that grows line by line, oldest first; none if the file does not exist."""
    if not path.exists():
        return []
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def is_free(path: Path) -> bool:
    """True where there is nothing at `path`, or an empty folder."""
    return not path.exists() or (path.is_dir() and not any(path.iterdir()))


def check_free(path: Path, option: str = "--out") -> None:
    """FovealError where an output file or folder exists already; an empty folder is free."""
    if not is_free(path):
        raise FovealError(
            "output.exists", f"{option} {path} exists already", fix=f"choose another {option} or delete it"
        )
