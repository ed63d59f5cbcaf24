"""Read one photograph into upright 8-bit RGB, with no more pixels than are needed.

A JPEG decoder can return a half, a quarter or an eighth of each side in a fraction of the time; `decode` asks for the
smallest that still has the side the caller needs. Pillow reads the header, so that a file is checked before memory is
spent on it. JPEG, TIFF and DICOM have readers of their own, which notice damage that the decoders hide. Of the others,
OpenCV decodes what it reads correctly, and Pillow the rest.
Colour profiles are ignored: fundus cameras rarely embed one, and a grader learns from raw values.
"""

import warnings
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import IO, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageFile

from foveal.errors import FovealError
from foveal.fundus.header import MAXIMUM_PIXELS, START, check_pixels, is_dicom, orientation_of, read_header, undamaged
from foveal.fundus.jpeg import decode_jpeg
from foveal.fundus.tiff import decode_tiff, rgb_of

# A bad file is reported once, by FovealError; OpenCV would also write to stderr. The switch has moved between
# OpenCV 4 and 5; 0 means silence in both.
(getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel)(0)
warnings.filterwarnings("ignore", module="PIL")  # of damaged metadata, without the name of the file


class Decoded(NamedTuple):
    """One photograph: upright pixels, and its size before any reduction."""

    pixels: np.ndarray  # uint8 [h, w, 3], RGB
    width: int  # of the original in px, after EXIF orientation
    height: int


def decode(source: Path | bytes, minimum: int, *, name: str = "", most_pixels: int = MAXIMUM_PIXELS) -> Decoded:
    """Read a photograph as upright RGB; JPEGs are reduced by 2, 4 or 8, as far as `minimum` allows.

    `source`: a file, or the bytes of one; `name`: of bytes (its ending shows a DICOM file that lacks the signature).
    `minimum`: smallest acceptable short side of the result, in px; smaller photographs are not enlarged.
    Grey and palette pictures become RGB, alpha is dropped, 16 bits become 8.

    Raises FovealError with a short reason without the file name: image.missing, .empty, .not_a_file, .not_a_picture,
    .damaged, .too_large (more than `most_pixels`), .unsupported, .unavailable (another attempt may work), or one of
    `read_dicom`; image.several for an animation, since each frame may be a photograph.
    """
    suffix = Path(name).suffix if isinstance(source, bytes) else source.suffix
    with BytesIO(source) if isinstance(source, bytes) else _open(source) as file:
        data, header = _read(file, suffix.lower(), most_pixels)
    if header is None or header.format == "TIFF":
        from foveal.fundus.dicom import read_dicom  # pydicom takes long to import

        pixels = _upright((read_dicom if header is None else decode_tiff)(data, most_pixels), 1)
        return Decoded(pixels, pixels.shape[1], pixels.shape[0])
    orientation = orientation_of(header)
    if header.format == "JPEG":
        factor = next((factor for factor in (8, 4, 2) if -(-min(header.size) // factor) >= minimum), 1)
        stored = decode_jpeg(data, factor)
    elif (found := _with_opencv(data, header)) is not None:
        stored = found
    else:
        with undamaged():
            stored = rgb_of(type(header)(BytesIO(data)))
    width, height = header.size if orientation < 5 else header.size[::-1]
    return Decoded(_upright(stored, orientation), width, height)


def pixels_of(image: Image.Image) -> np.ndarray:
    """Return an open picture as `decode` returns its file, but never reduced: uint8 `[h, w, 3]`, RGB, upright."""
    check_pixels(*image.size, MAXIMUM_PIXELS)
    orientation = orientation_of(image)  # as the header has it; loading a PNG could find another one at its end
    with undamaged():
        return _upright(rgb_of(image), orientation)


def _open(path: Path) -> IO[bytes]:
    """Open a regular file; refuse others unopened, since opening a pipe could block for ever."""
    try:
        if path.exists() and not path.is_file():
            kind = "a folder" if path.is_dir() else "a pipe, a socket or a device"
            raise FovealError("image.not_a_file", f"{kind}, not a file")
        return path.open("rb")
    except FileNotFoundError:
        raise FovealError("image.missing", "no such file") from None
    except OSError as error:
        raise FovealError("image.unavailable", f"cannot be opened: {error.strerror or error}") from error


def _read(file: IO[bytes], suffix: str, most_pixels: int) -> tuple[bytes, ImageFile.ImageFile | None]:
    """The bytes of a file, and its header (None for DICOM), which is checked before the rest is read."""
    try:
        start = file.read(START)
        if not start:
            raise FovealError("image.empty", "empty file")
        file.seek(0)
        if is_dicom(start, suffix):
            return file.read(), None
        header = read_header(file, start, most_pixels, suffix)
        file.seek(0)
        data = file.read()
    except OSError as error:
        raise FovealError("image.unavailable", f"cannot be read: {error.strerror or error}") from error
    # A broken copy can fill a file with zeros up to its length, and they would be decoded.
    return data.rstrip(b"\x00") if header.format == "JPEG" else data, header


def _with_opencv(data: bytes, header: ImageFile.ImageFile) -> np.ndarray | None:
    """`[h, w, 3]` RGB of the file's own depth, not rotated; None if OpenCV does not decode it as Pillow does.
    FovealError for a PNG whose checksums are wrong: OpenCV fills what is missing with grey, or prints a message."""
    if header.format not in ("PNG", "BMP", "GIF", "WEBP"):
        return None
    if header.format == "PNG":
        with undamaged():
            type(header)(BytesIO(data)).verify()
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    with suppress(cv2.error):  # Pillow may read it, or gives the reason
        if (pixels := cv2.imdecode(np.frombuffer(data, np.uint8), flags)) is not None:
            return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return None


def _to_eight_bits(pixels: np.ndarray) -> np.ndarray:
    """Scale whole numbers to 0..255 by the smallest of 8, 12 and 16 bits that holds the brightest value."""
    # Some cameras store 12 bits in 16-bit files without saying so; read as 16 bits such a photograph is black. No true
    # 16-bit photograph has its brightest point below 1/16 of the range.
    if pixels.dtype == np.uint8:
        return pixels
    brightest = int(pixels.max()) if pixels.dtype.kind in "iu" and pixels.min() >= 0 else -1
    if not 0 <= brightest <= 65535:
        raise FovealError("image.unsupported", f"pixels of type {pixels.dtype}, not of 8 or 16 bits")
    ceiling = next(ceiling for ceiling in (255, 4095, 65535) if brightest <= ceiling)
    return cv2.convertScaleAbs(pixels.astype(np.uint16, copy=False), alpha=255 / ceiling)


def _upright(stored: np.ndarray, orientation: int) -> np.ndarray:
    """Eight bits, with an EXIF orientation (1 to 8) undone as the standard defines them."""
    pixels = _to_eight_bits(stored)
    if orientation >= 5:  # 5 to 8 are 1 to 4 after a swap of rows and columns
        pixels, orientation = cv2.transpose(pixels), orientation - 4
    flip = {2: 1, 3: -1, 4: 0}.get(orientation)
    return np.ascontiguousarray(pixels if flip is None else cv2.flip(pixels, flip))
