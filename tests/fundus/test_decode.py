"""Every format and every kind of bad file, built in memory; OpenCV and Pillow are the references."""

import struct
import zlib
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from foveal.fundus.decode import decode

WIDTH, HEIGHT = 150, 101


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Return smooth colours, brighter to the right and bottom, that survive compression. uint8 `[101, 150, 3]`."""
    coarse = np.random.default_rng(0).integers(20, 120, (5, 7, 3), dtype=np.uint8)
    ramp = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH))[..., None] // 2
    return (cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR) + ramp).astype(np.uint8)


def encoded(pixels: np.ndarray | Image.Image, format: str, **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    buffer = BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def decoded_from(folder: Path, data: bytes, minimum: int = 1000) -> np.ndarray:
    path = folder / "picture"
    path.write_bytes(data)
    return decode(path, minimum).pixels


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    return block


@pytest.mark.parametrize(
    ("format", "options", "tolerance"),
    [
        ("JPEG", {"quality": 95}, 2.0),
        ("JPEG", {"quality": 95, "progressive": True}, 2.0),
        ("PNG", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("BMP", {}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("PPM", {}, 0),
    ],
)
def test_formats(
    tmp_path: Path, picture: np.ndarray, format: str, options: dict[str, object], tolerance: float
) -> None:
    pixels = decoded_from(tmp_path, encoded(picture, format, **options))
    assert pixels.dtype == np.uint8 and pixels.shape == picture.shape and pixels.flags.c_contiguous
    assert np.abs(pixels - picture.astype(float)).mean() <= tolerance


@pytest.mark.parametrize(
    ("mode", "format"),
    [
        ("L", "JPEG"), ("L", "PNG"), ("L", "TIFF"), ("LA", "PNG"), ("LA", "TIFF"), ("1", "PNG"), ("P", "PNG"),
        ("P", "GIF"), ("P", "BMP"), ("CMYK", "JPEG"), ("CMYK", "TIFF"), ("LAB", "TIFF"), ("YCbCr", "TIFF"),
    ],
)  # fmt: skip
def test_colour_modes_become_rgb(tmp_path: Path, picture: np.ndarray, mode: str, format: str) -> None:
    image = Image.fromarray(picture).quantize(64) if mode == "P" else Image.fromarray(picture).convert("RGB")
    data = encoded(image if mode in ("P", "LAB") else image.convert(mode), format)
    if mode == "LAB":
        data = encoded(Image.merge("LAB", Image.fromarray(picture).split()), format)
    reference = np.asarray(Image.open(BytesIO(data)).convert("RGB"), dtype=float)
    assert np.abs(decoded_from(tmp_path, data) - reference).mean() < 2


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_dropped_not_multiplied(tmp_path: Path, picture: np.ndarray, format: str) -> None:
    alpha = np.full((HEIGHT, WIDTH, 1), 100, np.uint8)
    options = {"lossless": True, "exact": True} if format == "WEBP" else {}
    data = encoded(np.concatenate([picture, alpha], axis=2), format, **options)
    assert np.array_equal(decoded_from(tmp_path, data), picture)


@pytest.mark.parametrize("extension", [".png", ".tiff"])
@pytest.mark.parametrize(("factor", "bits"), [(257, 16), (16, 12), (1, 8)])
def test_deep_pixels_are_scaled(tmp_path: Path, picture: np.ndarray, extension: str, factor: int, bits: int) -> None:
    deep = picture.astype(np.uint16) * factor
    deep[0, 0] = (1 << bits) - 1
    expected = picture.astype(float) * factor * 255 / ((1 << bits) - 1)
    data = cv2.imencode(extension, deep[..., ::-1])[1].tobytes()
    grey = cv2.imencode(extension, deep[..., 1])[1].tobytes()
    assert np.abs(decoded_from(tmp_path, data) - expected)[1:].max() <= 0.51
    assert np.abs(decoded_from(tmp_path, grey) - expected[..., 1:2])[1:].max() <= 0.51


@pytest.mark.parametrize("format", ["GIF", "WEBP", "PNG", "AVIF"])
def test_of_an_animation_no_frame_is_taken_for_the_photograph(tmp_path: Path, picture, format: str, refuses) -> None:
    first = Image.fromarray(picture).quantize(64) if format == "GIF" else Image.fromarray(picture)
    options = {} if format in ("GIF", "AVIF") else {"lossless": True}
    alone = encoded(first, format, save_all=True, **options)
    assert np.abs(decoded_from(tmp_path, alone) - np.asarray(first.convert("RGB"), int)).mean() < 3
    others = [Image.fromarray(255 - picture).convert(first.mode), Image.new(first.mode, first.size)]
    with refuses("image.several", 3):
        decoded_from(tmp_path, encoded(first, format, save_all=True, append_images=others, **options))


@pytest.mark.parametrize(
    ("minimum", "short"), [(1000, 101), (101, 101), (52, 101), (51, 51), (26, 26), (14, 26), (13, 13), (1, 13)]
)
def test_reduction_keeps_the_side_and_the_colour(tmp_path: Path, picture: np.ndarray, minimum: int, short: int) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(picture, "JPEG", quality=95))
    decoded = decode(tmp_path / "a.jpg", minimum)
    assert min(decoded.pixels.shape[:2]) == short
    assert (decoded.width, decoded.height) == (WIDTH, HEIGHT)
    assert np.abs(decoded.pixels.mean(axis=(0, 1)) - picture.mean(axis=(0, 1))).max() < 2


def test_other_formats_are_never_reduced(tmp_path: Path, picture: np.ndarray) -> None:
    assert decoded_from(tmp_path, encoded(picture, "PNG"), minimum=1).shape == picture.shape


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_orientation_is_applied(tmp_path: Path, picture: np.ndarray, format: str, orientation: int) -> None:
    data = encoded(picture, format, exif=exif(orientation))
    upright = ImageOps.exif_transpose(Image.open(BytesIO(data))).convert("RGB")
    (tmp_path / "picture").write_bytes(data)
    decoded = decode(tmp_path / "picture", 1000)
    assert (decoded.width, decoded.height) == upright.size
    assert np.array_equal(decoded.pixels, np.asarray(upright))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_agrees_between_decoders(tmp_path: Path, picture: np.ndarray, orientation: int) -> None:
    data = encoded(picture, "JPEG", quality=95, exif=exif(orientation))
    whole = decoded_from(tmp_path, data)
    by_pillow = decoded_from(tmp_path, data + bytes(range(100)))  # bytes after the end send it to Pillow
    reduced = decoded_from(tmp_path, data, minimum=51)
    assert np.array_equal(whole, by_pillow)
    enlarged = cv2.resize(reduced, whole.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    assert np.abs(enlarged - whole.astype(float)).mean() < 3


def test_damaged_exif_leaves_the_picture(tmp_path: Path, picture: np.ndarray) -> None:
    data = encoded(picture, "JPEG", exif=b"Exif\x00\x00nothing of use")
    assert decoded_from(tmp_path, data).shape == picture.shape


@pytest.mark.parametrize("padding", [b"", bytes(500)])
@pytest.mark.parametrize("kept", [0.4, 0.7, 0.97])
@pytest.mark.parametrize("progressive", [False, True])
def test_truncated_jpeg(
    refuses, tmp_path: Path, picture: np.ndarray, padding: bytes, kept: float, progressive: bool
) -> None:
    data = encoded(picture, "JPEG", quality=95, progressive=progressive)
    for minimum in (13, 1000):
        with refuses("image.damaged"):
            decoded_from(tmp_path, data[: int(len(data) * kept)] + padding, minimum)


def test_damage_within_a_progressive_jpeg_is_found(refuses, tmp_path: Path, picture: np.ndarray) -> None:
    data = encoded(cv2.resize(picture, (300, 200)), "JPEG", quality=90, progressive=True)
    middle = len(data) // 2
    for damaged in (data[: middle - 100] + bytes(200) + data[middle + 100 :], data[:middle] + data[middle + 200 :]):
        with refuses("image.damaged"):
            decoded_from(tmp_path, damaged)


def test_padding_after_the_end_does_no_harm(tmp_path: Path, picture: np.ndarray) -> None:
    data = encoded(picture, "JPEG")
    assert np.array_equal(decoded_from(tmp_path, data + bytes(500)), decoded_from(tmp_path, data))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "PPM"])
def test_a_bad_file_is_reported_once(
    refuses, tmp_path: Path, picture: np.ndarray, format: str, capfd: pytest.CaptureFixture[str]
) -> None:
    data = encoded(picture, format)
    with refuses("image.damaged"):
        decoded_from(tmp_path, data[: len(data) // 2])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "image.empty"),
        (b"left eye, 2019\n", "image.not_a_picture"),
        (b"\xff\xd8\xff", "image.damaged"),
        (b"BM, a text that begins like a bitmap", "image.damaged"),
        (b"GIF89a\x08\x00\x08\x00\x00\x00\x00,\x00\x00\x00\x00" + b"\xff" * 4 + b"\x00\x08", "image.damaged"),
    ],
)
def test_not_a_picture(refuses, tmp_path: Path, data: bytes, code: str) -> None:
    with refuses(code) as caught:
        decoded_from(tmp_path, data)
    assert str(tmp_path) not in caught.value.what  # tables have the file name in another column


def test_a_missing_file(refuses, tmp_path: Path) -> None:
    with refuses("image.missing"):
        decode(tmp_path / "absent.jpg", 100)


def test_too_many_pixels_are_refused_before_decoding(refuses, tmp_path: Path) -> None:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 20_000, 8, 2, 0, 0, 0))
    data = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    with refuses("image.too_large", "30000 x 20000", "300 megapixels"):
        decoded_from(tmp_path, data)


def test_fractions_are_refused(refuses, tmp_path: Path, picture: np.ndarray) -> None:
    with refuses("image.unsupported", "float32"):
        decoded_from(tmp_path, encoded(Image.fromarray(picture[..., 0].astype(np.float32)), "TIFF"))
