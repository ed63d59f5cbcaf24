"""A ZIP archive as a source: its pictures and tables are unpacked beside --out while they are read."""

import calendar
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from zipfile import BadZipFile, ZipFile, ZipInfo

from foveal.errors import FovealError
from foveal.files import telling_full
from foveal.sources.source import HIDDEN, Source

LARGEST_MEMBER = 1 << 30  # bytes of an unpacked file
MOST_UNPACKED = 200  # times the archive's size: photographs shrink to a tenth at most, bombs to a thousandth
SMALL = 1 << 28  # bytes that do no harm, however small the archive is


@contextmanager
def unpacked(archive: Path, out: Path) -> Iterator[Path]:
    """A folder beside `out` with the files of a ZIP archive, with their times of change; it vanishes after the block.

    FovealError for an archive that is damaged or encrypted, has paths that leave the folder or is a bomb.
    """
    place = next(folder for folder in out.absolute().parents if folder.is_dir())
    with TemporaryDirectory(prefix=f".{out.name}.", suffix=".partial", dir=place) as folder:
        root = Path(folder, archive.name)
        root.mkdir()
        try:
            with telling_full(root):
                _unpack(archive, root)
            yield root
        except FovealError as error:  # people know the archive, not the folder
            what, expected, fix = (words.replace(str(root), str(archive)) for words in error.args[1:])
            raise FovealError(error.code, what, expected=expected, fix=fix) from error


def content_of(root: Path) -> Path:
    """The folder itself, or the only one that it holds, as in an archive of a folder."""
    inside = list(root.iterdir())
    return content_of(inside[0]) if len(inside) == 1 and inside[0].is_dir() else root


def within(source: Source, root: Path) -> Source:
    """The source with `file` as the archive has it, from `root` on."""
    if source.images is not None:
        return source
    files = [source.root / file for file in source.table["file"]]
    names = [(file.relative_to(root) if file.is_relative_to(root) else file).as_posix() for file in files]
    return replace(source, root=root, table=source.table.assign(file=names))


def _unpack(archive: Path, root: Path) -> None:
    try:
        with ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            for member in members:
                member.filename = member.filename.replace("\\", "/")
            members = [member for member in members if not HIDDEN.search(member.filename)]
            _check(archive, members)
            for member in members:
                _write(opened, member, root)
    except (BadZipFile, NotImplementedError, RuntimeError) as error:
        what, fix = f"{archive} cannot be unpacked ({error})", "unpack it, and give the folder as the source"
        raise FovealError("source.damaged", what, fix=fix) from error


def _write(opened: ZipFile, member: ZipInfo, root: Path) -> None:
    try:
        opened.extract(member, root)
    except (BadZipFile, zlib.error, EOFError):
        (root / member.filename).write_bytes(b"")  # it will be listed among the damaged pictures
    moment = calendar.timegm((*member.date_time, 0, 0, 0))
    os.utime(root / member.filename, (moment, moment))


def _check(archive: Path, members: list[ZipInfo]) -> None:
    """FovealError for members that could do harm, or would overwrite each other."""
    names = Counter(member.filename for member in members)
    for name in names:
        if re.match("/|[A-Za-z]:", name) or ".." in PurePosixPath(name).parts:
            what = f"{archive} holds a file whose path leaves the folder: {name!r}"
            raise FovealError("source.unsafe", what, fix="make the archive again, with paths below one folder")
    if twice := [name for name, count in names.items() if count > 1]:
        raise FovealError("source.names", f"{archive} holds {twice[0]} more than once", fix="unpack it, and rename one")
    sizes = [member.file_size for member in members]
    if max(sizes, default=0) > LARGEST_MEMBER or sum(sizes) > max(SMALL, MOST_UNPACKED * archive.stat().st_size):
        what = f"{archive} would have {sum(sizes) / 2**20:,.0f} MiB once unpacked, far more than photographs have"
        raise FovealError("source.unsafe", what, fix="unpack it, and give the folder as the source")
