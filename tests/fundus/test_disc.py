"""Discs and ellipses drawn at known places under the troubles of real photographs, and pictures without any."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from foveal.fundus.crop import Disc, whole_frame
from foveal.fundus.decode import decode
from foveal.fundus.disc import find_circle, find_disc
from foveal.fundus.preparation import Preparation, locate
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


def corners(disc: Disc) -> np.ndarray:
    """left, top, right, bottom."""
    return np.array([disc.left, disc.top, disc.left + disc.width, disc.top + disc.height])


def assert_found(pixels: np.ndarray, centre: tuple[float, float], radius: float) -> None:
    """Require the square around the disc to within 3 % of its side, from both finders."""
    for disc in (find_disc(pixels), find_circle(pixels)):
        assert disc.found
        expected = [centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius]
        assert np.abs(corners(disc) - expected).max() / (2 * radius) < 0.03, (disc, expected)


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


def squeezed(pixels: np.ndarray, width: int = 400, height: int = 400) -> np.ndarray:
    return cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)


# Frame, centre and radius before squeezing, and the size after it.
SQUEEZED = [
    pytest.param((900, 600), (450, 300), 280, (400, 400), id="to a square"),
    pytest.param((900, 600), (450, 300), 280, (224, 224), id="to a small square"),
    pytest.param((900, 600), (380, 310), 250, (400, 400), id="off-centre"),
    pytest.param((900, 600), (450, 300), 380, (400, 400), id="cut at top and bottom"),
    pytest.param((900, 600), (470, 360), 330, (400, 400), id="cut more at the bottom"),
    pytest.param((900, 600), (610, 300), 320, (400, 400), id="cut at three sides"),
    pytest.param((600, 900), (300, 450), 280, (400, 400), id="from portrait"),
    pytest.param((640, 600), (320, 300), 290, (400, 400), id="hardly"),
    pytest.param((900, 600), (450, 300), 280, (500, 600), id="not to a square"),
]


@pytest.mark.parametrize(("frame", "centre", "radius", "size"), SQUEEZED)
def test_a_squeezed_disc_is_an_ellipse(
    frame: tuple[int, int], centre: tuple[float, float], radius: float, size: tuple[int, int]
) -> None:
    disc = find_disc(squeezed(drawn(*frame, centre, radius), *size))
    x, y = size[0] / frame[0], size[1] / frame[1]
    true = [(centre[0] - radius) * x, (centre[1] - radius) * y, (centre[0] + radius) * x, (centre[1] + radius) * y]
    assert disc.found
    assert np.abs(corners(disc) - true).max() < 0.02 * (true[3] - true[1]), (disc, true)


def test_ellipses_under_the_troubles_of_photographs() -> None:
    pixels = drawn(900, 600, (450, 300), 270)
    true = corners(find_disc(squeezed(pixels)))
    cv2.putText(pixels, "OD 2019-05", (10, 40), cv2.FONT_HERSHEY_SIMPLEX, 1.1, (255, 255, 255), 3)
    cv2.rectangle(pixels, (630, 90), (670, 130), (150, 90, 45), -1)  # a notch
    pixels[540:] = 0  # a straight cut
    pixels[:, :360] //= 8  # a shadow
    assert np.abs(corners(find_disc(squeezed(pixels))) - true).max() < 8


@pytest.mark.parametrize("black", [0, 30], ids=["", "with a black bar"])
def test_a_disc_of_which_only_corners_are_missing(black: int) -> None:
    pixels = drawn(500, 500, (250, 250), 290)
    pixels[500 - black :] = 0
    assert np.abs(corners(find_disc(pixels)) - [-40, -40, 540, 540]).max() < 15


def test_an_ellipse_on_white() -> None:
    pixels = squeezed(drawn(900, 600, (450, 300), 280))
    y, x = np.mgrid[:400, :400] + 0.5
    white = np.hypot((x - 200) / 124.4, (y - 200) / 186.7) > 1
    found = locate(np.where(white[..., None], np.uint8(255), pixels), Preparation(size=64, crop="ellipse"))[1]
    assert found.found and np.abs(corners(found) - corners(find_disc(pixels))).max() < 5


@pytest.mark.parametrize(
    "pixels",
    [
        pytest.param(np.zeros((200, 300, 3), np.uint8), id="black"),
        pytest.param(np.full((200, 300, 3), 180, np.uint8), id="uniform"),
        pytest.param(drawn(300, 200, (150, 100), 200), id="filled, darker in the corners"),
        pytest.param(np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8), id="noise"),
        pytest.param(drawn(300, 200, (150, 100), 25), id="too small for a disc"),
        pytest.param(np.pad(np.full((200, 100, 3), 150, np.uint8), ((20, 20), (100, 100), (0, 0))), id="oblong"),
        pytest.param(np.full((1, 1, 3), 9, np.uint8), id="one pixel"),
        pytest.param(np.full((2, 900, 3), 9, np.uint8), id="a line"),
    ],
)
def test_whole_frame_where_no_disc_is_plausible(pixels: np.ndarray) -> None:
    assert find_disc(pixels) == find_circle(pixels) == whole_frame(pixels.shape[1], pixels.shape[0])


def test_the_finder_of_circles_refuses_ellipses() -> None:
    pixels = squeezed(drawn(900, 600, (450, 300), 280))
    assert not find_circle(pixels).found and find_disc(pixels).found


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
    assert np.abs(corners(clean) - corners(found)).max() < 14


@pytest.mark.parametrize(("top", "height"), [(-60, 440), (-40, 320), (20, 350)])
def test_phantoms_that_the_frame_cuts_off(top: int, height: int) -> None:
    whole = find_disc(phantom_frame(700, 500, 150, 50))
    cut = find_disc(phantom_frame(700, height, 150, top))
    assert cut.found and abs(cut.width - whole.width) < 14 and abs(cut.top - (whole.top - 50 + top)) < 14


@pytest.mark.real
def test_every_sample_photograph_but_the_named_one_has_its_disc(real_data: Path) -> None:
    folders = (real_data / "fundus_samples_fullres", real_data / "eyepacs_fullres")
    files = [path for folder in folders for path in folder.rglob("*.*g")]
    for find in (find_disc, find_circle):
        missed = [path.name for path in files if not find(decode(path, 256).pixels).found]
        assert len(files) == 26 and missed == ["drimdb_example.jpg"]  # its frame lies within its disc


@pytest.mark.real
@pytest.mark.parametrize(("folder", "step"), [("aptos224", 60), ("eyepacs256", 10), ("fundus_unlabelled", 60)])
def test_squeezed_and_cut_off_photographs_have_their_discs(real_data: Path, folder: str, step: int) -> None:
    files = sorted((real_data / folder).rglob("*.*g"))[::step]
    way = Preparation(size=64, crop="ellipse")
    found = [locate(decode(path, 224).pixels, way)[1].found for path in files]
    assert len(files) > 40 and np.mean(found) >= 0.98
