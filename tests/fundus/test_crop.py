"""Discs drawn at known places under the troubles of real photographs; crops checked by markers."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from foveal.fundus.crop import Disc, blacken_surround, crop_square, find_disc, whole_frame
from foveal.fundus.decode import decode
from foveal.sources.phantom import draw_phantom


def drawn(
    width: int,
    height: int,
    centre: tuple[float, float],
    radius: float,
    *,
    brightness: float = 150,
    background: float = 0,
) -> np.ndarray:
    """Draw a reddish disc, darker towards its rim, on a dark background. uint8 `[height, width, 3]`."""
    y, x = np.mgrid[:height, :width] + 0.5
    distance = np.hypot(x - centre[0], y - centre[1]) / radius
    shade = np.where(distance <= 1, brightness * (1 - 0.5 * distance**2), background)
    return (shade[..., None] * [1.0, 0.6, 0.3]).clip(0, 255).astype(np.uint8)


def assert_found(pixels: np.ndarray, centre: tuple[float, float], radius: float) -> None:
    """Require the square around the disc to within 3 % of its side."""
    disc = find_disc(pixels)
    assert disc.found
    expected = (centre[0] - radius, centre[1] - radius, 2 * radius)
    error = np.abs(np.subtract((disc.left, disc.top, disc.side), expected)).max() / (2 * radius)
    assert error < 0.03, (disc, expected)


PLACES = [
    pytest.param(900, 600, (450, 300), 270, id="landscape"),
    pytest.param(900, 600, (330, 320), 250, id="off-centre"),
    pytest.param(600, 900, (300, 400), 260, id="portrait"),
    pytest.param(900, 600, (450, 300), 380, id="cut at top and bottom"),
    pytest.param(900, 600, (470, 360), 330, id="cut more at the bottom"),
    pytest.param(512, 512, (256, 256), 256, id="cropped to the disc"),
    pytest.param(600, 560, (300, 280), 330, id="only corners left"),
    pytest.param(1500, 1000, (750, 500), 450, id="large"),
    pytest.param(96, 80, (48, 40), 36, id="small"),
]


@pytest.mark.parametrize(("width", "height", "centre", "radius"), PLACES)
def test_place(width: int, height: int, centre: tuple[float, float], radius: float) -> None:
    assert_found(drawn(width, height, centre, radius), centre, radius)


@pytest.mark.parametrize("brightness", [12, 30, 255])
def test_dark_and_bright_photographs(brightness: float) -> None:
    assert_found(drawn(900, 600, (430, 310), 260, brightness=brightness), (430, 310), 260)


def test_noisy_background_that_is_not_black() -> None:
    pixels = drawn(900, 600, (430, 310), 260, background=12)
    noise = np.random.default_rng(0).normal(0, 5, pixels.shape)
    assert_found((pixels + noise).clip(0, 255).astype(np.uint8), (430, 310), 260)


def test_white_text_and_notch() -> None:
    pixels = drawn(900, 600, (450, 300), 270)
    for place in ((10, 40), (10, 590), (690, 40), (690, 590)):
        cv2.putText(pixels, "OD 2019-05", place, cv2.FONT_HERSHEY_SIMPLEX, 1.1, (255, 255, 255), 3)
    cv2.rectangle(pixels, (630, 90), (670, 130), (150, 90, 45), -1)
    assert_found(pixels, (450, 300), 270)


def test_shadow_over_a_third_and_flash_at_the_rim() -> None:
    pixels = drawn(900, 600, (450, 300), 270)
    pixels[:, :360] //= 12
    cv2.circle(pixels, (690, 180), 45, (255, 255, 255), -1)
    assert_found(pixels, (450, 300), 270)


def test_halo_around_an_overexposed_disc() -> None:
    pixels = drawn(900, 600, (450, 300), 270, brightness=600)
    halo = cv2.GaussianBlur(pixels, (0, 0), 25)
    assert_found(np.maximum(pixels, halo // 3), (450, 300), 270)


def test_black_bars_inside_the_frame() -> None:
    pixels = drawn(600, 600, (300, 300), 290)
    pixels[:90] = 0
    pixels[520:] = 0
    assert_found(pixels, (300, 300), 290)


def test_one_channel_and_same_answer_twice() -> None:
    pixels = drawn(900, 600, (430, 310), 260)
    assert_found(pixels[..., :1], (430, 310), 260)
    assert find_disc(pixels) == find_disc(pixels.copy())


def squeezed() -> np.ndarray:
    return cv2.resize(drawn(900, 600, (450, 300), 280), (400, 400), interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize(
    "pixels",
    [
        pytest.param(np.zeros((200, 300, 3), np.uint8), id="black"),
        pytest.param(np.full((200, 300, 3), 180, np.uint8), id="uniform"),
        pytest.param(drawn(300, 200, (150, 100), 200), id="filled, darker in the corners"),
        pytest.param(np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8), id="noise"),
        pytest.param(drawn(300, 200, (150, 100), 25), id="too small for a disc"),
        pytest.param(np.pad(np.full((200, 100, 3), 150, np.uint8), ((20, 20), (100, 100), (0, 0))), id="oblong"),
        pytest.param(squeezed(), id="squeezed to an ellipse"),
        pytest.param(np.full((1, 1, 3), 9, np.uint8), id="one pixel"),
        pytest.param(np.full((2, 900, 3), 9, np.uint8), id="a line"),
    ],
)
def test_whole_frame_where_no_disc_is_plausible(pixels: np.ndarray) -> None:
    assert find_disc(pixels) == whole_frame(pixels.shape[1], pixels.shape[0])


def test_whole_frame_is_centred() -> None:
    assert whole_frame(300, 200) == Disc(0, -50, 300, found=False)
    assert whole_frame(200, 300) == Disc(-50, 0, 300, found=False)


@pytest.mark.parametrize("size", [100, 400])
def test_a_marker_lands_where_it_should(size: int) -> None:
    pixels = np.zeros((200, 300, 3), np.uint8)
    pixels[60:80, 120:160] = (10, 200, 90)
    crop = crop_square(pixels, Disc(100, 20, 200, found=True), size)
    scale = size / 200
    expected = np.zeros((size, size, 3), np.uint8)
    expected[int(40 * scale) : int(60 * scale), int(20 * scale) : int(60 * scale)] = (10, 200, 90)
    assert crop.shape == (size, size, 3) and crop.dtype == np.uint8
    apart = np.abs(crop.astype(int) - expected).max(axis=2) > 60
    assert apart.mean() < 0.002  # at most the interpolated rim


def test_outside_the_frame_is_black_and_aspect_is_kept() -> None:
    crop = crop_square(np.full((200, 300, 3), 90, np.uint8), whole_frame(300, 200), 60)
    assert (crop[:10] == 0).all() and (crop[50:] == 0).all()
    assert (crop[10:50] == 90).all()


def test_shrinking_averages() -> None:
    checked = np.indices((256, 256)).sum(axis=0).astype(np.uint8)[..., None] % 2 * 200
    assert np.abs(crop_square(checked, Disc(0, 0, 256, found=True), 64).astype(int) - 100).max() <= 1


def test_one_channel_stays_one() -> None:
    assert crop_square(np.zeros((20, 30, 1), np.uint8), whole_frame(30, 20), 8).shape == (8, 8, 1)


@pytest.mark.parametrize(
    ("disc", "size"),
    [(Disc(0, 0, 20, found=True), 0), (Disc(30, 0, 20, found=True), 8), (Disc(0, -20, 20, found=True), 8),
     (Disc(0, 0, 0.2, found=True), 8), (Disc(0, 0, -5, found=True), 8)],
)  # fmt: skip
def test_squares_that_cannot_be_cut(refuses, disc: Disc, size: int) -> None:
    with refuses("image.crop", size, disc):
        crop_square(np.zeros((20, 30, 3), np.uint8), disc, size)


@pytest.mark.parametrize(
    "pixels", [np.zeros((20, 30), np.uint8), np.zeros((20, 30, 3)), np.zeros((0, 30, 3), np.uint8)]
)
def test_other_arrays_are_refused(refuses, pixels: np.ndarray) -> None:
    with refuses("image.array", pixels.shape):
        find_disc(pixels)
    with refuses("image.array", pixels.shape):
        crop_square(pixels, whole_frame(30, 20), 8)


def test_a_frame_needs_sides(refuses) -> None:
    with refuses("image.array", "0 x 10"):
        whole_frame(0, 10)


def phantom_frame(width: int, height: int, left: int, top: int, background: float = 0) -> np.ndarray:
    """A drawn eye of 400 px in a frame that may cut it off; the surround is a noisy `background`."""
    eye = draw_phantom(3, "left", 400, np.random.default_rng(5)).image
    canvas = np.zeros((height + 800, width + 800, 3), np.float32)
    canvas[top + 400 : top + 800, left + 400 : left + 800] = eye
    canvas = canvas[400:-400, 400:-400]
    noise = np.random.default_rng(6).normal(background, background / 4, canvas.shape)
    return np.where(canvas.max(axis=2, keepdims=True) > 25, canvas, noise).clip(0, 255).astype(np.uint8)


def spoiled(pixels: np.ndarray, trouble: str) -> np.ndarray:
    if trouble == "flash at the rim":
        cv2.circle(pixels, (520, 180), 40, (255, 255, 255), -1)
    if trouble == "text in the corner":
        cv2.putText(pixels, "OS 45 deg", (8, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2)
    if trouble == "dark rim":
        y, x = np.mgrid[: pixels.shape[0], : pixels.shape[1]]
        light = 1.15 - 0.95 * (np.hypot(x - 350, y - 250) / 200) ** 3
        return (pixels * light.clip(0.15, 1)[..., None]).astype(np.uint8)
    return pixels


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["none", "flash at the rim", "text in the corner", "dark rim"])
@pytest.mark.parametrize("background", [0, 12])
def test_phantoms_under_the_troubles_of_photographs(trouble: str, background: float) -> None:
    clean = find_disc(phantom_frame(700, 500, 150, 50))
    found = find_disc(spoiled(phantom_frame(700, 500, 150, 50, background), trouble))
    assert clean.found and found.found
    assert np.abs(np.subtract((clean.left, clean.top, clean.side), (found.left, found.top, found.side))).max() < 14


@pytest.mark.parametrize(("top", "height"), [(-60, 440), (-40, 320), (20, 350)])
def test_phantoms_that_the_frame_cuts_off(top: int, height: int) -> None:
    whole = find_disc(phantom_frame(700, 500, 150, 50))
    cut = find_disc(phantom_frame(700, height, 150, top))
    assert cut.found and abs(cut.side - whole.side) < 14 and abs(cut.top - (whole.top - 50 + top)) < 14


def test_a_white_surround_is_made_black_and_white_in_the_eye_stays() -> None:
    pixels = drawn(300, 200, (150, 100), 90)
    cv2.circle(pixels, (150, 100), 10, (255, 255, 255), -1)
    surround = np.hypot(*(np.mgrid[:200, :300] - np.array([100, 150])[:, None, None])) > 95
    white = np.where(surround[..., None], np.uint8(255), pixels)
    assert not find_disc(white).found
    assert_found(blacken_surround(white), (150, 100), 90)
    assert (blacken_surround(white)[100, 150] == 255).all() and white[0, 0, 0] == 255
    assert blacken_surround(pixels) is pixels


@pytest.mark.real
def test_every_sample_photograph_but_the_named_one_has_its_disc(real_data: Path) -> None:
    folders = (real_data / "fundus_samples_fullres", real_data / "eyepacs_fullres")
    files = [path for folder in folders for path in folder.rglob("*.*g")]
    missed = [path.name for path in files if not find_disc(decode(path, 256).pixels).found]
    assert len(files) == 26 and missed == ["drimdb_example.jpg"]  # the frame lies within its disc: see docs/crops.md
