"""The header of a picture: format, size and orientation, judged before any memory is spent on its pixels."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from io import BytesIO
from typing import IO

from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Jpeg2KImagePlugin import Jpeg2KImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.PpmImagePlugin import PpmImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from foveal.errors import FovealError

# Eighteen times the largest EyePACS original (4928 x 3264), and 0.9 GB once decoded: above this a file is
# a scan of something else, or made to exhaust the memory.
MAXIMUM_PIXELS = 300_000_000

# Pillow's classes are called directly, not through Image.open, whose own limit of 89 megapixels could only
# be changed for the whole process of whoever imports us.
READERS: dict[bytes, type[ImageFile.ImageFile]] = {
    b"\xff\xd8\xff": JpegImageFile,
    b"\x89PNG\r\n\x1a\n": PngImageFile,
    b"II*\x00": TiffImageFile,
    b"MM\x00*": TiffImageFile,
    b"BM": BmpImageFile,
    b"RIFF": WebPImageFile,
    b"GIF8": GifImageFile,
    b"\x00\x00\x00\x0cjP  ": Jpeg2KImageFile,
    b"\xff\x4f\xff\x51": Jpeg2KImageFile,  # its bare code stream
    b"P5": PpmImageFile,
    b"P6": PpmImageFile,
}
# Pillow's ways to say that a file is not as its format demands; the last, that a GIF's frame outgrows its screen.
COMPLAINTS = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)

DAMAGED = "truncated or damaged"
_NOT_A_PICTURE = "not a picture in a format that can be read (JPEG, JPEG 2000, PNG, TIFF, BMP, WebP, GIF, PPM, DICOM)"


@dataclass(frozen=True)
class Header:
    """What the first bytes of a file say; `width` and `height` as stored, before orientation."""

    reader: type[ImageFile.ImageFile]
    mode: str
    width: int
    height: int
    orientation: int


def read_header(file: IO[bytes], reader: type[ImageFile.ImageFile] | None, most_pixels: int) -> Header:
    """The header of an open file by the reader of its format; FovealError without a reader, damaged or too large."""
    if reader is None:
        raise FovealError("image.damaged", _NOT_A_PICTURE)
    try:
        image = reader(file)
    except COMPLAINTS as error:
        raise FovealError("image.damaged", f"{DAMAGED}, or a rare variant of its format") from error
    width, height = image.size
    check_pixels(width, height, most_pixels)
    return Header(reader, image.mode, width, height, orientation_of(image))


def check_pixels(width: int, height: int, most: int) -> None:
    """Raise `FovealError` for a picture of more than `most` pixels."""
    if width * height > most:
        raise FovealError(
            "image.damaged", f"{width} x {height} pixels, more than the limit of {most / 10**6:g} megapixels"
        )


def check_header(data: bytes, most: int) -> None:
    """Raise `FovealError` for a picture inside another file whose own header says more than `most` pixels."""
    reader = next((reader for mark, reader in READERS.items() if data.startswith(mark)), None)
    if reader is not None:
        read_header(BytesIO(data), reader, most)


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) where it is absent or unreadable."""
    if isinstance(image, TiffImageFile):
        return 1  # both decoders turn a TIFF themselves
    try:
        # The base class's method: the one for PNG decodes the whole picture to look for a late EXIF block.
        orientation = Image.Image.getexif(image).get(0x0112)
    except (OSError, SyntaxError, ValueError, KeyError, struct.error):
        return 1  # a damaged EXIF block says nothing about the picture beside it
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1
