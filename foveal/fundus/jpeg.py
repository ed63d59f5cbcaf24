"""Decode a JPEG with Pillow, and refuse one whose compressed data is damaged.

libjpeg fills what it cannot decode with grey and only prints a warning, which Pillow drops. The compressed data of a
sound file ends exactly where its last block does: a decoder that needs more, or less, has lost its place in between.
So the end of the data is handed out in two parts, with some more bytes behind them, and what was asked for is compared.
Damage inside one restart interval, or one scan of a progressive file, is not found.
"""

import re
import struct
from io import BytesIO

import numpy as np
from PIL.JpegImagePlugin import JpegImageFile

from foveal.errors import FovealError
from foveal.fundus.header import DAMAGED, undamaged

_SLACK = 8  # bytes that libjpeg reads ahead
_MARK = re.compile(rb"\xff[^\x00\xff]")  # in compressed data, 0xFF is followed by 0
_END = b"\xff\xd9"


class _InTwoParts(BytesIO):
    """A file whose `read` stops at two places and remembers how far it was asked for."""

    stops: tuple[int, int] = (0, 0)
    asked = 0

    def read(self, size: int | None = -1) -> bytes:
        start = self.tell()
        self.asked = max(self.asked, start)
        stop = next((stop for stop in self.stops if start < stop), None)
        most = len(self.getbuffer()) - start if size is None or size < 0 else size
        return super().read(most if stop is None else min(most, stop - start))


def decode_jpeg(data: bytes, factor: int = 1) -> np.ndarray:
    """Return uint8 `[h, w, 3]` RGB, not rotated, each side divided by `factor` (1, 2, 4 or 8) and rounded up.

    Raises FovealError (image.damaged) for a file that is truncated or whose compressed data is damaged.
    """
    start, end = _compressed(data)
    # Zeros are read as more blocks by a decoder that has lost its place, and ignored by all others.
    file = _InTwoParts(data[:end] + bytes(64 * _SLACK) + _END if start else data)
    with undamaged():
        image = JpegImageFile(file)
        if factor > 1:
            image.draft(None, (max(1, image.width // factor), max(1, image.height // factor)))
        file.asked, file.stops = 0, (end - _SLACK, end + 2 * _SLACK)
        image.load()
        pixels = np.asarray(image.convert("RGB"))
    if start and not file.stops[0] <= file.asked < file.stops[1]:
        raise FovealError("image.damaged", f"{DAMAGED}: its compressed data does not fit its size")
    return pixels


def segments(data: bytes) -> list[tuple[int, int, int]]:
    """The (marker, start, end) of each segment of a JPEG up to its first scan; fewer where they are damaged."""
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
    frame = next((parts[kind] for kind in (0xC0, 0xC1) if kind in parts), None)
    if frame is None or 0xDA not in parts or frame[0] + 6 > len(data):
        return 0, 0
    scan = parts[0xDA]
    if data[scan[0]] != data[frame[0] + 5]:  # the components are in several scans
        return 0, 0
    expected = 0  # restart marker; a marker inside the data, or one out of order, is damage
    for mark in _MARK.finditer(data, scan[1]):
        kind = data[mark.start() + 1]
        if 0xD0 <= kind <= 0xD7 and 0xDD in parts:
            if kind != 0xD0 + expected % 8:
                break
            expected += 1
        elif kind == 0xD9:
            return scan[1], mark.start()
        else:
            break
    raise FovealError("image.damaged", DAMAGED)
