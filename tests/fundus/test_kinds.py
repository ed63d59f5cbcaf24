"""Kinds of files that decoders refuse, misread or call sound although they are damaged; each gives the right pixels."""

import struct
import zlib
from contextlib import nullcontext
from io import BytesIO

import cv2
import numpy as np
import pytest
from PIL import Image

from foveal.fundus.decode import decode
from foveal.fundus.header import is_picture

WIDTH, HEIGHT = 90, 70


@pytest.fixture(scope="module")
def picture():
    """Smooth colours, uint8 [70, 90, 3]."""
    coarse = np.random.default_rng(0).integers(20, 220, (5, 7, 3), dtype=np.uint8)
    return cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)


def saved(pixels, format, **options):
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format, **options)
    return buffer.getvalue()


def tiff(strips, order, photometric, bits, samples, planar=1, compression=1, predictor=1, numbers=1):
    """A TIFF of one page of WIDTH x HEIGHT px, with these strips."""
    offsets = [8 + sum(map(len, strips[:number])) for number in range(len(strips))]
    tags = {
        256: [WIDTH], 257: [HEIGHT], 258: [bits] * samples, 259: [compression], 262: [photometric], 273: offsets,
        277: [samples], 278: [HEIGHT], 279: list(map(len, strips)), 284: [planar], 317: [predictor],
        339: [numbers],
    }  # fmt: skip
    if samples == 4:
        tags[338] = [2]
    data = b"".join(strips)
    start = 8 + len(data) + len(data) % 2
    behind, entries, room = b"", b"", start + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        if len(values) > 1:
            packed, behind = struct.pack(f"{order}I", room + len(behind)), behind + packed
        entries += struct.pack(f"{order}HHI", tag, 4, len(values)) + packed
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", start)
    return head + data + bytes(len(data) % 2) + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + behind


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["white", "black", "planar", "chunky", "chunky+alpha"])
def test_sixteen_bits_of_a_tiff(picture, kind, packed, order, refuses):
    deep = picture.astype(np.uint16) * 257
    with_alpha = np.dstack([deep, np.full((HEIGHT, WIDTH), 30_000, np.uint16)])
    planes, photometric, samples = {
        "white": ([65535 - deep[..., 1]], 0, 1), "black": ([deep[..., 1]], 1, 1),
        "planar": (list(np.moveaxis(deep, 2, 0)), 2, 3),
        "chunky": ([deep], 2, 3), "chunky+alpha": ([with_alpha], 2, 4),
    }[kind]  # fmt: skip
    strips = [plane.astype(f"{order}u2").tobytes() for plane in planes]
    strips = list(map(zlib.compress, strips)) if packed else strips
    data = tiff(strips, order, photometric, 16, samples, 2 if len(strips) > 1 else 1, 8 if packed else 1)
    if kind in ("white", "planar"):
        with refuses("image.unsupported"):
            decode(data, 1000)
        return
    expected = picture if samples > 1 else np.repeat(picture[..., 1:2], 3, axis=2)
    assert np.array_equal(decode(data, 1000).pixels, expected)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planar", [False, True])
def test_eight_bits_of_a_tiff(picture, planar, order):
    strips = [plane.tobytes() for plane in np.moveaxis(picture, 2, 0)] if planar else [picture.tobytes()]
    assert np.array_equal(decode(tiff(strips, order, 2, 8, 3, 2 if planar else 1), 1000).pixels, picture)


@pytest.mark.parametrize("big", [False, True])
def test_of_a_tiff_the_largest_page_and_not_one_of_several_photographs(picture, big, refuses):
    small, other = Image.fromarray(picture[::4, ::4].copy()), Image.fromarray(255 - picture)
    photograph = Image.fromarray(picture)
    for pages in ([small, photograph], [photograph, small], [photograph, other], [small, photograph, other]):
        buffer = BytesIO()
        pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:], big_tiff=big)
        with refuses("image.several", 2) if other in pages else nullcontext():
            decoded = decode(buffer.getvalue(), 1000)
            assert (decoded.width, decoded.height) == (WIDTH, HEIGHT) and np.array_equal(decoded.pixels, picture)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("bits", "samples"), [(8, 1), (16, 1), (16, 3)])
def test_signed_numbers_of_a_tiff_are_refused(order, bits, samples, refuses):
    strip = np.zeros((HEIGHT, WIDTH, samples), f"{order}i{bits // 8}").tobytes()
    with refuses("image.unsupported"):
        decode(tiff([strip], order, 1 if samples == 1 else 2, bits, samples, numbers=2), 1000)


def damaged(data, share, count=30):
    """The file with `count` bytes after this share of it overwritten."""
    at = int(share * len(data))
    noise = np.random.default_rng(at).integers(0, 255, count, dtype=np.uint8).tobytes()
    return data[:at] + noise + data[at + count :]


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "jpeg", "lzma"])
def test_damaged_strips_are_refused_without_a_message(picture, refuses, capfd, compression):
    data = saved(picture, "TIFF", compression=compression)
    assert np.abs(decode(data, 1000).pixels.astype(int) - picture).mean() < 4
    with refuses("image.damaged"):
        decode(damaged(data, 0.4), 1000)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("minimum", [1, 1000])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"restart_marker_rows": 1}, {"optimize": True}])
def test_a_damaged_jpeg_is_refused_without_a_message(picture, refuses, capfd, options, minimum):
    data = saved(cv2.resize(picture, (400, 300)), "JPEG", quality=95, **options)
    assert decode(data, minimum).pixels.shape[2] == 3
    half, part = len(data) // 2, len(data) // 4  # more than one restart interval
    bad = [data[:half] + filling + data[half + part :] for filling in (b"", bytes(part), data[half - part : half] * 2)]
    for one in bad:
        with refuses("image.damaged"):
            decode(one, minimum)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("size", [(8, 8), (16, 16), (17, 9), (1, 1), (90, 70), (333, 5)])
@pytest.mark.parametrize("flat", [True, False])
def test_sound_jpegs_of_any_size_are_read(size, flat):
    noise = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    pixels = np.zeros_like(noise) if flat else noise
    for quality in (5, 50, 95, 100):
        for options in ({}, {"subsampling": 0}, {"restart_marker_blocks": 1}, {"progressive": True}):
            data = saved(pixels, "JPEG", quality=quality, **options)
            for tail in (b"", bytes(100), b"\xff\xd8 more " + bytes(range(256)), data):
                assert decode(data + tail, 1).height == size[1]


def test_a_damaged_png_is_refused_without_a_message(picture, refuses, capfd):
    data = saved(picture, "PNG")
    with refuses("image.damaged"):
        decode(damaged(data, 0.4, 3), 1000)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("format", "options", "tolerance"),
    [("AVIF", {"quality": 95, "subsampling": "4:4:4"}, 3), ("JPEG2000", {"no_jp2": True}, 0), ("JPEG2000", {}, 0),
     ("PPM", {}, 0), ("MPO", {"quality": 95, "subsampling": 0}, 3), ("TGA", {}, 0), ("PCX", {}, 0), ("SGI", {}, 0),
     ("TGA", {"compression": "tga_rle"}, 0), ("DIB", {}, 0), ("QOI", {}, 0), ("WEBP", {"lossless": True}, 0)],
)  # fmt: skip
def test_other_formats_and_their_beginning(picture, format, options, tolerance):
    data = saved(picture, format, **options)
    assert is_picture(data[:132])
    assert np.abs(decode(data, 1000).pixels.astype(int) - picture).mean() <= tolerance


def test_photoshop_and_sun_raster(picture):
    head = b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, HEIGHT, WIDTH, 8, 3) + bytes(14)
    sun = struct.pack(">8I", 0x59A66A95, WIDTH, HEIGHT, 24, picture.size, 1, 0, 0) + picture[..., ::-1].tobytes()
    for data in (head + np.moveaxis(picture, 2, 0).tobytes(), sun):
        assert is_picture(data[:132])
        assert np.array_equal(decode(data, 1000).pixels, picture)


@pytest.mark.parametrize("kind", ["RGB", "L", "P", "RGBA", "1"])
def test_kinds_of_tga(picture, kind, refuses):
    image = Image.fromarray(picture).quantize(64) if kind == "P" else Image.fromarray(picture).convert(kind)
    buffer = BytesIO()
    image.save(buffer, "TGA")
    assert is_picture(buffer.getvalue()[:132])
    assert np.array_equal(decode(buffer.getvalue(), 1000).pixels, np.asarray(image.convert("RGB")))
    with refuses("image.damaged"):
        decode(buffer.getvalue()[:400], 1000)


def test_a_text_with_numbers_is_a_ppm(picture):
    text = f"P3 {WIDTH} {HEIGHT} 255\n{' '.join(map(str, picture.ravel()))}\n"
    assert np.array_equal(decode(text.encode(), 1000).pixels, picture)


@pytest.mark.parametrize("kind", ["ico", "icns", "dds", "eps"])
def test_pictures_of_other_kinds_are_refused_by_name(picture, kind, refuses):
    data = saved(cv2.resize(picture, (64, 64)), kind)
    assert is_picture(data[:132])
    with refuses("image.unsupported", "PNG"):
        decode(data, 10)


@pytest.mark.parametrize(
    ("start", "ending"),
    [(b"II*\0\x10\0\0\0CR\2\0", ""), (b"\0\0\0\x18ftypcrx \0\0\0\1", ""), (b"FUJIFILMCCD-RAW ", ""), (b"IIRO", "")]
    + [(b"II*\0\x08\0\0\0", ending) for ending in (".nef", ".arw", ".dng", ".cr2")],
)
def test_raw_files_of_cameras_are_refused_by_name(start, ending, refuses):
    with refuses("image.unsupported", "raw", "TIFF"):
        decode(start + bytes(200), 10, name=f"x{ending}")


def test_heic_names_the_package(refuses):
    start = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    assert is_picture(start)
    with refuses("image.unsupported", "pillow-heif"):
        decode(start + bytes(500), 1000)


@pytest.mark.parametrize(
    "start",
    [b"BMI,age\n21,60", b"P1 was seen twice", b"RIFF....WAVE", b"", b"id,grade\n", b"PK\3\4", b"%PDF-1.7",
     b"\0\0\0\x18ftypisom\0\0\0\0mp42isom", bytes(132), b"\0\0\x08\3\0\0\xea\x60\0\0\0\x1c\0\0\0\x1c",
     b"\0\0\2\0\1\0\x20\x20\0\0\0\0\0\0\x30\1\0\0", b"\0\1\0\0\0\x0f\0\x80\0\3\0\x70DSIG\0\0\0\1"],
)  # fmt: skip
def test_what_does_not_begin_like_a_picture(start):
    assert not is_picture(start)
