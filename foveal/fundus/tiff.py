"""Decode the photograph in a TIFF.

Pillow reads 8-bit pages of all kinds and reports damage, which OpenCV hides; OpenCV reads 16-bit colours, which Pillow
cuts to 8 bits. Neither reads 16-bit colours in separate planes, or 16-bit grey values that count from white.
"""

import ctypes
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from io import BytesIO

import cv2
import numpy as np
from PIL import Image, _imaging
from PIL.TiffImagePlugin import OPEN_INFO, TiffImageFile

from foveal.errors import FovealError
from foveal.fundus.header import COMPLAINTS, check_alone, check_pixels, undamaged
from foveal.fundus.jpeg import decode_jpeg

_MOST_PAGES = 64  # of which the largest is looked for
_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR = 258, 259, 262, 277, 284
_NUMBERS, _SIGNED = 339, 2
_REDUCED, _INSIDE = 254, 330  # whether a page is a thumbnail, and pages inside it
_PLACES = (273, 279, 324, 325)  # offsets and byte counts of strips and of tiles
_LAYOUT = (_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR)
_USUAL = {_BITS: (1,), _SAMPLES: (1,), _PLANAR: (1,)}  # the defaults of what may be missing
_JPEG, _DEFLATE, _TABLES = 7, (8, 32946), 347
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
    """Return `[h, w, 3]` RGB, upright, of the file's own depth: its largest page (others are thumbnails).

    Raises FovealError: image.damaged, .too_large (more than `most_pixels`), .several (two pages of the largest size) or
    .unsupported (also signed numbers).
    """
    with undamaged(), TiffImageFile(BytesIO(data)) as image:
        page = _go_to_largest(image)
        check_pixels(*image.size, most_pixels)
        if image.tag_v2.get(_REDUCED, 0) == 1 and _INSIDE in image.tag_v2:
            raise FovealError("image.unsupported", "a raw camera file; convert it to PNG or TIFF first")
        tags = _USUAL | {tag: _numbers(image.tag_v2[tag]) for tag in (*_LAYOUT, *_PLACES) if tag in image.tag_v2}
        _check_parts(data, tags, image.tag_v2.get(_TABLES, b""))
        deep, samples = set(tags[_BITS]) == {16}, tags[_SAMPLES][0]
        signed = _SIGNED in _numbers(image.tag_v2.get(_NUMBERS, 1))
        if signed or (deep and (tags[_PHOTOMETRIC] == (0,) or (samples > 1 and tags[_PLANAR] == (2,)))):
            what = "signed numbers, or 16 bits in separate planes or with white as 0; save it as PNG"
            raise FovealError("image.unsupported", what)
        pixels = rgb_of(image)  # also of deep colours, since Pillow finds damage
        if not deep or samples < 3:
            return pixels
        flags, only = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH, (page, page + 1)
        read, pages = cv2.imdecodemulti(np.frombuffer(data, np.uint8), flags, range=only)
        if not read:
            raise FovealError("image.unsupported", "16-bit colours in a rare variant of TIFF; save it as PNG")
        return cv2.cvtColor(pages[0], cv2.COLOR_BGR2RGB)


def _go_to_largest(image: TiffImageFile) -> int:
    """Open the largest page; returns its number. FovealError if there are several."""
    sizes = [image.width * image.height]
    with suppress(EOFError, *COMPLAINTS):  # the end, or damage: the pages before it may be fine
        for page in range(1, _MOST_PAGES):
            image.seek(page)
            sizes.append(image.width * image.height)
    largest = sizes.index(max(sizes))
    check_alone(sizes.count(max(sizes)), "pages")
    image.seek(largest)
    return largest


def _check_parts(data: bytes, tags: Mapping[int, tuple[int, ...]], tables: bytes) -> None:
    """Refuse strips and tiles whose checksum is wrong, and JPEGs that are damaged; libtiff ignores these."""
    offsets, counts = (tags.get(strips, tags.get(tiles, ())) for strips, tiles in ((273, 324), (279, 325)))
    parts = [data[offset : offset + count] for offset, count in zip(offsets, counts, strict=True)]
    compression = tags[_COMPRESSION][0]
    for part in parts:
        if compression == _JPEG:
            decode_jpeg(part[:2] + tables[2:-2] + part[2:], 8)
        elif compression in _DEFLATE:
            with undamaged():
                zlib.decompress(part)


def rgb_of(image: Image.Image) -> np.ndarray:
    """Return `[h, w, 3]` RGB of an open picture's own depth, not rotated."""
    image.load()
    deep = image.mode.startswith(("I", "F"))  # Pillow would clip these at 255, not scale them
    pixels = np.asarray(image if deep else image.convert("RGB"))
    return np.stack([pixels] * 3, axis=-1) if deep else pixels


def _numbers(value: int | Iterable[int]) -> tuple[int, ...]:
    return tuple(map(int, value)) if isinstance(value, Iterable) else (int(value),)
