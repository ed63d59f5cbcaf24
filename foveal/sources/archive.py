"""A ZIP archive as a source: its pictures and tables are unpacked beside --out while they are read."""

import calendar
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile, ZipFile

from foveal.console import SHOWN_AS
from foveal.errors import FovealError
from foveal.files import telling_full
from foveal.sources.names import HIDDEN
from foveal.sources.tables import encodings_of

MOST_UNPACKED = 200  # times the archive's size: photographs shrink to a tenth at most, bombs to a thousandth
CP437 = re.compile(rb"[\0-\xa5\xe1]+")  # its ASCII and letters, which are hardly letters elsewhere
SMALL = 1 << 28  # bytes that do no harm, however small the archive is


@contextmanager
def unpacked(source: Path, out: Path) -> Iterator[Path]:
    """The source itself, or a folder with the files of a ZIP archive, which is beside `out` until the block ends.

    FovealError for an archive that is damaged or encrypted, has paths that leave the folder or is a bomb.
    """
    if not Path(source).is_file() or source.suffix.lower() != ".zip":
        yield source
        return
    place = next(folder for folder in out.absolute().parents if folder.is_dir())
    with TemporaryDirectory(prefix=f".{out.name}.", suffix=".partial", dir=place) as folder:
        root = Path(folder, source.name)
        root.mkdir()
        try:
            with telling_full(root):
                _unpack(source, root)
            SHOWN_AS[str(root)] = str(source)  # people know the archive, not the folder
            yield root
        except FovealError as error:
            error.what = error.what.replace(str(root), str(source))
            raise
        finally:
            SHOWN_AS.pop(str(root), None)


def open_archive(archive: Path) -> ZipFile:
    """A ZIP archive whose names have the encoding that they were written in, also if the archive does not tell it."""
    with ZipFile(archive) as opened:
        names = [member.orig_filename for member in opened.infolist() if not member.flag_bits & 0x800]  # not of UTF-8
    data = "\n".join(names).encode("cp437")  # the bytes as they are
    told = [] if CP437.fullmatch(data) else encodings_of(data)
    for encoding in ("utf-8", *told[: len(told) == 1]):
        with suppress(UnicodeDecodeError):
            data.decode(encoding)
            return ZipFile(archive, metadata_encoding=encoding)
    return ZipFile(archive)


def _unpack(archive: Path, root: Path) -> None:
    seen: set[str] = set()
    left = max(SMALL, MOST_UNPACKED * archive.stat().st_size)
    try:
        with open_archive(archive) as opened:
            for member in opened.infolist():
                member.filename = name = member.filename.replace("\\", "/")
                left -= member.file_size
                if re.search(r"^/|^[A-Za-z]:|(^|/)\.\.(/|$)", name) or name in seen or left < 0:
                    why = "is there twice" if name in seen else "leads out of it" if left >= 0 else "is far too large"
                    fix = "unpack it, correct this, and give the folder as the source"
                    raise FovealError("source.unsafe", f"{archive} is not unpacked: {name!r} {why}", fix=fix)
                seen.add(name)
                if member.is_dir() or HIDDEN.search(name):
                    continue
                try:
                    opened.extract(member, root)
                except (BadZipFile, zlib.error, EOFError):
                    (root / name).write_bytes(b"")  # it will be listed among the damaged pictures
                moment = calendar.timegm((*member.date_time, 0, 0, 0))
                os.utime(root / name, (moment, moment))
    except (BadZipFile, NotImplementedError, RuntimeError) as error:
        what, fix = f"{archive} cannot be unpacked ({error})", "unpack it, and give the folder as the source"
        raise FovealError("source.damaged", what, fix=fix) from error
