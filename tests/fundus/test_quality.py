"""Measures against pictures whose border, brightness, blur and field are known; words against what was done to them."""

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from foveal.fundus.crop import Disc, whole_frame
from foveal.fundus.disc import find_disc
from foveal.fundus.preparation import Preparation, Prepared, prepare_file, prepare_pixels
from foveal.fundus.quality import ADVICE, FLAGS, SIDES, UNGRADABLE, advice_of, flags_of, measure
from foveal.sources.phantom import draw_phantom

KEYS = "border red green blue sharpness brightness contrast clipped dark field retina"


def prepared(pixels: np.ndarray, size: int = 256) -> Prepared:
    return prepare_pixels(pixels, Preparation(size=size, crop="ellipse"), measure=True)


@pytest.fixture(scope="module")
def phantom() -> np.ndarray:
    return draw_phantom(1, "left", 256, np.random.default_rng(4)).image


def plain_disc(width: int, height: int, x: float, y: float, radius: float, level: int = 120) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width] + 0.5
    inside = np.hypot(columns - x, rows - y) <= radius
    return (inside[..., None] * np.array([level, level * 0.5, level * 0.25])).astype(np.uint8)


def test_keys_ranges_and_sentences(phantom: np.ndarray) -> None:
    result = prepared(phantom)
    assert " ".join(result.measures) == KEYS
    shares = [value for name, value in result.measures.items() if name not in ("red", "green", "blue")]
    assert all(0 <= value <= 1 for value in shares)
    every = dict.fromkeys(KEYS.split(), 0.0) | {"clipped": 1.0}
    assert set(flags_of(every)) | {"cut-off"} <= set(FLAGS) and set(FLAGS) >= UNGRADABLE
    assert {"no-disc", "ungradable", "poor-quality"} <= set(FLAGS)
    assert all(sentence.endswith(".") for sentence in FLAGS.values())
    assert flags_of({}) == ()


def test_frame_and_disc_are_measured_as_drawn() -> None:
    frame = plain_disc(600, 400, 300, 200, 150)
    disc = Disc(150, 50, 300, 300, found=True)
    measures = measure(cv2.resize(frame[50:350, 150:450], (256, 256)), disc, frame)
    assert measures["border"] == pytest.approx(1 - np.pi * 150**2 / (600 * 400), abs=0.01)
    assert measures["red"] == pytest.approx(frame[..., 0].mean(), abs=0.1)
    assert measures["green"] == pytest.approx(frame[..., 1].mean(), abs=0.1)
    assert measures["brightness"] == pytest.approx((0.299 + 0.587 * 0.5 + 0.114 * 0.25) * 120 / 255, abs=0.01)
    assert measures["field"] > 0.98 and measures["dark"] == measures["clipped"] == 0
    assert measures["sharpness"] < 0.02 and measures["contrast"] < 0.02


@pytest.mark.parametrize("bars", [False, True])
@pytest.mark.parametrize("shown", [0.95, 0.8, 0.6])
def test_field_is_the_visible_share_of_the_disc(shown: float, bars: bool) -> None:
    # of a disc cut at the bottom, at `shown` of its height; black bars within the frame cut it just so
    whole = plain_disc(400, 400, 200, 200, 180)
    last = round(20 + 360 * shown)
    frame = np.where(np.arange(400)[:, None, None] < last, whole, np.uint8(0)) if bars else whole[:last]
    square = np.zeros((360, 360, 3), np.uint8)
    square[: last - 20] = whole[20:last, 20:380]
    measures = measure(square, Disc(20, 20, 360, 360, found=True), frame)
    h = 2 * shown - 1  # of the chord, in radii from the centre
    expected = 1 - (np.arccos(h) - h * np.sqrt(1 - h * h)) / np.pi
    assert measures["field"] == pytest.approx(expected, abs=0.02)
    assert ("cut-off" in flags_of(measures)) == (expected < 0.75)


@pytest.mark.parametrize(("side", "turns"), [("bottom", 0), ("right", 1), ("top", 2), ("left", 3)])
def test_the_side_on_which_the_disc_is_cut_off_is_known(side: str, turns: int) -> None:
    frame = np.rot90(plain_disc(400, 400, 200, 200, 180)[:236], turns)
    found = prepare_pixels(np.ascontiguousarray(frame), Preparation(size=128, crop="disc"), measure=True)
    assert "cut-off" in found.flags and found.sides == (side,)
    assert SIDES[side] in advice_of(["cut-off"], found.sides)


def test_every_flag_has_advice(refuses) -> None:
    assert set(ADVICE) == set(FLAGS) and advice_of(()) == ""
    assert advice_of(["too-dark", "blurred"]).count(";") == 1
    assert SIDES["left"] in advice_of(["not-a-retina", "cut-off"], ["left"])
    with refuses("option.value", "flags xx", "too-dark"):
        advice_of(["xx"])
    page = (Path(__file__).parents[2] / "docs" / "reference" / "python.md").read_text("utf-8")
    assert all(f"| `{flag}` | {meaning} |" in page for flag, meaning in FLAGS.items())


@pytest.mark.parametrize("size", [64, 96, 128, 256])
@pytest.mark.parametrize("grade", [0, 2, 4])
def test_phantoms_are_retinas_without_a_fault(size: int, grade: int) -> None:
    random = np.random.default_rng([size, grade])
    for eye in ("left", "right"):
        image = draw_phantom(grade, eye, size, random).image
        assert set(prepared(image, size).flags) <= {"no-disc"}
        plain = prepare_pixels(image, Preparation(size=size, crop="none"), measure=True)
        assert plain.flags == ()


@pytest.mark.parametrize(
    ("flag", "worse"),
    [
        ("blurred", lambda x: cv2.GaussianBlur(x, (0, 0), 6)),
        ("too-dark", lambda x: (x * 0.12).astype(np.uint8)),
        ("too-bright", lambda x: (x * 6.0).clip(0, 255).astype(np.uint8)),
        ("low-contrast", lambda x: np.where(x.max(axis=2, keepdims=True) > 25, x * 0.1 + 110, 0).astype(np.uint8)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_fault_has_its_word(phantom: np.ndarray, flag: str, worse: object) -> None:
    assert flag not in prepared(phantom).flags
    assert flag in prepared(worse(phantom)).flags  # type: ignore[operator]


def test_blur_lowers_sharpness_step_by_step_and_size_does_not(phantom: np.ndarray) -> None:
    sharp = [prepared(cv2.GaussianBlur(phantom, (0, 0), s) if s else phantom).measures["sharpness"] for s in range(5)]
    assert all(after < before for before, after in pairwise(sharp)) and sharp[4] < sharp[0] / 2
    for size in (128, 384, 512):
        other = cv2.resize(phantom, (size, size), interpolation=cv2.INTER_AREA if size < 256 else cv2.INTER_CUBIC)
        assert prepared(other, size).measures["sharpness"] == pytest.approx(sharp[0], rel=0.15)


def text() -> np.ndarray:
    page = np.full((300, 220, 3), 250, np.uint8)
    for y in range(20, 300, 18):
        cv2.putText(page, "visual acuity 20/20, both", (8, y), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (20, 20, 20), 1)
    return page


def scene() -> np.ndarray:
    picture = np.full((240, 320, 3), (120, 170, 220), np.uint8)
    cv2.rectangle(picture, (60, 90), (180, 220), (150, 60, 50), -1)
    cv2.rectangle(picture, (0, 200), (320, 240), (60, 120, 50), -1)
    cv2.circle(picture, (260, 50), 25, (250, 240, 120), -1)
    return picture


@pytest.mark.parametrize(
    "picture",
    [
        pytest.param(text(), id="text"),
        pytest.param(scene(), id="scene"),
        pytest.param(np.ones((256, 256, 3), np.uint8), id="black"),
        pytest.param(np.full((256, 256, 3), 255, np.uint8), id="white"),
        pytest.param(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8), id="noise"),
        pytest.param(
            np.repeat(np.linspace(0, 255, 256).astype(np.uint8)[None, :, None], 256, 0).repeat(3, 2), id="ramp"
        ),
    ],
)
def test_other_pictures_are_not_retinas(picture: np.ndarray) -> None:
    result = prepared(picture)
    assert "not-a-retina" in result.flags and result.measures["retina"] < 0.1


def test_a_red_free_eye_is_a_retina(phantom: np.ndarray) -> None:
    grey = np.repeat(phantom[..., 1:2], 3, axis=2)
    assert prepared(grey).flags == ()


def test_without_a_disc_nothing_is_said_about_the_field(phantom: np.ndarray) -> None:
    measures = measure(phantom, whole_frame(256, 256), phantom)
    assert measures["field"] == 1 and 0.1 < measures["border"] < 0.45


@pytest.mark.real
def test_real_photographs_keep_their_words(real_data: Path) -> None:
    options = Preparation(size=256, crop="ellipse")
    files = sorted((real_data / "messidor2" / "images").iterdir())[::150]
    assert [path.name for path in files if prepare_file(path, options, measure=True).flags] == []
    samples = real_data / "fundus_samples_fullres" / "eyepacs"
    assert "too-dark" in prepare_file(samples / "35_left.png", options, measure=True).flags
    assert prepare_file(samples / "68_right.png", options, measure=True).flags == ()


@pytest.mark.real
def test_digits_are_not_retinas(real_data: Path) -> None:
    import gzip

    data = gzip.decompress((real_data / "mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())
    digits = np.frombuffer(data, np.uint8, offset=16).reshape(-1, 28, 28)[:20]
    large = [np.asarray(Image.fromarray(digit).convert("RGB").resize((256, 256))) for digit in digits]
    assert sum("not-a-retina" in prepared(picture).flags for picture in large) >= 18
    assert sum(find_disc(picture).found for picture in large) <= 1  # some noughts are ovals


def test_several_pictures_in_one_frame_and_pages_are_not_a_retina():
    eye = draw_phantom(2, "left", 256, np.random.default_rng(0)).image
    page = np.full((1100, 800, 3), 250, np.uint8)
    page[200:456, 100:356] = eye
    assert "not-a-retina" not in prepared(eye).flags
    beside = np.hstack([eye, np.zeros((256, 90, 3), np.uint8), eye])
    random, slope = np.random.default_rng(1), np.linspace(140, 220, 300)[:, None, None]
    noisy = random.normal(slope * [1, 0.6, 0.4], 3, (300, 420, 3)).clip(0, 255).astype(np.uint8)
    for picture in (np.hstack([eye, eye]), np.tile(eye, (3, 3, 1)), page, np.full((300, 300, 3), 180, np.uint8)):
        assert "not-a-retina" in prepared(picture).flags
    wide = np.full((900, 640, 3), 255, np.uint8)  # a report whose photograph is most of its width
    wide[60:572, 64:576] = cv2.resize(eye, (512, 512))
    for line in range(620, 880, 22):
        cv2.putText(wide, "Right eye: moderate retinopathy, refer in 4 weeks", (40, line), 0, 0.6, (0, 0, 0), 1)
    y, x = np.mgrid[:480, :480]
    lit = (np.hypot(x - 240, y - 240) < 225)[..., None] * np.array([60, 25, 10])
    empty = (lit + random.normal(0, 3, (480, 480, 3))).clip(0, 255).astype(np.uint8)
    for picture in (wide, empty):
        assert "not-a-retina" in prepared(picture).flags
    for picture in (beside, noisy):
        assert prepared(picture).measures["retina"] == 0
