"""The header of a picture: its format, size and orientation, checked before memory is spent on its pixels."""

import importlib
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

from PIL import Image, ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from foveal.errors import FovealError

# Eighteen times the largest EyePACS original (4928 x 3264), and 0.9 GB once decoded. A larger file is a scan of
# something else, or was made to exhaust the memory.
MAXIMUM_PIXELS = 300_000_000

# How files of a format begin, and its class in Pillow. It is called directly and not through Image.open, whose limit of
# 89 megapixels can only be changed for the whole process. TGA and bare DIB have no signature, only a header.
READERS = {
    rb"\xff\xd8\xff": "Jpeg", rb"\x89PNG\r\n\x1a\n": "Png", rb"II[*+]\0|MM\0[*+]": "Tiff", rb"BM": "Bmp",
    rb"RIFF": "WebP", rb"GIF8": "Gif", rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51": "Jpeg2K", rb"P[1-6]": "Ppm",
    rb"\x0a[\x00\x02-\x05]\x01[\x01\x02\x04\x08]": "Pcx", rb"\x01\xda[\x00\x01][\x01\x02]\x00[\x01-\x03]": "Sgi",
    rb"\x28\0\0\0.{8}\x01\0[\x01\x04\x08\x10\x18\x20]\0": "Dib", rb"\x59\xa6\x6a\x95": "Sun", rb"qoif": "Qoi",
    rb".(\0[\x02\x03\x0a\x0b]\0{5}|\x01[\x01\x09].{4}[\x18\x20]).{4}(?!\0\0)..(?!\0\0)..[\x01\x08\x10\x18\x20]": "Tga",
    rb"8BPS\0\x01": "Psd", rb"....ftyp(.{4})*avi[fs]": "Avif",
}  # fmt: skip
# How pictures begin that are not read, and what they are. Most raw files of cameras begin like a TIFF.
UNREAD = {
    rb"....ftyp(?!(.{4})*avi[fs])(.{4})*(hei[cxms]|hev[cx]|mif1|msf1)": "a HEIC picture (pillow-heif converts it)",
    rb"icns|\0\0\x01\0[^\0]\0": "an icon", rb"DDS |Image type: ": "a DDS or IM picture",
    rb"%!PS|\xc5\xd0\xd3\xc6": "a PostScript document",
    rb"....ftypcrx|FUJIFILM|II(RO|RS|U\0)|MMOR|II\*\0.{4}CR": "a raw file of a camera",
}  # fmt: skip
RAW = (".cr2", ".cr3", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".dng", ".raf", ".orf", ".rw2", ".pef", ".srw")
_FIRST_ELEMENT = re.compile(rb"[\x02\x08]\x00.\x00(?:[A-Z]{2}|..\x00\x00)", re.DOTALL)  # of DICOM without signature
_TEXT = re.compile(rb"BM(?!.{4}\x00{4})|RIFF(?!.{4}WEBP)|P\d(?!\s+[\d#])", re.DOTALL)  # it may begin like a picture
KNOWN = "JPEG, JPEG 2000, PNG, TIFF, BMP, WebP, AVIF, GIF, PPM, TGA, PCX, SGI, Sun raster, QOI, PSD, DICOM"
OTHERS = (".ico", ".icns", ".dds", ".im", ".eps", *RAW)  # refused by name
DICOM_ENDINGS = (".dcm", ".dicom", ".ima")
# Files that end in these are pictures whatever they begin with; all others are recognised by how they begin.
ENDINGS = (
    ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".ppm", ".pgm", ".gif", ".jp2", ".jpe", ".jfif", ".jif",
    ".mpo", ".j2k", ".j2c", ".jpc", ".jpf", ".jpx", ".pnm", ".pbm", ".avif", ".heic", ".heif", ".dib", ".tga", ".pcx",
    ".sgi", ".ras", ".qoi", ".psd", *OTHERS, *DICOM_ENDINGS,
)  # fmt: skip
START = 132  # bytes at the beginning of a file that tell its kind
# What decoders raise for files that break their format; the last one for a GIF whose frame is larger than its screen.
COMPLAINTS = (OSError, SyntaxError, ValueError, KeyError, struct.error, zlib.error, Image.DecompressionBombError)

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
    """The picture in an open file that begins with `start`; its class, mode and size are known, its pixels unread.

    FovealError for an unknown format, for a damaged header, and for too many pixels.
    """
    if kind := unread_kind(start, suffix):
        raise FovealError("image.unsupported", f"{kind}, which is not read; convert it to PNG or TIFF first")
    reader = reader_of(start)
    if reader is None:
        what = "a ZIP archive; unpack it first" if start.startswith(b"PK\3\4") else "not a picture"
        raise FovealError("image.not_a_picture", f"{what} (known formats: {KNOWN})")
    with undamaged():
        image = reader(file)
    check_pixels(*image.size, most_pixels)
    return image


def unread_kind(start: bytes, suffix: str = "") -> str:
    """What a file is that starts like this, or is a raw file by its ending, if such files are not read; else ""."""
    raw = suffix in RAW and re.match(rb"II|MM", start)
    found = (kind for mark, kind in UNREAD.items() if re.match(mark, start, re.DOTALL))
    return "a raw file of a camera" if raw else next(found, "")


def check_pixels(width: int, height: int, most: int) -> None:
    """Raise FovealError for a picture of more than `most` pixels."""
    if width * height > most:
        what = f"{width} x {height} pixels, more than the limit of {most / 10**6:g} megapixels"
        raise FovealError("image.too_large", what)


def reader_of(start: bytes) -> type[ImageFile.ImageFile] | None:
    """Pillow's class for a file that starts like this; None for an unknown format."""
    name = next((name for mark, name in READERS.items() if re.match(mark, start, re.DOTALL)), "")
    module = f"PIL.{name.replace('Dib', 'Bmp')}ImagePlugin"
    return getattr(importlib.import_module(module), f"{name}ImageFile") if name else None


def is_dicom(start: bytes, suffix: str = "") -> bool:
    """Whether a file that starts like this is DICOM: by its signature, its first element, or else its ending."""
    found = start[128:132] == b"DICM" or bool(_FIRST_ELEMENT.match(start))
    return found or (suffix in DICOM_ENDINGS and reader_of(start) is None)


def is_picture(start: bytes) -> bool:
    """Whether a file that starts like this (`START` bytes) is of a known format, or one that is refused by name."""
    known = is_dicom(start) or reader_of(start) is not None or bool(unread_kind(start))
    return known and not _TEXT.match(start)


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) where it is absent or unreadable."""
    if isinstance(image, TiffImageFile):
        return 1  # both decoders rotate a TIFF themselves
    try:  # the method of the base class: that for PNG decodes the whole picture to look for an EXIF block at the end
        orientation = Image.Image.getexif(image).get(0x0112)
    except COMPLAINTS:
        return 1  # the picture may be fine although its EXIF block is damaged
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1
