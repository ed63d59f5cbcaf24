"""Decode a JPEG, and refuse one whose compressed data is damaged.

libjpeg fills what it cannot decode and only warns. simplejpeg makes an error of its warnings, Pillow drops them. Damage
after which the data still has a meaning, such as a flipped bit in a baseline file, is not noticed by libjpeg either.
"""

import re
import struct
from io import BytesIO

import numpy as np
import simplejpeg
from PIL.JpegImagePlugin import JpegImageFile

from foveal.errors import FovealError
from foveal.fundus.header import DAMAGED, undamaged

_MARK = re.compile(rb"\xff[^\x00\xff]")  # in compressed data, 0xFF is followed by 0
_END = b"\xff\xd9"


def decode_jpeg(data: bytes, factor: int = 1) -> np.ndarray:
    """Return uint8 `[h, w, 3]` RGB, not rotated, each side divided by `factor` (1, 2, 4, 8), or raise image.damaged."""
    with undamaged():
        image = JpegImageFile(BytesIO(data))
    pixels = _with_libjpeg(data, image, factor) if image.mode in ("L", "RGB") else None
    if pixels is not None:
        return pixels
    with undamaged():
        if factor > 1:
            image.draft(None, (max(1, image.width // factor), max(1, image.height // factor)))
        return np.asarray(image.convert("RGB"))


def _with_libjpeg(data: bytes, image: JpegImageFile, factor: int) -> np.ndarray | None:
    """The pixels; None for a variant that simplejpeg does not read. FovealError if libjpeg warns of damage."""
    given = {"min_width": -(-image.width // factor), "min_height": -(-image.height // factor)}
    try:
        return simplejpeg.decode_jpeg(data, "RGB", **given)
    except ValueError as problem:
        try:
            simplejpeg.decode_jpeg(data, "RGB", **given, strict=False)
        except ValueError:
            return None
        raise FovealError("image.damaged", f"{DAMAGED}: {problem}") from None  # it was only a warning


def segments(data: bytes) -> list[tuple[int, int, int]]:
    """The (marker, start, end) of each segment of a JPEG up to its first scan; fewer if they are damaged."""
    found, at = [], 2
    while data[at : at + 1] == b"\xff" and at + 4 <= len(data):
        marker, length = data[at + 1], struct.unpack(">H", data[at + 2 : at + 4])[0]
        if marker == 0xFF:  # a byte of padding
            at += 1
            continue
        found.append((marker, at + 4, at + 2 + length))
        at += 2 + length
        if marker == 0xDA:
            break
    return found


def without_headers(data: bytes) -> bytes | None:
    """The JPEG without EXIF, comments, previews and what follows the picture; None for one with several scans."""
    start, end = _compressed(data)
    if not start:
        return None
    parts = [data[:2]]
    for kind, at, stop in segments(data):
        if kind == 0xE0 and data[at : at + 4] == b"JFIF":  # says that its colours are YCbCr
            parts.append(b"\xff\xe0\x00\x10JFIF\0\1\1\0\0\1\0\1\0\0")
        elif kind == 0xEE or not (0xE0 <= kind <= 0xEF or kind == 0xFE):  # 0xEE, of Adobe, says what its colours are
            parts.append(data[at - 4 : stop])
    return b"".join([*parts, data[start:end], _END])


def _compressed(data: bytes) -> tuple[int, int]:
    """Where the compressed data of a file with a single scan begins and ends; (0, 0) for other files."""
    parts = {marker: (start, end) for marker, start, end in segments(data)}
    frame, scan = parts.get(0xC0, parts.get(0xC1)), parts.get(0xDA)
    if frame is None or scan is None or frame[0] + 6 > len(data) or data[scan[0]] != data[frame[0] + 5]:
        return 0, 0  # the last condition: the components are in several scans
    for number, mark in enumerate(_MARK.finditer(data, scan[1])):
        kind = data[mark.start() + 1]
        if kind == 0xD9:
            return scan[1], mark.start()
        if kind != 0xD0 + number % 8 or 0xDD not in parts:  # no restart marker, or one out of order, is damage
            break
    raise FovealError("image.damaged", DAMAGED)
