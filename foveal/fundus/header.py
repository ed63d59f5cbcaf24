"""The header of a picture: its format, size and orientation, checked before memory is spent on its pixels."""

import importlib
import re
import struct
import tomllib
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from foveal.errors import FovealError

# Eighteen times the largest EyePACS original (4928 x 3264), and 0.9 GB once decoded. A larger file is a scan of
# something else, or was made to exhaust the memory.
MAXIMUM_PIXELS = 300_000_000
FORMATS = tomllib.loads(Path(__file__).with_name("formats.toml").read_text(encoding="utf-8"))
READERS, UNREAD, NO_PICTURE = (
    [(re.compile(mark.encode("ascii"), re.DOTALL), kind) for kind, mark in FORMATS[table].items()]
    for table in ("read", "unread", "no_picture")
)
RAW, KNOWN, DICOM_ENDINGS = tuple(FORMATS["raw"]), FORMATS["known"], tuple(FORMATS["dicom"])
ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")
NO_DICOM = (*FORMATS["endings"], *FORMATS["others"], *RAW)  # endings; a file without any of them may be DICOM
ENDINGS = (*NO_DICOM, *DICOM_ENDINGS)
_FIRST_ELEMENT = re.compile(rb"[\x02\x08]\x00.\x00(?:[A-Z]{2}|..\x00\x00)", re.DOTALL)  # of DICOM without signature
_TEXT = re.compile(rb"BM(?!.{4}\x00{4})|RIFF(?!.{4}WEBP)|P\d(?!\s+[\d#])", re.DOTALL)  # it may begin like a picture
START = 132  # bytes at the beginning of a file that tell its kind
# What decoders raise for files that break their format: RuntimeError for AVIF, the last one for a GIF whose frame is
# larger than its screen.
COMPLAINTS = (OSError, SyntaxError, ValueError, KeyError, RuntimeError, struct.error, zlib.error,
              Image.DecompressionBombError)  # fmt: skip
DAMAGED = "truncated or damaged"


@contextmanager
def undamaged() -> Iterator[None]:
    """Turn what decoders raise for files that break their format into FovealError image.damaged."""
    try:
        yield
    except FovealError:
        raise
    except COMPLAINTS as error:
        raise FovealError("image.damaged", f"{DAMAGED}, or a rare variant of its format") from error


def read_header(file: IO[bytes], start: bytes, most_pixels: int, suffix: str = "") -> ImageFile.ImageFile:
    """The picture in an open file that begins with `start`, its pixels unread; FovealError if none, or too large."""
    if kind := unread_kind(start, suffix):
        raise FovealError("image.unsupported", f"{kind}, which Foveal cannot read; convert it to PNG or TIFF first")
    reader = reader_of(start)
    if reader is None:
        what = other_kind(start) or "not a picture"
        raise FovealError("image.not_a_picture", f"{what} (known formats: {KNOWN})")
    with undamaged():
        image = reader(file)
        check_pixels(*image.size, most_pixels)
        check_alone(getattr(image, "n_frames", 1) if image.format in ANIMATED else 1, "frames")
    return image


def other_kind(start: bytes) -> str:
    """What a file with this start is, and what to do, if it often stands in for a picture; "" for other files."""
    return next((kind for mark, kind in NO_PICTURE if mark.match(start)), "")


def unread_kind(start: bytes, suffix: str = "") -> str:
    """The kind of a file with this start or ending that Foveal cannot read; "" for other files."""
    raw = suffix in RAW and re.match(rb"II|MM", start)
    return "a raw camera file" if raw else next((kind for mark, kind in UNREAD if mark.match(start)), "")


def check_pixels(width: int, height: int, most: int) -> None:
    """Raise FovealError for a picture of more than `most` pixels."""
    if width * height > most:
        what = f"{width} x {height} pixels, more than the limit of {most / 10**6:g} megapixels"
        raise FovealError("image.too_large", what)


def check_alone(count: int, what: str) -> None:
    """Raise FovealError for a file with several pages or frames, of which each may be a photograph."""
    if count > 1:
        fix = "save each as a file of its own"
        raise FovealError("image.several", f"a file with {count} {what} of one size", fix=fix)


def reader_of(start: bytes) -> type[ImageFile.ImageFile] | None:
    """Pillow's class for a file with this start; None for an unknown format."""
    name = next((name for mark, name in READERS if mark.match(start)), "")
    module = f"PIL.{name.replace('Dib', 'Bmp')}ImagePlugin"
    return getattr(importlib.import_module(module), f"{name}ImageFile") if name else None


def is_dicom(start: bytes, suffix: str = "") -> bool:
    """Whether a file with this start is DICOM: by its signature, its first element, or else its ending."""
    found = start[128:132] == b"DICM" or bool(_FIRST_ELEMENT.match(start))
    return found or (suffix in DICOM_ENDINGS and reader_of(start) is None and not other_kind(start))


def is_picture(start: bytes) -> bool:
    """Whether a file that starts like this (`START` bytes) is of a known format, or one that is refused by name."""
    return not _TEXT.match(start) and (is_dicom(start) or reader_of(start) is not None or bool(unread_kind(start)))


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) if it is absent or unreadable."""
    if isinstance(image, TiffImageFile):
        return 1  # both decoders rotate a TIFF themselves
    try:  # the method of the base class: that for PNG decodes the whole picture to look for an EXIF block at the end
        orientation = Image.Image.getexif(image).get(0x0112)
    except COMPLAINTS:
        return 1  # the picture may be fine although its EXIF block is damaged
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1
