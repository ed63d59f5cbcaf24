"""Files that are not what they seem: each gives the right pixels, or a reason in plain words, and never hangs."""

import os
import socket
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from foveal.errors import FovealError
from foveal.fundus import decode as decoding
from foveal.fundus.decode import decode
from foveal.fundus.preparation import Preparation, prepare_file


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(20, 220, (5, 7, 3), dtype=np.uint8)
    return cv2.resize(coarse, (90, 70), interpolation=cv2.INTER_LINEAR)


def saved(path: Path, image: Image.Image, format: str, **options: object) -> Path:
    image.save(path, format, **options)
    return path


@pytest.mark.parametrize(("name", "format"), [("a.jpg", "PNG"), ("a.png", "JPEG"), ("a.jpeg", "TIFF"), ("a", "WEBP")])
def test_the_name_does_not_matter(tmp_path: Path, picture: np.ndarray, name: str, format: str) -> None:
    path = saved(tmp_path / name, Image.fromarray(picture), format)
    reference = np.asarray(Image.open(path).convert("RGB"), dtype=int)
    assert np.abs(decode(path, 1000).pixels - reference).mean() < 1


@pytest.mark.parametrize(
    "data",
    [b"<html><body>404 Not Found</body></html>", b"%PDF-1.7\n", b"PK\x03\x04 a zip", b"\x00" * 5000, b"\xff" * 5000,
     b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", b"\x00\x00\x00\x18ftypisom" + bytes(200)],
)  # fmt: skip
def test_other_files_called_jpg(refuses, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    with refuses("image.not_a_picture"):
        decode(tmp_path / "a.jpg", 100)


@pytest.mark.parametrize("name", ["a.jpg", "a.dcm", "a"])
@pytest.mark.parametrize(
    ("data", "kind"),
    [(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "git lfs pull"), (b"PK\x03\x04 a", "ZIP"),
     (b"\n<!DOCTYPE html><html>", "web page"), (b"<html><body>", "web page")],
)  # fmt: skip
def test_what_stands_in_for_a_picture_is_named(refuses, tmp_path: Path, name: str, data: bytes, kind: str) -> None:
    (tmp_path / name).write_bytes(data)
    with refuses("image.not_a_picture", kind):
        decode(tmp_path / name, 100)


WRITTEN = "JPEG JPEG2000 PNG TIFF BMP WEBP AVIF GIF PPM TGA PCX SGI"


@pytest.mark.parametrize("format", WRITTEN.split())
def test_damage_is_an_error_of_the_file_and_nothing_else(tmp_path: Path, format: str) -> None:
    sharp = np.random.default_rng(1).integers(0, 255, (70, 90, 3), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    whole = saved(tmp_path / "whole", Image.fromarray(sharp), format).read_bytes()
    generator, refused = np.random.default_rng(2), 0
    for number in range(20):
        start = int(generator.integers(16, len(whole) - 16))
        data = bytearray(whole)
        data[start : start + 400] = bytes(min(400, len(whole) - start))
        (tmp_path / f"{number}").write_bytes(data)
        try:
            assert decode(tmp_path / f"{number}", 1000).pixels.shape[2] == 3
        except FovealError as error:
            refused += error.code.startswith("image.")
    assert refused or format not in ("PNG", "JPEG")  # others may have no means to notice it


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_keeps_its_colour(tmp_path: Path, picture: np.ndarray, mode: str) -> None:
    image = Image.fromarray(picture)
    image.putalpha(40)
    image = image.convert("RGB").quantize(32) if mode == "P" else image.convert(mode)
    path = saved(tmp_path / "a.png", image, "PNG", **({"transparency": 3} if mode == "P" else {}))
    reference = np.asarray(image.convert("RGBA" if mode == "P" else mode).convert("RGB"))
    assert np.array_equal(decode(path, 1000).pixels, reference)


def test_cmyk_is_not_inverted(tmp_path: Path) -> None:
    red = Image.new("RGB", (64, 64), (200, 40, 20)).convert("CMYK")
    pixels = decode(saved(tmp_path / "a.jpg", red, "JPEG", quality=95), 1000).pixels
    assert np.abs(pixels.reshape(-1, 3).mean(axis=0) - (200, 40, 20)).max() < 4


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("deep", [False, True])
def test_jpeg_2000(refuses, tmp_path: Path, picture: np.ndarray, bare: bool, deep: bool) -> None:
    image = Image.fromarray(picture[..., 1].astype(np.uint16) * 257) if deep else Image.fromarray(picture)
    path = saved(tmp_path / "a.jp2", image, "JPEG2000", no_jp2=bare)
    assert np.array_equal(decode(path, 1000).pixels, np.repeat(picture[..., 1:2], 3, axis=2) if deep else picture)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with refuses("image.damaged"):
        decode(path, 1000)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bits_of_grey(tmp_path: Path, picture: np.ndarray, format: str) -> None:
    deep = picture[..., 1].astype(np.uint16) * 257
    pixels = decode(saved(tmp_path / "a", Image.fromarray(deep), format), 1000).pixels
    assert np.array_equal(pixels, np.repeat(picture[..., 1:2], 3, axis=2))


@pytest.mark.slow
def test_a_hundred_megapixels_are_read(tmp_path: Path) -> None:
    large = np.zeros((10_000, 10_000), np.uint8)
    large[:, 5_000:] = 180
    cv2.imwrite(str(tmp_path / "a.jpg"), large)
    decoded = decode(tmp_path / "a.jpg", 300)
    assert (decoded.width, decoded.height) == (10_000, 10_000) and decoded.pixels.shape == (1250, 1250, 3)
    assert abs(int(decoded.pixels[600, 100, 0])) < 3 and abs(int(decoded.pixels[600, 1200, 0]) - 180) < 3


@pytest.mark.slow
def test_a_hundred_megapixels_of_png_are_read_whole(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", Image.new("1", (10_000, 10_000), 1), "PNG")
    assert prepare_file(path, Preparation(size=64, crop="none")).pixels.min() == 255


def test_a_folder_and_links(refuses, tmp_path: Path, picture: np.ndarray) -> None:
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "dangling.jpg").symlink_to(tmp_path / "absent.jpg")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    (tmp_path / "good.jpg").symlink_to(saved(tmp_path / "a.png", Image.fromarray(picture), "PNG"))
    codes = {"folder": "image.not_a_file", "dangling": "image.missing", "loop": "image.unavailable"}
    for name, code in codes.items():
        with refuses(code):
            decode(tmp_path / f"{name}.jpg", 100)
    assert np.array_equal(decode(tmp_path / "good.jpg", 100).pixels, picture)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes in folders")
def test_a_pipe_and_a_socket_are_refused_without_waiting(
    refuses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with refuses("image.not_a_file"):
        decode(tmp_path / "pipe.jpg", 100)
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as endpoint:
        endpoint.bind("socket.jpg")
        with refuses("image.not_a_file"):
            decode(Path("socket.jpg"), 100)


def test_a_file_that_may_not_be_read(refuses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").touch(mode=0o000)

    def refuse(*_: object) -> None:  # root may read everything, so the refusal is made
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with refuses("image.unavailable", "Permission denied"):
        decode(tmp_path / "a.jpg", 100)


def test_a_disc_that_fails_while_it_is_read(refuses, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    (tmp_path / "a.jpg").write_bytes(b"x")
    monkeypatch.setattr(decoding, "_open", lambda path: Failing())
    with refuses("image.unavailable", "Input/output error"):
        decode(tmp_path / "a.jpg", 100)


@pytest.mark.parametrize("size", [(1, 1), (1, 400), (3, 2), (1000, 9)])
def test_odd_shapes_become_squares(tmp_path: Path, size: tuple[int, int]) -> None:
    path = saved(tmp_path / "a.jpg", Image.new("RGB", size, (180, 90, 40)), "JPEG")
    for crop, fit in (("disc", "pad"), ("none", "pad"), ("none", "cut")):
        prepared = prepare_file(path, Preparation(size=64, crop=crop, fit=fit), measure=True)
        assert prepared.pixels.shape == (64, 64, 3) and np.isfinite(list(prepared.measures.values())).all()
