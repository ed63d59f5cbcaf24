"""Writing and reading files: every finished file of Foveal is written through `replacing`.

A file is written under a temporary name in the same folder, synced to the disk and then renamed. So there is always
either the old file or the new one, even after a power cut or a kill. Files that grow line by line (metrics.jsonl, the
rows of an unfinished prediction) are the exception: `whole_lines` leaves out a torn last line.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveal.errors import FovealError

if TYPE_CHECKING:
    import pandas as pd

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_SPACE_WORDS = ("No space left", "os error 28", "failed writing file", "unexpected pos")  # of torch and safetensors


@contextmanager
def telling_full(path: Path) -> Iterator[None]:
    """FovealError (output.full) if the block, which writes `path`, finds the disk full."""
    try:
        yield
    except FovealError:
        raise
    except Exception as error:
        causes: list[BaseException] = [error]  # torch fails a second time while it closes the file
        while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None:
            causes.append(cause)
        reasons = [one.strerror for one in causes if isinstance(one, OSError) and one.errno in _NO_SPACE]
        if not reasons and not any(words in str(one) for words in _NO_SPACE_WORDS for one in causes):
            raise
        what = f"{path} cannot be written ({reasons[0] if reasons else os.strerror(errno.ENOSPC)})"
        raise FovealError("output.full", what, fix="free some space, then run the same command again") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; it replaces `path` when the block ends, and is deleted if the block fails.

    The name keeps the ending of `path`, since some writers go by it, and begins with a dot. Several processes may
    replace one file: each writes a file of its own, and the last one stays. What a killed process leaves behind,
    `is_free` ignores and `remove_unfinished` deletes. FovealError (output.full) when the disk is full.
    """
    partial = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    try:
        with telling_full(path):
            partial.touch()
            mode = partial.stat().st_mode  # what the umask allows; some writers allow less
            yield partial
            with partial.open("rb+") as stream:
                os.fsync(stream.fileno())
            partial.chmod(mode)
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def is_unfinished(path: Path) -> bool:
    """Whether a file is an unfinished one of a killed process."""
    return path.name.startswith(".") and ".partial" in path.name


def remove_unfinished(folder: Path, seconds: float = 60) -> None:
    """Delete the unfinished files of killed processes in a folder; another process may be writing newer ones."""
    for file in folder.glob(".*.partial*"):
        if file.is_file() and time.time() - file.stat().st_mtime > seconds:
            file.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Replace a UTF-8 text file; line ends are written as they are."""
    write_bytes(path, text.encode())


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
    """The object that a JSON file holds; FovealError if the file is damaged or holds something else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FovealError("file.damaged", f"{path} is damaged ({error})", fix="copy it or write it again") from None
    if not isinstance(found, dict):
        raise FovealError("file.damaged", f"{path} contains a {type(found).__name__}", expected="a JSON object")
    return found


def whole_lines(path: Path) -> list[str]:
    """The complete lines of a file that grows line by line, oldest first; none if the file does not exist."""
    return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []


def add_line(path: Path, line: str) -> None:
    """Append one line to a file that grows line by line."""
    with telling_full(path), path.open("a", encoding="utf-8") as stream:
        stream.write(line + "\n")


def is_free(path: Path) -> bool:
    """True if there is nothing at `path`, or a folder without finished files."""
    return not path.exists() or (path.is_dir() and all(map(is_unfinished, path.iterdir())))


def check_file(path: Path, option: str = "--out") -> None:
    """FovealError if no file could be written at `path`, for use before long work; nothing is created."""
    if path.is_dir():
        raise FovealError("output.is_folder", f"{option} {path} is a folder", expected="a file")
    nearest = next(folder for folder in path.absolute().parents if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        what = f"{option} {path} cannot be written: {nearest} is not a folder that this account can write to"
        raise FovealError("output.unwritable", what, fix=f"choose another {option}")


def check_free(path: Path, option: str = "--out", made: str = "") -> None:
    """FovealError if an output exists already; an empty folder is free, and one with a file `made` by the verb."""
    if not is_free(path) and not (made and (path / made).is_file()):
        what = f"{option} {path} exists already"
        raise FovealError("output.exists", what, fix=f"choose another {option} or delete it")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
