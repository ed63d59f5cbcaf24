"""Inputs: the photographs to grade, one by one, from files, folders, archives and lists.

Photographs are read one by one; only their names are in memory, and nothing is unpacked to disk. Rows of a list, and
members of an archive, that repeat a name get rows of their own: NAME (2), NAME (3), …
"""

import glob
import os
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from io import BytesIO
from itertools import chain, count
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile, ZipInfo

import numpy as np
import pandas as pd

from foveal.console import hushed, warn
from foveal.errors import FovealError
from foveal.fundus.dicom import origin_in_header
from foveal.fundus.header import NO_DICOM, START, is_picture
from foveal.page.words import counted
from foveal.sources.archive import open_archive
from foveal.sources.columns import row_per_picture, usual_columns
from foveal.sources.matching import Matcher, is_file
from foveal.sources.names import HIDDEN, eye_of
from foveal.sources.patients import patients_and_eyes, read_patients
from foveal.sources.source import PICTURES, READ, TABLES, UNREAD, list_pictures, say_left_out, without_ending
from foveal.sources.tables import read_rows

LIST_COLUMNS = ("file", "path", "image", "filename", "file_name", "image_path")  # of several, the first here counts
LARGEST_MEMBER = 1 << 30  # bytes of an unpacked photograph in an archive


@dataclass(frozen=True)
class Photograph:
    """One photograph to grade: a file, a member of an archive, or a picture in memory.

    id: its name in predictions.csv. group, eye and camera: the patient, left or right, and maker and model; "" if
    neither a list, a header nor the name tells. pixels: those in memory, uint8 [h, w, 3 or 1], or why there are none.
    """

    id: str
    file: Path
    member: str = ""
    group: str = ""
    eye: str = ""
    camera: str = ""
    pixels: np.ndarray | FovealError | None = None

    @classmethod
    def at(cls, file: Path, member: str = "") -> "Photograph":
        """A photograph named by its path; bytes that are not UTF-8 become \\xNN, because tables are text."""
        name = f"{file.as_posix()}/{member}" if member else file.as_posix()
        return cls(os.fsencode(name).decode("utf-8", "backslashreplace"), file, member)

    def source(self) -> Path | bytes:
        """The input for `decode`, except of pictures in memory; FovealError if a member of an archive is damaged."""
        return _unpacked(self.file, self.member) if self.member else self.file


def sort_inputs(paths: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Split the paths into (photographs and their containers, prepared sets); FovealError if one does not exist."""
    for path in paths:
        if not path.exists() and not _matches(path):
            raise FovealError("image.missing", f"{path}: no such file or folder, and no match for a pattern")
    sets = [path for path in paths if is_prepared(path)]
    return [path for path in paths if path not in sets], sets


def is_prepared(path: Path) -> bool:
    """Whether the path is a prepared set, as written by `foveal prepare`."""
    return (path / "records.csv").is_file()


def list_photographs(paths: Sequence[Path]) -> list[Photograph]:
    """The photographs at the paths, each once, in the order of the paths; FovealError if a path has none."""
    found = dict[str, Photograph]()
    for photograph in chain.from_iterable(map(_below, paths)):
        found.setdefault(photograph.id, photograph)
    return list(found.values())


def with_origin(photograph: Photograph) -> Photograph:
    """The photograph, with what the header of a DICOM file tells of patient, eye and camera and a list does not."""
    if (photograph.member or photograph.file.name).lower().endswith(NO_DICOM):
        return photograph
    try:
        source = photograph.source()
    except FovealError:  # damaged: its row in the table will say so
        return photograph
    group, eye, camera = origin_in_header(BytesIO(source) if isinstance(source, bytes) else source)
    return replace(photograph, group=photograph.group or group, eye=photograph.eye or eye, camera=camera)


def named_origins(photographs: Sequence[Photograph]) -> list[Photograph]:
    """The photographs, with patient and eye from names such as 17_left.jpg where nothing else tells either."""
    names = ["/".join(PurePosixPath(without_ending(photograph.id)).parts[-3:]) for photograph in photographs]
    told = zip(photographs, *patients_and_eyes(names), strict=True)
    return [one if one.group or one.eye else replace(one, group=group, eye=eye) for one, group, eye in told]


def _below(path: Path) -> Iterator[Photograph]:
    if path.is_dir():
        yield from map(Photograph.at, list_pictures(path))
    elif not path.exists():
        for found in map(Path, _matches(path)):
            if found.is_file() or "**" not in path.parts:  # ** finds the files in every folder by itself
                yield from _below(found)
    elif path.suffix.lower() == ".zip":
        yield from _members(path)
    elif path.suffix.lower() in TABLES:
        rows = _rows_in(path)
        listed = list(map(Photograph.at, _listed(path, list(rows["name"]))))
        names = _distinct(photograph.id for photograph in listed)
        for photograph, name, group, eye in zip(listed, names, rows["group"], rows["eye"], strict=True):
            yield replace(photograph, id=name, group=group, eye=eye)
    elif path.suffix.lower() in UNREAD:
        raise FovealError("table.unsupported", f"{path} is not a picture", fix=f"save it as a table: {READ}")
    else:
        yield Photograph.at(path)


def _matches(pattern: Path) -> list[str]:
    """The paths that match a pattern; Path.glob does not support absolute patterns."""
    return sorted(glob.glob(str(pattern), recursive=True)) if glob.has_magic(str(pattern)) else []  # noqa: PTH207


def _distinct(names: Iterable[str]) -> list[str]:
    """The names, of which repeated ones end in (2), (3), …"""
    found: dict[str, None] = {}
    for name in names:
        ways = chain([name], (f"{name} ({number})" for number in count(2)))
        found[next(way for way in ways if way not in found)] = None
    return list(found)


def _members(archive: Path) -> Iterator[Photograph]:
    try:
        opened, entries = _opened(archive, *_stamp(archive))
        files = [name for name, info in entries.items() if not info.is_dir()]
        pictures = sorted(name for name in files if not HIDDEN.search(name) and _is_picture(opened, entries[name]))
    except (BadZipFile, OSError, ValueError) as error:
        raise FovealError("file.damaged", f"{archive} is not a zip archive: {error}", fix="copy it again") from error
    say_left_out(archive, {*files} - {*pictures})
    if not pictures:
        raise FovealError("image.none", f"{archive} contains no pictures")
    # A name such as ../../x.jpg is harmless: members are unpacked to memory only.
    yield from (Photograph.at(archive, name) for name in pictures)


def _is_picture(archive: ZipFile, info: ZipInfo) -> bool:
    if PurePosixPath(info.filename).suffix.lower() in PICTURES:
        return True
    try:
        with archive.open(info) as stream:
            return is_picture(stream.read(START))
    except (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
        return False


@lru_cache(maxsize=8)
def _opened(archive: Path, *stamp: int) -> tuple[ZipFile, dict[str, ZipInfo]]:
    """An open archive and its members: its index is read once, and several threads can read members."""
    opened = open_archive(archive)
    return opened, dict(zip(_distinct(opened.namelist()), opened.infolist(), strict=True))


def _stamp(file: Path) -> tuple[int, ...]:
    """Numbers that change if a file is replaced."""
    there = file.stat()
    return there.st_ino, there.st_size, there.st_mtime_ns


def _unpacked(archive: Path, member: str) -> bytes:
    try:
        opened, entries = _opened(archive, *_stamp(archive))
        size = entries[member].file_size  # if it is wrong, the checksum is, too
        if size > LARGEST_MEMBER:
            raise FovealError("image.too_large", f"more than {LARGEST_MEMBER >> 20:,} MiB once unpacked")
        with opened.open(entries[member]) as stream:
            return stream.read(size)
    except KeyError:
        raise FovealError("image.missing", "not in the archive any more, which has changed") from None
    except (BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
        raise FovealError("image.damaged", f"cannot be unpacked: {error}") from error
    except RuntimeError as error:  # zipfile raises it for an encrypted member
        raise FovealError("image.encrypted", "encrypted; unpack the archive with its password first") from error


def _listed(table: Path, names: list[str]) -> list[Path]:
    """The files that the names in a list mean; a missing one keeps its name.

    A name that is no file as it is written is looked for below the folder of the list, as `prepare` does. A few missing
    absolute names are not worth that: they are files that are gone.
    """
    folder = table.parent
    # A backslash is itself, or else a slash.
    ways = ((name, folder / way) for name in names for way in (name.replace("\\", "/"), name))
    found = {name: file for name, file in ways if is_file(file)}
    missing = [name for name in names if name not in found]
    if missing and not (found and all(Path(name).is_absolute() for name in missing)):
        pictures: list[Path] = []
        with suppress(FovealError), hushed():  # what else is in the folder is not asked for
            pictures = list_pictures(folder)
        matched = Matcher(pictures, folder).match(missing, table, least=None if found else 0)
        found |= {name: path for name, path in zip(missing, matched, strict=True) if path}
    return [found.get(name, folder / name.replace("\\", "/")) for name in names]


def _rows_in(table: Path) -> pd.DataFrame:
    """name (from the first of LIST_COLUMNS, else the only other usual column), group and eye of each row of a list."""
    if table.stat().st_size == 0:
        raise FovealError("table.empty", f"{table} lists no files", expected="a column file, one path per row")
    rows = row_per_picture(read_rows(table))
    usual = usual_columns(rows, "image")
    usual = [column for column in usual if rows[column].any()] or usual
    known = ([column for column in usual if column.lower() == name] for name in LIST_COLUMNS)
    columns = next(filter(None, known), usual)
    if len(columns) != 1:
        code = "table.ambiguous_column" if columns else "table.missing_column"
        what = f"{table}: {len(columns) or 'no'} columns could hold the files; it has {', '.join(map(repr, rows))}"
        raise FovealError(code, what, fix="rename the column with the files to `file`")
    named = rows[columns[0]] != ""
    if lost := int((~named & (rows != "").any(axis=1)).sum()):
        warn(f"{table}: left out: {counted(lost, 'row')} without a name in '{columns[0]}'")
    rows = rows[named]
    groups, eyes = ([column for column in usual_columns(rows, what) if rows[column].any()] for what in ("group", "eye"))
    group = read_patients(list(rows[groups[0]]), table, groups[0]) if groups else ""
    return pd.DataFrame({"name": rows[columns[0]], "group": group, "eye": rows[eyes[0]].map(eye_of) if eyes else ""})
