"""Decode the photograph in a TIFF.

Pillow reads 8-bit pages of all kinds and reports damage, which OpenCV hides; OpenCV reads 16-bit colours, which Pillow
cuts to 8 bits. Neither reads 16-bit colours in separate planes, or 16-bit grey values that count from white: such a
page goes to Pillow as one grey page per plane, with a header written for it.
"""

from __future__ import annotations

import ctypes
import struct
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from io import BytesIO

import cv2
import numpy as np
from PIL import Image, _imaging
from PIL.TiffImagePlugin import OPEN_INFO, TiffImageFile

from foveal.errors import FovealError
from foveal.fundus.header import COMPLAINTS, DAMAGED, check_pixels
from foveal.fundus.jpeg import decode_jpeg

_MOST_PAGES = 64  # of which the largest is looked for
_WIDTH, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR = 256, 258, 259, 262, 277, 284
_REDUCED, _INSIDE = 254, 330  # whether a page is a thumbnail, and pages inside it
_PLACES = (273, 279, 324, 325)  # offsets and byte counts of strips and of tiles
_LAYOUT = (_WIDTH, 257, _COMPRESSION, _PHOTOMETRIC, 266, 274, 278, 317, 322, 323)  # what else a decoder has to know
_JPEG, _DEFLATE, _TABLES = 7, (8, 32946), 347
# Pillow would refuse this kind while it reads the header, before `_planes` turns it into another one.
OPEN_INFO.setdefault((b"MM", 0, (1,), 1, (16,), ()), ("I;16B", "I;16B"))

# libtiff prints complaints without the name of the file. Errors reach Pillow all the same.
_silence = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)()
with suppress(OSError, AttributeError):  # a Pillow that has libtiff inside does not show its functions
    _libtiff = ctypes.CDLL(_imaging.__file__)
    _libtiff.TIFFSetErrorHandler(_silence)
    _libtiff.TIFFSetWarningHandler(_silence)


def decode_tiff(data: bytes, most_pixels: int) -> np.ndarray:
    """Return `[h, w, 3]` RGB, upright, of the file's own depth: the first of its largest pages.

    A smaller page before the photograph is a thumbnail of it. Raises FovealError: image.damaged, .too_large (more than
    `most_pixels`) or .unsupported.
    """
    try:
        with TiffImageFile(BytesIO(data)) as image:
            _go_to_largest(image)
            check_pixels(*image.size, most_pixels)
            if image.tag_v2.get(_REDUCED, 0) == 1 and _INSIDE in image.tag_v2:
                raise FovealError("image.unsupported", "a raw file of a camera, whose photograph only other tools read")
            tags = {tag: _numbers(image.tag_v2[tag]) for tag in (*_LAYOUT, *_PLACES) if tag in image.tag_v2}
            _check_parts(data, tags, image.tag_v2.get(_TABLES, b""))
            bits, samples = _numbers(image.tag_v2.get(_BITS, 1)), _numbers(image.tag_v2.get(_SAMPLES, 1))[0]
            apart = samples > 1 and _numbers(image.tag_v2.get(_PLANAR, 1)) == (2,)
            if set(bits) == {16} and (apart or tags[_PHOTOMETRIC] == (0,)):
                stored = _planes(data, tags, samples if apart else 1)
            else:
                stored = _whole(data, image, tags, bits, samples)
    except (*COMPLAINTS, KeyError, struct.error) as error:
        raise FovealError("image.damaged", f"{DAMAGED}, or a rare variant of its format") from error
    return stored


def _go_to_largest(image: TiffImageFile) -> None:
    best, most = 0, 0
    for page in range(_MOST_PAGES):
        try:
            image.seek(page)
        except EOFError:
            break
        except COMPLAINTS:
            if not page:
                raise
            break  # the pages before it may be fine
        if image.width * image.height > most:
            best, most = page, image.width * image.height
    image.seek(best)


def _check_parts(data: bytes, tags: Mapping[int, tuple[int, ...]], tables: bytes) -> None:
    """Refuse strips and tiles whose checksum is wrong, and JPEGs in them that are damaged; libtiff ignores both."""
    offsets, counts = (tags.get(strips, tags.get(tiles, ())) for strips, tiles in ((273, 324), (279, 325)))
    for offset, count in zip(offsets, counts, strict=True):
        part = data[offset : offset + count]
        if tags[_COMPRESSION][0] == _JPEG:
            decode_jpeg(part[:2] + tables[2:-2] + part[2:], 8)
        elif tags[_COMPRESSION][0] in _DEFLATE:
            try:
                zlib.decompress(part)
            except zlib.error as error:
                raise FovealError("image.damaged", DAMAGED) from error


def _whole(
    data: bytes, image: TiffImageFile, tags: Mapping[int, tuple[int, ...]], bits: tuple[int, ...], samples: int
) -> np.ndarray:
    """The page as Pillow reads it; 16-bit colours as OpenCV does, after Pillow found no damage."""
    image.load()
    if samples >= 3 and set(bits) == {16}:
        page = _with_header(data, {**tags, _BITS: bits, _SAMPLES: (samples,), **({338: (2,)} if samples == 4 else {})})
        pixels = cv2.imdecode(np.frombuffer(page, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        if pixels is None:
            raise FovealError("image.unsupported", "16-bit colours in a rare variant of TIFF")
        return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return rgb_of(image)


def rgb_of(image: Image.Image) -> np.ndarray:
    """Return `[h, w, 3]` RGB of an open picture's own depth, not rotated."""
    image.load()
    deep = image.mode.startswith(("I", "F"))  # Pillow would clip these at 255, not scale them
    pixels = np.asarray(image if deep else image.convert("RGB"))
    return np.stack([pixels] * 3, axis=-1) if deep else pixels


def _planes(data: bytes, tags: Mapping[int, tuple[int, ...]], planes: int) -> np.ndarray:
    """uint16 `[h, w, 3]` of a page with 16-bit planes of their own, or of one that counts from white."""
    grey = {**tags, _BITS: (16,), _SAMPLES: (1,), _PHOTOMETRIC: (1,)}
    found = []
    for plane in range(min(planes, 3)):
        for tag in _PLACES:
            if tag in tags:
                each = len(tags[tag]) // planes
                grey[tag] = tags[tag][plane * each : (plane + 1) * each]
        with TiffImageFile(BytesIO(_with_header(data, grey))) as image:
            image.load()
            found.append(np.asarray(image).astype(np.uint16))
    if tags[_PHOTOMETRIC] == (0,):
        found = [65535 - values for values in found]
    elif tags[_PHOTOMETRIC] not in ((1,), (2,)):
        raise FovealError("image.unsupported", "16-bit planes in a rare colour space")
    return np.stack((found if len(found) == 3 else found[:1] * 3), axis=-1)


def _with_header(data: bytes, tags: Mapping[int, tuple[int, ...]]) -> bytes:
    """A TIFF of one page: the bytes of another one, and a directory of these tags behind them."""
    order = "<" if data[:2] == b"II" else ">"
    start = len(data) + len(data) % 2
    room, entries, behind = start + 2 + 12 * len(tags) + 4, b"", b""
    for tag, values in sorted(tags.items()):
        kind, sign = (4, "I") if tag in _PLACES or max(values) > 65535 else (3, "H")
        packed = struct.pack(f"{order}{len(values)}{sign}", *values)
        if len(packed) > 4:
            packed, behind = struct.pack(f"{order}I", room + len(behind)), behind + packed
        entries += struct.pack(f"{order}HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    head = data[:2] + struct.pack(f"{order}HI", 42, start)
    directory = struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    return head + data[8:] + bytes(len(data) % 2) + directory + behind


def _numbers(value: int | Iterable[int]) -> tuple[int, ...]:
    return tuple(map(int, value)) if isinstance(value, Iterable) else (int(value),)
