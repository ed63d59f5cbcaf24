"""Pictures with several photographs, pages, screens and round things that are no retina; and what must not look so."""

import cv2
import numpy as np
import pytest

from foveal.fundus.preparation import Preparation, Prepared, prepare_pixels
from foveal.sources.phantom import draw_phantom

EYE = draw_phantom(2, "left", 256, np.random.default_rng(0)).image


def prepared(pixels: np.ndarray) -> Prepared:
    return prepare_pixels(np.ascontiguousarray(pixels), Preparation(size=256, crop="ellipse"), measure=True)


def viewer(words: bool) -> np.ndarray:
    """A black window with dark grey panels: a bar, and a column of words or of small copies."""
    page = np.zeros((300, 440, 3), np.uint8)
    page[:26], page[:, :64] = 28, 24
    page[34:290, 130:386] = EYE
    for top in range(40, 270, 60):
        if words:
            cv2.putText(page, "Left 45", (4, top), cv2.FONT_HERSHEY_SIMPLEX, 0.35, (200, 200, 200), 1)
        else:
            page[top : top + 50, 7:57] = cv2.resize(EYE, (50, 50), interpolation=cv2.INTER_AREA)
    return page


def pair(smaller: int, level: int = 0) -> np.ndarray:
    """Two eyes that touch, the second `smaller` px high."""
    page = np.full((256, 256 + smaller, 3), level, np.uint8)
    page[:, :256] = EYE
    page[256 - smaller :, 256:] = cv2.resize(EYE, (smaller, smaller), interpolation=cv2.INTER_AREA)
    return page


def ball(colour: list[int]) -> np.ndarray:
    """A mottled ball with a reflection, on black."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[-1.1:1.1:300j, -1.1:1.1:300j]
    spots = cv2.GaussianBlur(random.normal(0, 1, x.shape), (0, 0), 3)
    light = (0.3 + 0.7 * np.sqrt(np.clip(1 - x**2 - y**2, 0, 1))) * (1 + 0.06 * spots / spots.std())
    page = np.where((x**2 + y**2 < 1)[..., None], light[..., None] * colour, 0)
    page += (200 * np.exp(-((x + 0.4) ** 2 + (y + 0.4) ** 2) / 0.02))[..., None]
    return (page + random.normal(0, 1.5, page.shape)).clip(0, 255).astype(np.uint8)


def in_circle(grey: np.ndarray) -> np.ndarray:
    """A grey square as seen through a tube."""
    y, x = np.mgrid[-1 : 1 : 1j * len(grey), -1 : 1 : 1j * len(grey)]
    return np.repeat(np.where(np.hypot(x, y) < 0.95, grey, 0)[..., None], 3, axis=2).clip(0, 255).astype(np.uint8)


def board() -> np.ndarray:
    y, x = np.mgrid[:300, :300]
    return in_circle(cv2.GaussianBlur(20.0 + 80 * ((x // 28 + y // 28) % 2), (0, 0), 1.5))


def white_page() -> np.ndarray:
    page = np.full((420, 300, 3), 255, np.uint8)
    page[82:338, 22:278] = EYE
    return page


def outer_eye() -> np.ndarray:
    """Skin, the white of the eye, a brown iris with rays, the pupil with a reflection."""
    random = np.random.default_rng(5)
    page = np.array([214, 165, 135]) + 12 * cv2.GaussianBlur(random.normal(0, 1, (360, 480)), (0, 0), 5)[..., None]
    eye, middle = np.full(page.shape, 228.0) - [0, 13, 23], (240, 178)
    cv2.circle(eye, middle, 74, (100, 70, 40), -1)
    for angle in np.linspace(0, 2 * np.pi, 80):
        end = (int(240 + 72 * np.cos(angle)), int(178 + 72 * np.sin(angle)))
        cv2.line(eye, middle, end, (125, 95, 65), 1)
    cv2.circle(eye, middle, 30, (10, 8, 8), -1)
    cv2.circle(eye, (220, 155), 8, (255, 255, 255), -1)
    opening = cv2.ellipse(np.zeros(page.shape[:2], np.uint8), (240, 180), (170, 80), 0, 0, 360, 1, -1)[..., None]
    return cv2.GaussianBlur(np.where(opening, eye, page), (0, 0), 1).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(viewer(words=True), id="viewer with words"),
        pytest.param(viewer(words=False), id="viewer with small copies"),
        pytest.param(pair(256), id="two eyes"),
        pytest.param(pair(110), id="a large and a small eye"),
        pytest.param(pair(150, 128), id="a large and a small eye on grey"),
        pytest.param(np.rot90(pair(180)), id="one eye above another"),
        pytest.param(
            np.tile(cv2.copyMakeBorder(EYE, *[6] * 4, cv2.BORDER_CONSTANT, value=(128,) * 3), (2, 2, 1)), id="sheet"
        ),
        pytest.param(white_page(), id="page with a photograph on black"),
        pytest.param(ball([220, 170, 60]), id="yellow ball"),
        pytest.param(board(), id="board in a circle"),
        pytest.param(outer_eye(), id="outer eye"),
    ],
)
def test_what_is_not_one_retina_is_flagged(picture: np.ndarray) -> None:
    assert "not-a-retina" in prepared(picture).flags


def test_bars_dates_and_close_crops_are_no_layout() -> None:
    barred = np.zeros((360, 256, 3), np.uint8)
    barred[60:300] = EYE[8:248]
    beside = np.zeros((256, 460, 3), np.uint8)
    beside[:, 102:358] = EYE
    dated = beside.copy()
    cv2.putText(dated, "2026-11-29", (6, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (220, 220, 220), 1)
    padded = np.zeros((300, 200, 3), np.uint8)  # the middle of the retina between black bars
    padded[60:240] = EYE[38:218, 28:228]
    for picture in (barred, beside, dated, padded, EYE[50:206, 50:206]):
        assert "not-a-retina" not in prepared(picture).flags


@pytest.mark.parametrize("crop", ["none", "disc"])
def test_a_squeezed_retina_is_one_whatever_is_cropped(crop: str) -> None:
    squeezed = cv2.resize(EYE[:, 8:-8], (256, 190), interpolation=cv2.INTER_AREA)
    own, usual = (prepare_pixels(squeezed, Preparation(size=256, crop=way), measure=True) for way in (crop, "ellipse"))
    assert own.measures["retina"] == usual.measures["retina"] and "not-a-retina" not in own.flags
