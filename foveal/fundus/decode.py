"""Read one photograph from disc into upright 8-bit RGB, at no more pixels than are needed.

A clinic's folder holds 16-megapixel JPEGs that end as 256-pixel squares. The JPEG decoder can leave out
the fine frequencies and hand back a half, a quarter or an eighth of each side in a fraction of the time,
so `decode` asks for the largest such step that still keeps the side the caller needs.

OpenCV decodes (it is fast and lets other threads run meanwhile). Pillow reads the header, so that a file is
judged before any memory is spent on it, and takes over where OpenCV gives up or gets the colours wrong.
Colour profiles are ignored: cameras for the fundus rarely embed one, and a grader learns from raw values.
DICOM has a reader of its own (dicom.py), for which pydicom must be installed.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

import cv2
import numpy as np
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from foveal.errors import FovealError
from foveal.fundus.header import (
    COMPLAINTS,
    DAMAGED,
    MAXIMUM_PIXELS,
    READERS,
    Header,
    check_pixels,
    orientation_of,
    read_header,
)

# What a whole file has at its end. OpenCV may fill the rest of a cut-off picture with grey and say nothing.
_END_MARKS: dict[type[ImageFile.ImageFile], bytes] = {JpegImageFile: b"\xff\xd9", PngImageFile: b"IEND"}
_END_BYTES = 32  # some writers add a few bytes after the mark
# OpenCV multiplies colours by alpha in a TIFF and misreads Lab; these modes it reads as Pillow does.
_TIFF_MODES_FOR_OPENCV = {"1", "L", "P", "RGB", "CMYK", "I;16", "I;16B"}

_REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
_DICOM_SUFFIXES = (".dcm", ".dicom")  # for the few such files that lack the signature

# A bad file is reported once, by FovealError; OpenCV would also write its own lines to stderr.
# Its version 4 has the switch at the top of the package, version 5 among its utils; 0 is silence in both.
(getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel)(0)


@dataclass(frozen=True)
class Decoded:
    """One photograph: upright pixels, and the size that it had before any reduction.

    `pixels`: uint8 `[h, w, 3]`, RGB. `width`, `height`: of the original in px, after EXIF orientation.
    """

    pixels: np.ndarray
    width: int
    height: int


def decode(source: Path | bytes, minimum: int, *, name: str = "", most_pixels: int = MAXIMUM_PIXELS) -> Decoded:
    """Read a photograph as upright RGB, reduced by the JPEG decoder where that is free.

    `source`: a file, or the bytes of one; `name`: the file name of bytes, whose ending tells a DICOM file without mark.
    `minimum`: smallest acceptable short side of the returned pixels, in px, at least 1; a photograph that is
    smaller comes back as it is. JPEGs are reduced by 2, 4 or 8 while they stay at or above it; other formats
    are decoded whole. Grey and palette pictures become RGB, alpha is dropped, an animation gives its first
    frame, and 16-bit values are scaled to 8 bits (see `_to_eight_bits`).

    Raises `FovealError` with a short reason for a file that is missing, empty, cut off, of another kind, a folder or
    a pipe, or larger than `most_pixels`; `ValueError` for a `minimum` below 1.
    """
    if minimum < 1:
        raise ValueError(f"minimum is {minimum}; the short side must be at least 1 pixel")
    suffix = Path(name).suffix if isinstance(source, bytes) else source.suffix
    with BytesIO(source) if isinstance(source, bytes) else _open(source) as file:
        data, header = _read(file, suffix.lower(), most_pixels)
    if header is None:
        return _decode_dicom(data, most_pixels)
    pixels = _with_opencv(data, _reduction(header, minimum)) if _suits_opencv(data, header) else None
    if pixels is None:
        pixels = _with_pillow(data, header.reader)
    upright = _turn(_to_eight_bits(pixels), header.orientation)
    sideways = header.orientation >= 5
    width, height = (header.height, header.width) if sideways else (header.width, header.height)
    return Decoded(np.ascontiguousarray(upright), width, height)


def pixels_of(image: Image.Image, most_pixels: int = MAXIMUM_PIXELS) -> np.ndarray:
    """Return an open picture as `decode` returns its file, but never reduced: uint8 `[h, w, 3]`, RGB, upright.

    Raises `FovealError` for one that is cut off, larger than `most_pixels`, or of pixels that are no whole numbers.
    """
    check_pixels(*image.size, most_pixels)
    orientation = orientation_of(image)
    return np.ascontiguousarray(_turn(_to_eight_bits(_rgb_of(image)), orientation))


def _open(path: Path) -> IO[bytes]:
    """Open a regular file; anything else is refused unopened, as a pipe would wait for its writer for ever."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise FovealError("image.damaged", "a folder, not a file")
        if not stat.S_ISREG(mode):
            raise FovealError("image.damaged", "not a regular file, but a pipe, a socket or a device")
        return path.open("rb")
    except FileNotFoundError:
        raise FovealError("image.damaged", "no such file") from None
    except OSError as error:
        raise FovealError("image.unavailable", f"cannot be opened: {error.strerror or error}") from error


def _read(file: IO[bytes], suffix: str, most_pixels: int) -> tuple[bytes, Header | None]:
    """Return the bytes of a file and its header, which is checked before the rest is read; no header for DICOM."""
    try:
        start = file.read(132)
        if not start:
            raise FovealError("image.damaged", "empty file")
        file.seek(0)
        reader = next((reader for mark, reader in READERS.items() if start.startswith(mark)), None)
        if start[128:] == b"DICM" or (reader is None and suffix in _DICOM_SUFFIXES):
            return file.read(), None
        header = read_header(file, reader, most_pixels)
        file.seek(0)
        data = file.read()
    except OSError as error:
        raise FovealError("image.damaged", f"cannot be read: {error.strerror or error}") from error
    # Zeros that fill a file up to its promised length, as after a broken copy, would decode as picture.
    return data.rstrip(b"\x00") if header.reader is JpegImageFile else data, header


def _decode_dicom(data: bytes, most_pixels: int) -> Decoded:
    from foveal.fundus.dicom import read_dicom  # pydicom takes long to import

    pixels = read_dicom(data, most_pixels)
    return Decoded(pixels, pixels.shape[1], pixels.shape[0])


def _reduction(header: Header, minimum: int) -> int:
    """Return the largest of 1, 2, 4, 8 that leaves the short side at `minimum` px or more."""
    if header.reader is not JpegImageFile:
        return 1
    short = min(header.width, header.height)
    return next((factor for factor in (8, 4, 2) if -(-short // factor) >= minimum), 1)


def _suits_opencv(data: bytes, header: Header) -> bool:
    """Say whether OpenCV can be trusted with a file: it ends as it should, with colours OpenCV understands."""
    if header.reader is TiffImageFile and header.mode not in _TIFF_MODES_FOR_OPENCV:
        return False
    return _END_MARKS.get(header.reader, b"") in data[-_END_BYTES:]


def _with_opencv(data: bytes, factor: int) -> np.ndarray | None:
    """Return `[h, w, 3]` RGB of the file's own depth, not turned; None where OpenCV cannot read it."""
    flags = _REDUCED.get(factor, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH) | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None  # Pillow has the last word, and the reason
    return None if pixels is None else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _with_pillow(data: bytes, reader: type[ImageFile.ImageFile]) -> np.ndarray:
    """Return `[h, w, 3]` RGB of the file's own depth, not turned; refuse what is cut off."""
    try:
        image = reader(BytesIO(data))
    except COMPLAINTS as error:
        raise FovealError("image.damaged", DAMAGED) from error
    return _rgb_of(image)


def _rgb_of(image: Image.Image) -> np.ndarray:
    """Return `[h, w, 3]` RGB of the picture's own depth, not turned; refuse what is cut off."""
    try:
        image.load()
        deep = image.mode.startswith(("I", "F"))  # Pillow would clip these at 255, not scale them
        pixels = np.asarray(image if deep else image.convert("RGB"))
    except COMPLAINTS as error:
        raise FovealError("image.damaged", DAMAGED) from error
    return np.stack([pixels] * 3, axis=-1) if deep else pixels


def _to_eight_bits(pixels: np.ndarray) -> np.ndarray:
    """Scale whole numbers to 0..255 by the smallest of 8, 12 and 16 bits that holds the brightest value.

    Cameras store 12 bits in 16-bit files without saying so; taken as 16 bits such a photograph would be black.
    A true 16-bit photograph whose brightest point is below 1/16 of the range does not occur.
    """
    if pixels.dtype == np.uint8:
        return pixels
    brightest = int(pixels.max()) if pixels.dtype.kind in "iu" and pixels.min() >= 0 else -1
    if not 0 <= brightest <= 65535:
        raise FovealError("image.damaged", f"pixels of type {pixels.dtype}; 8 or 16 bits a channel were expected")
    ceiling = next(ceiling for ceiling in (255, 4095, 65535) if brightest <= ceiling)
    return cv2.convertScaleAbs(pixels.astype(np.uint16, copy=False), alpha=255 / ceiling)


def _turn(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Undo an EXIF orientation (1 to 8), as the standard defines them."""
    if orientation >= 5:  # 5 to 8 are 1 to 4 after a swap of rows and columns
        pixels = cv2.transpose(pixels)
        orientation -= 4
    flip = {2: 1, 3: -1, 4: 0}.get(orientation)
    return pixels if flip is None else cv2.flip(pixels, flip)
