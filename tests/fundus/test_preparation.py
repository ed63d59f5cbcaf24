"""From a picture to its square: options, files from before they existed, how much is decoded, what is measured."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from foveal.fundus import preparation
from foveal.fundus.decode import decode
from foveal.fundus.preparation import Preparation, prepare_file, prepare_pixels
from foveal.sources.phantom import draw_phantom

OLD = {"size": 64, "crop": "disc", "channels": 3}
NEW = {**OLD, "channels": 1, "fit": "cut", "mask": True, "enhance": "clahe", "green": True}


@pytest.fixture(scope="module")
def phantom() -> np.ndarray:
    return draw_phantom(2, "right", 256, np.random.default_rng(1)).image


def framed(disc: np.ndarray, width: int, height: int, left: int, top: int, background: int = 0) -> np.ndarray:
    frame = np.full((height, width, 3), background, np.uint8)
    frame[top : top + len(disc), left : left + disc.shape[1]] = disc
    return frame


def test_old_files_load_and_defaults_are_not_written() -> None:
    assert Preparation(**OLD).as_dict() == OLD
    assert Preparation(**{"size": 28, "crop": "none"}).as_dict() == {"size": 28, "crop": "none", "channels": 3}
    assert Preparation(**NEW).as_dict() == NEW
    assert Preparation(**json.loads(json.dumps(Preparation(**NEW).as_dict()))) == Preparation(**NEW)


@pytest.mark.parametrize(
    "wrong", [{"size": 7}, {"crop": "circle"}, {"channels": 2}, {"fit": "stretch"}, {"enhance": "retinex"}]
)
def test_impossible_values_are_refused(refuses, wrong: dict[str, object]) -> None:
    with refuses("option.value", *wrong, *wrong.values()):
        Preparation(**{**OLD, **wrong})
    with refuses("option.conflict", "green"):
        Preparation(**OLD, green=True)


def test_defaults_change_nothing_and_the_square_is_the_pixels(phantom: np.ndarray) -> None:
    prepared = prepare_pixels(phantom, Preparation(size=256, crop="none"))
    assert np.array_equal(prepared.pixels, phantom) and np.array_equal(prepared.square, phantom)
    assert prepared.measures == {} and prepared.flags == ()


def test_pad_shows_the_whole_frame_and_cut_its_centre() -> None:
    frame = np.full((60, 100, 3), 90, np.uint8)
    frame[:, :20] = frame[:, 80:] = 200
    padded = prepare_pixels(frame, Preparation(size=50, crop="none")).pixels
    cut = prepare_pixels(frame, Preparation(size=50, crop="none", fit="cut")).pixels
    assert (padded[:9] == 0).all() and (padded[-9:] == 0).all() and (padded[25, :9] == 200).all()
    assert (cut == 90).all()
    missed = prepare_pixels(frame, Preparation(size=50, crop="disc", fit="cut"))
    assert missed.flags == ("no-disc",) and np.array_equal(missed.pixels, cut)
    assert (prepare_pixels(frame.transpose(1, 0, 2), Preparation(size=50, crop="none", fit="cut")).pixels == 90).all()


def test_one_channel_is_grey_or_green(phantom: np.ndarray) -> None:
    grey = prepare_pixels(phantom, Preparation(size=256, crop="none", channels=1))
    green = prepare_pixels(phantom, Preparation(size=256, crop="none", channels=1, green=True))
    assert np.array_equal(grey.pixels[..., 0], cv2.cvtColor(phantom, cv2.COLOR_RGB2GRAY))
    assert np.array_equal(green.pixels, phantom[..., 1:2])
    assert np.array_equal(grey.square, phantom) and np.array_equal(green.square, phantom)


def test_a_grey_array_stays_exactly_as_it_is() -> None:
    digits = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28, 1)
    prepared = prepare_pixels(digits, Preparation(size=28, crop="none", channels=1))
    assert np.array_equal(prepared.pixels, digits) and prepared.square.shape == (28, 28, 3)
    flat = prepare_pixels(digits[..., 0], Preparation(size=28, crop="none", channels=1))
    assert np.array_equal(flat.pixels, digits)


def test_options_change_the_pixels_and_not_the_square(phantom: np.ndarray) -> None:
    prepared = prepare_pixels(phantom, Preparation(size=128, crop="disc", mask=True, enhance="local-mean"))
    plain = prepare_pixels(phantom, Preparation(size=128, crop="disc"))
    assert np.array_equal(prepared.square, plain.pixels) and not np.array_equal(prepared.pixels, plain.pixels)
    assert (prepared.pixels[0, 0] == 128).all()


def test_a_white_surround_becomes_black_when_it_hides_the_disc(phantom: np.ndarray) -> None:
    frame = framed(phantom, 400, 300, 70, 20)
    y, x = np.mgrid[:300, :400]
    white = np.hypot(x - 70 - 128, y - 20 - 128) > 140
    prepared = prepare_pixels(np.where(white[..., None], np.uint8(255), frame), Preparation(size=128, crop="disc"))
    assert prepared.flags == ()
    same = prepare_pixels(frame, Preparation(size=128, crop="disc"))
    again = prepare_pixels(np.where(white[..., None], np.uint8(255), frame), Preparation(size=128, crop="ellipse"))
    assert again.flags == () and np.abs(again.pixels.astype(int) - same.pixels).mean() < 3
    assert np.abs(prepared.pixels.astype(int) - same.pixels).mean() < 3


def test_a_squeezed_disc_is_made_round_unless_only_circles_count(phantom: np.ndarray) -> None:
    plain = prepare_pixels(framed(phantom, 400, 300, 70, 20), Preparation(size=128, crop="ellipse"))
    frame = cv2.resize(framed(phantom, 400, 300, 70, 20), (300, 300), interpolation=cv2.INTER_AREA)
    stretched = prepare_pixels(frame, Preparation(size=128, crop="ellipse"), measure=True)
    assert stretched.flags == plain.flags == ()
    assert np.abs(stretched.pixels.astype(int) - plain.pixels).mean() < 3
    as_before = prepare_pixels(frame, Preparation(size=128, crop="disc"))
    whole = prepare_pixels(frame, Preparation(size=128, crop="none"))
    assert as_before.flags == ("no-disc",) and np.array_equal(as_before.pixels, whole.pixels)


def test_measures_and_flags_only_where_asked_and_words_only_from_64_pixels(phantom: np.ndarray) -> None:
    hazy = (cv2.GaussianBlur(phantom, (0, 0), 8) * 0.1 + 120).astype(np.uint8)
    assert prepare_pixels(hazy, Preparation(size=64, crop="none")).flags == ()
    assert "blurred" in prepare_pixels(hazy, Preparation(size=64, crop="none"), measure=True).flags
    small = prepare_pixels(hazy, Preparation(size=63, crop="none"), measure=True)
    assert small.flags == () and small.measures["sharpness"] < 0.05


@pytest.mark.parametrize("share", [0.95, 0.55])
def test_no_more_is_decoded_than_the_disc_needs(
    tmp_path: Path, phantom: np.ndarray, share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = int(1200 * share)
    large = cv2.resize(phantom, (side, side), interpolation=cv2.INTER_CUBIC)
    left, top = (1600 - side) // 2, (1200 - side) // 2
    cv2.imwrite(
        str(tmp_path / "a.jpg"), framed(large, 1600, 1200, left, top)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95]
    )
    sides = []

    def spy(path: Path, minimum: int, **limits: Any) -> object:
        sides.append(min((decoded := decode(path, minimum, **limits)).pixels.shape[:2]))
        return decoded

    monkeypatch.setattr(preparation, "decode", spy)
    prepared = prepare_file(tmp_path / "a.jpg", Preparation(size=128, crop="ellipse"))
    assert sides == ([300] if share == 0.95 else [300, 600])
    assert (prepared.width, prepared.height) == (1600, 1200) and prepared.flags == ()
    whole = prepare_pixels(decode(tmp_path / "a.jpg", 1200).pixels, Preparation(size=128, crop="ellipse"))
    assert np.abs(prepared.pixels.astype(int) - whole.pixels).mean() < 3


@pytest.mark.real
def test_real_originals_give_the_square_of_the_whole_file(real_data: Path) -> None:
    path = real_data / "eyepacs_fullres" / "train" / "13_left.jpeg"
    prepared = prepare_file(path, Preparation(size=256, crop="ellipse"), measure=True)
    whole = prepare_pixels(decode(path, 10**6).pixels, Preparation(size=256, crop="ellipse"), measure=True)
    assert np.abs(prepared.pixels.astype(int) - whole.pixels).mean() < 3
    assert abs(prepared.measures["sharpness"] - whole.measures["sharpness"]) < 0.01
    assert prepared.flags == whole.flags == ()


@pytest.mark.parametrize("wrong", [
    np.full((80, 90, 3), 40_000, np.uint16), np.full((80, 90, 3), 0.5, np.float32), np.ones((80, 90, 3)),
    np.full((80, 90, 4), 9, np.uint8), np.zeros((0, 90, 3), np.uint8), np.zeros(90, np.uint8),
    np.zeros((2, 80, 90, 3), np.uint8),
])  # fmt: skip
@pytest.mark.parametrize("crop", ["ellipse", "none"])
def test_arrays_that_are_no_picture_are_refused(wrong, crop, refuses):
    with refuses("image.array", wrong.dtype, list(wrong.shape)):
        prepare_pixels(wrong, Preparation(size=32, crop=crop))


def test_half_a_pixel_is_refused(refuses):
    with refuses("option.value", 64.5):
        Preparation(size=64.5, crop="none")
    assert Preparation(size=np.int64(64), crop="none").size == 64
