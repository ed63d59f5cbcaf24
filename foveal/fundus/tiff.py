"""Decode the photograph in a TIFF.

Pillow reads 8-bit pages of all kinds and reports damage, which OpenCV hides; OpenCV reads 16-bit colours, which Pillow
cuts to 8 bits. Neither reads 16-bit colours in separate planes, or 16-bit grey values that count from white: such a
page goes to Pillow as one grey page per plane, with a header written for it.
"""

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
from foveal.fundus.header import COMPLAINTS, DAMAGED, check_pixels, undamaged
from foveal.fundus.jpeg import decode_jpeg

Tags = Mapping[int, tuple[int, ...]]
_MOST_PAGES = 64  # of which the largest is looked for
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR = 256, 257, 258, 259, 262, 277, 284
_NUMBERS, _SIGNED = 339, 2
_REDUCED, _INSIDE = 254, 330  # whether a page is a thumbnail, and pages inside it
_PLACES = (273, 279, 324, 325)  # offsets and byte counts of strips and of tiles
# What else a decoder has to know, and the defaults of what may be missing.
_LAYOUT = (_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, 266, 274, _SAMPLES, 278, _PLANAR, 317, 322, 323)
_USUAL = {_BITS: (1,), _SAMPLES: (1,), _PLANAR: (1,)}
_JPEG, _PACKBITS, _DEFLATE, _TABLES = 7, 32773, (8, 32946), 347
_YCBCR = 6
# Pillow would refuse these kinds while it reads the header, before `decode_tiff` turns them into others or names them.
OPEN_INFO.setdefault((b"MM", 0, (1,), 1, (16,), ()), ("I;16B", "I;16B"))
for kind, modes in list(OPEN_INFO.items()):
    if kind[2] == (1,):
        OPEN_INFO.setdefault((*kind[:2], (2,), *kind[3:]), modes)

# libtiff prints complaints without the name of the file. Errors reach Pillow all the same.
_silence = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)()
with suppress(OSError, AttributeError):  # a Pillow that has libtiff inside does not show its functions
    _libtiff = ctypes.CDLL(_imaging.__file__)
    _libtiff.TIFFSetErrorHandler(_silence)
    _libtiff.TIFFSetWarningHandler(_silence)


def decode_tiff(data: bytes, most_pixels: int) -> np.ndarray:
    """Return `[h, w, 3]` RGB, upright, of the file's own depth: the first of its largest pages (others are thumbnails).

    Raises FovealError: image.damaged, .too_large (more than `most_pixels`) or .unsupported (also numbers below 0).
    """
    with undamaged(), TiffImageFile(BytesIO(data)) as image:
        _go_to_largest(image)
        check_pixels(*image.size, most_pixels)
        if image.tag_v2.get(_REDUCED, 0) == 1 and _INSIDE in image.tag_v2:
            raise FovealError("image.unsupported", "a raw file of a camera, whose photograph only other tools read")
        found = {tag: _numbers(image.tag_v2[tag]) for tag in (*_LAYOUT, *_PLACES) if tag in image.tag_v2}
        tags = _USUAL | found
        _check_parts(data, tags, image.tag_v2.get(_TABLES, b""))
        pixels = _pixels(image, data, tags)
        signed = _SIGNED in _numbers(image.tag_v2.get(_NUMBERS, 1))
        if signed and (tags[_PHOTOMETRIC] == (0,) or pixels.min() < 0 or pixels.max() >= 2 ** (tags[_BITS][0] - 1)):
            what = "signed numbers of which some are below 0, or 0 is white; save it with unsigned ones"
            raise FovealError("image.unsupported", what)
        return pixels


def _pixels(image: TiffImageFile, data: bytes, tags: Tags) -> np.ndarray:
    deep, samples = set(tags[_BITS]) == {16}, tags[_SAMPLES][0]
    if deep and (tags[_PHOTOMETRIC] == (0,) or (samples > 1 and tags[_PLANAR] == (2,))):
        return _planes(data, tags)
    pixels = rgb_of(image)
    return _deep_colours(data, tags) if deep and samples >= 3 else pixels


def _go_to_largest(image: TiffImageFile) -> None:
    sizes: list[int] = []
    for page in range(_MOST_PAGES):
        try:
            image.seek(page)
        except (EOFError, *COMPLAINTS):
            if not page:
                raise
            break  # the end, or damage: the pages before it may be fine
        sizes.append(image.width * image.height)
    image.seek(sizes.index(max(sizes)))


def _check_parts(data: bytes, tags: Tags, tables: bytes) -> None:
    """Refuse strips and tiles whose checksum or length is wrong, and JPEGs that are damaged; libtiff ignores these."""
    offsets, counts = (tags.get(strips, tags.get(tiles, ())) for strips, tiles in ((273, 324), (279, 325)))
    parts = [data[offset : offset + count] for offset, count in zip(offsets, counts, strict=True)]
    compression = tags[_COMPRESSION][0]
    for part in parts:
        if compression == _JPEG:
            decode_jpeg(part[:2] + tables[2:-2] + part[2:], 8)
        elif compression in _DEFLATE:
            with undamaged():
                zlib.decompress(part)
    if compression == _PACKBITS and 273 in tags and {*tags[_BITS]} <= {8, 16} and tags[_PHOTOMETRIC][0] != _YCBCR:
        bits = sum(tags[_BITS]) if len(tags[_BITS]) > 1 else tags[_BITS][0] * tags[_SAMPLES][0]
        if sum(map(_unpacked_length, parts)) != tags[_WIDTH][0] * tags[_HEIGHT][0] * bits // 8:
            raise FovealError("image.damaged", DAMAGED)


def _unpacked_length(packed: bytes) -> int:
    """How many bytes PackBits data stands for: runs of a byte, its count in front, or of bytes as they are."""
    at = length = 0
    while at < len(packed):
        head = packed[at]
        size, count = (head + 2, head + 1) if head < 128 else (2, 257 - head) if head > 128 else (1, 0)
        at += size
        length += count if at <= len(packed) else 0  # a byte of padding at the end
    return length


def _deep_colours(data: bytes, tags: Tags) -> np.ndarray:
    """uint16 `[h, w, 3]` of 16-bit colours, as OpenCV reads them."""
    page = _with_header(data, {**tags, **({338: (2,)} if tags[_SAMPLES] == (4,) else {})})
    pixels = cv2.imdecode(np.frombuffer(page, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    if pixels is None:
        raise FovealError("image.unsupported", "16-bit colours in a rare variant of TIFF")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def rgb_of(image: Image.Image) -> np.ndarray:
    """Return `[h, w, 3]` RGB of an open picture's own depth, not rotated."""
    image.load()
    deep = image.mode.startswith(("I", "F"))  # Pillow would clip these at 255, not scale them
    pixels = np.asarray(image if deep else image.convert("RGB"))
    return np.stack([pixels] * 3, axis=-1) if deep else pixels


def _planes(data: bytes, tags: Tags) -> np.ndarray:
    """uint16 `[h, w, 3]` of a page with 16-bit planes of their own, or of one that counts from white."""
    planes = tags[_SAMPLES][0] if tags[_PLANAR] == (2,) else 1
    grey = {**tags, **_USUAL, _BITS: (16,), _PHOTOMETRIC: (1,)}
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


def _with_header(data: bytes, tags: Tags) -> bytes:
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
