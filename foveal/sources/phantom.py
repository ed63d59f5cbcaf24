"""Phantom fundus photographs: drawn eyes whose grade and lesions are known exactly.

The grade changes only the lesions, not the anatomy or the camera. Lesions are larger than life (a microaneurysm is two
pixels wide at 96 pixels): these pictures teach nothing about real disease. Everything is drawn as polygons: filled on a
finer canvas, reduced to the share of each pixel that they cover, and blended.

Retina units: fovea at (0, 0), a right eye's optic disc at positive x, y downwards, the field about 1 in radius.
"""

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.random import Generator

from foveal.errors import FovealError

Outlines = list[np.ndarray]  # closed polygons [n, 2] in retina units
DRAWN: dict[str, Any] = tomllib.loads(Path(__file__).with_name("phantom.toml").read_text(encoding="utf-8"))
SUPERSAMPLING = 4  # canvas pixels per image pixel and side
FIXED_POINT_BITS = 4  # OpenCV takes sub-pixel corners as integers with this many fractional bits
FOVEA, OPTIC_DISC = np.zeros(2), np.array([0.62, -0.04])
ALONG = np.linspace(0, 1, 24)  # places on a vessel
TAPER = 1 - 0.65 * ALONG  # its width there
ACROSS = np.array([0.5, -0.5])  # from the direction of a vessel to half of its width
ROUND = np.linspace(0, 2 * np.pi, 24, endpoint=False)
CIRCLE = np.column_stack([np.cos(ROUND), np.sin(ROUND)])
PALE_FUNDUS, DARK_FUNDUS = np.array([0.88, 0.47, 0.24]), np.array([0.68, 0.29, 0.13])


class Phantom(NamedTuple):
    """A drawn photograph: `image`, uint8 [S, S, 3] RGB; `grade`, ICDR 0..4; `eye`, "left" or "right"; and `lesions`.

    `lesions`: uint8 [S, S]; 0 background, 1 microaneurysm, 2 haemorrhage, 3 hard exudate, 4 cotton-wool spot,
    5 neovascularisation or pre-retinal haemorrhage.
    """

    image: np.ndarray
    lesions: np.ndarray
    grade: int
    eye: str


def draw_phantom(grade: int, eye: str, size: int, generator: Generator) -> Phantom:
    """Draw one photograph of `size` x `size` pixels, 16 or more; the same generator state gives the same bytes."""
    return _draw(grade, eye, size, *map(int, generator.integers(2**63, size=2)))


def draw_patients(count: int, size: int, seed: int) -> Iterator[tuple[str, str, Phantom]]:
    """Yield (id, patient, phantom) for both eyes of `count` patients, each a function of `seed` and its number."""
    for number in range(1, count + 1):
        generator = np.random.default_rng([seed, number])
        patient, grades = f"p{number:04d}", draw_grades(generator)
        patient_seed, *image_seeds = (int(seed) for seed in generator.integers(2**63, size=3))
        for eye, grade, image_seed in zip(("left", "right"), grades, image_seeds, strict=True):
            yield f"{patient}_{eye}", patient, _draw(grade, eye, size, patient_seed, image_seed)


def draw_grades(generator: Generator) -> tuple[int, int]:
    """The ICDR grades (left, right) of one patient: equal in about 87 % of patients, else one apart."""
    first = int(generator.choice(5, p=DRAWN["grade_shares"]))
    neighbour = {0: 1, 4: 3}.get(first, first + int(generator.choice((-1, 1))))
    second = first if generator.random() < DRAWN["fellow_eye_agrees"] else neighbour
    return (first, second) if generator.random() < 0.5 else (second, first)


def _draw(grade: int, eye: str, size: int, patient_seed: int, image_seed: int) -> Phantom:
    if grade not in range(5) or eye not in ("left", "right") or size < 16:
        what = f"a phantom of grade {grade!r}, eye {eye!r} and size {size!r} cannot be drawn"
        raise FovealError("option.value", what, expected="grade 0 to 4, 'left' or 'right', 16 pixels or more")
    # Separate streams: how many lesions are drawn must not change the anatomy or the camera.
    patient = np.random.default_rng(patient_seed)
    anatomy, disease, camera = np.random.default_rng(image_seed).spawn(3)
    # Where the camera sees the eye: float [2, 3], retina units to pixels.
    angle, zoom = anatomy.normal(0, 0.06), size / 2 * anatomy.uniform(0.94, 1.04)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = zoom * np.diag([1.0 if eye == "right" else -1.0, 1.0]) @ turn
    pose = np.column_stack([linear, size / 2 + linear @ anatomy.uniform([-0.12, -0.06], [-0.02, 0.06])])
    scene = _draw_retina(pose, size, patient, anatomy)
    lesions = np.zeros((size, size), np.uint8)
    for kind in DRAWN["lesions"]:
        if outlines := _draw_lesions(kind, grade, 1.4 / size, disease):  # a smaller dot might cover no pixel
            lesions[_paint(scene, pose, outlines, kind["paint"]) >= DRAWN["label_coverage"]] = kind["label"]
    image, field = _photograph(scene, patient, camera)
    return Phantom(image=image, lesions=np.where(field > 0.5, lesions, np.uint8(0)), grade=int(grade), eye=eye)


def _photograph(scene: np.ndarray, patient: Generator, generator: Generator) -> tuple[np.ndarray, np.ndarray]:
    """The photograph, uint8 [S, S, 3], and the coverage of its field of view, float32 [S, S]."""
    size = len(scene)
    y, x = (np.mgrid[:size, :size].astype(np.float32) + 0.5) * (2 / size) - 1
    radius, edge = np.hypot(x, y), generator.uniform(0.95, 0.99)
    cut = generator.uniform(0.82, 0.95) if generator.random() < 0.4 else 1.0  # many sensors miss the top and bottom
    field = np.clip((edge - radius) * (size / 2), 0, 1) * np.clip((cut - abs(y)) * (size / 2), 0, 1)
    tilt = generator.normal(0, 0.08, size=2)
    light = 1 - generator.uniform(0.25, 0.5) * radius**2.5 + tilt[0] * x + tilt[1] * y
    gains = np.exp(patient.normal(0, (0.05, 0.10, 0.14)) + generator.normal(0, 0.12))
    exposed = np.clip(scene * light[..., None] * gains, 0, 1) ** generator.uniform(0.85, 1.2)
    blurred = cv2.GaussianBlur(exposed, (0, 0), generator.uniform(0.05, 0.8) * size / 96)  # about 0 to 0.8 at 96 pixels
    noisy = blurred + generator.uniform(0.004, 0.018) * generator.standard_normal(scene.shape, dtype=np.float32)
    return (np.clip(noisy * field[..., None], 0, 1) * 255).round().astype(np.uint8), field


def _paint(scene: np.ndarray, pose: np.ndarray, outlines: Outlines, paint: str) -> np.ndarray:
    """Fill `outlines` in `scene` (float32 [S, S, 3], in place); return their sharp coverage, float32 [S, S]."""
    *colour, opacity, softness = DRAWN["paints"][paint]
    size = len(scene)
    canvas = np.zeros((size * SUPERSAMPLING, size * SUPERSAMPLING), np.uint8)
    for outline in outlines:  # one at a time: in one call, overlaps would cancel
        corners = (outline @ pose[:, :2].T + pose[:, 2]) * (SUPERSAMPLING << FIXED_POINT_BITS)
        cv2.fillPoly(canvas, [corners.round().astype(np.int32)], (255,), shift=FIXED_POINT_BITS)
    coverage = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    soft = cv2.GaussianBlur(coverage, (0, 0), softness * size / 2) if softness else coverage
    scene += opacity * soft[..., None] * (np.array(colour, np.float32) - scene)
    return coverage


def _draw_retina(pose: np.ndarray, size: int, patient: Generator, generator: Generator) -> np.ndarray:
    """Reflectance of the lesion-free eye, float32 [S, S, 3]."""
    clouds, streaks = (cv2.resize(generator.normal(size=(cells, cells)), (size, size), interpolation=cv2.INTER_CUBIC)
                       for cells in (7, 16))  # fmt: skip
    texture = 0.05 * clouds + generator.uniform(0.02, 0.12) * (np.exp(-8 * streaks**2) - 0.4)  # choroidal vessels
    pigment = PALE_FUNDUS + patient.beta(2, 2) * (DARK_FUNDUS - PALE_FUNDUS)
    scene = np.asarray(pigment * (1 + texture[..., None] * (0.5, 1.0, 1.2)), np.float32)
    rim, cup = generator.uniform((0.15, 0.06), (0.18, 0.10))
    for paint, radius in {"macula": 0.24, "foveola": 0.06, "disc_rim": rim, "disc_cup": cup}.items():
        centre = OPTIC_DISC if paint.startswith("disc") else FOVEA
        _paint(scene, pose, _blob(centre, np.array([0.9, 1.05]) * radius, generator), paint)
    for width, paint in ((0.034, "vein"), (0.025, "artery")):
        tree: Outlines = []
        for side in (-1, 1):  # an arcade that curves around the macula, a nasal vessel, a small one towards the macula
            for heading, turn, length, scale in ((1.6, 1.75, 1.7, 1.0), (1.0, -0.5, 0.7, 0.6), (2.5, 0.5, 0.45, 0.45)):
                bend = side * generator.normal((heading, turn), (0.16, 0.08))
                tree += _grow(OPTIC_DISC, bend, length, width * scale, generator)
        _paint(scene, pose, tree, paint)
    return scene


def _grow(start: np.ndarray, bend: np.ndarray, length: float, width: float, generator: Generator) -> Outlines:
    """A vessel and its branches; it leaves at `bend[0]` radians and turns by `bend[1]`, mostly at its start."""
    wave = 0.16 * np.sin(2 * np.pi * (ALONG * generator.uniform(1, 2.5) + generator.random()))
    headings = bend[0] + bend[1] * np.sqrt(ALONG) + wave
    path, *outlines = _ribbon(start, headings, length, width * TAPER)
    if width > 0.011:
        for side, share in zip((1, -1, 1, -1), generator.uniform(0.12, 0.7, size=4 if length > 1 else 2), strict=False):
            at, reach = int(share * 23), length * (1 - share) * generator.uniform(0.5, 0.8) + 0.06
            branch = np.array([headings[at] + side * generator.uniform(0.45, 0.9), -side * 0.45])
            outlines += _grow(path[at], branch, reach, width * (0.65 - 0.35 * share), generator)
    return outlines


def _ribbon(start: np.ndarray, headings: np.ndarray, length: float, widths: np.ndarray) -> Outlines:
    """The path [n, 2] of a vessel and its closed outline [2m, 2], which ends where the avascular zone begins."""
    step = np.column_stack([np.cos(headings), -np.sin(headings)])
    path = start + (step.cumsum(axis=0) - step[0]) * (length / len(headings))
    side = step[:, ::-1] * ACROSS * widths[:, None]
    inside = (np.hypot(path[:, 0], path[:, 1]) < DRAWN["avascular_radius"]).nonzero()[0]
    end = max(int(inside[0]), 2) if len(inside) else len(path)
    return [path, np.concatenate([(path + side)[:end], (path - side)[:end][::-1]])]


def _blob(centre: np.ndarray, radii: np.ndarray, generator: Generator) -> Outlines:
    phases, heights = generator.uniform(0, 2 * np.pi, size=(3, 1)), generator.normal(0, 0.06, size=3)
    edge = 1 + heights @ np.cos(np.outer((2, 3, 5), ROUND) + phases)
    return [centre + radii * (edge[:, None] * CIRCLE)]


def _cluster(centre: np.ndarray, radii: np.ndarray, generator: Generator) -> Outlines:
    """Dots along an arc, like a piece of the ring of exudates around a leak."""
    angles = generator.uniform(0, 6.3) + generator.uniform(0, 4, size=generator.integers(5, 15))
    dots = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii + generator.normal(0, 0.02, size=(len(angles), 2))
    return [_blob(centre + dot, generator.uniform(0.011, 0.026, size=2), generator)[0] for dot in dots]


def _tangle(centre: np.ndarray, radii: np.ndarray, generator: Generator) -> Outlines:
    """Fine new vessels that loop and fan out from one point."""
    curls = generator.uniform(-5, 5, size=(generator.integers(9, 15), 1))
    headings = generator.uniform(0, 6.3, size=curls.shape) + curls * np.linspace(0, 1, 16)
    return [_ribbon(centre, heading, generator.uniform(*sorted(radii)), np.full(16, 0.014))[1] for heading in headings]


def _boat(centre: np.ndarray, radii: np.ndarray, generator: Generator) -> Outlines:
    """Blood in front of the retina, which settles under a level surface."""
    return [np.maximum(outline, (-np.inf, centre[1] - 0.01)) for outline in _blob(centre, radii, generator)]


_OUTLINES = {"cluster": _cluster, "blob": _blob, "tangle": _tangle, "boat": _boat}


def _draw_lesions(kind: dict[str, Any], grade: int, least_radius: float, generator: Generator) -> Outlines:
    """The outlines of all lesions of one kind, spread over the four quadrants in turn."""
    count = int(generator.integers(kind["fewest"][grade], kind["most"][grade], endpoint=True))
    angles = (np.arange(count) % 4 + generator.integers(4) + generator.random(count)) * (np.pi / 2)
    nearest, farthest = kind["ring"]
    distances = np.sqrt(generator.uniform(nearest**2, farthest**2, size=count))
    home = OPTIC_DISC if kind["home"] == "disc" else FOVEA
    centres = home + distances[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    if home is FOVEA:  # what falls on the optic disc moves to the temporal side
        centres[np.hypot(*(centres - OPTIC_DISC).T) < 0.22, 0] *= -1
    (least, greatest), outline = kind["radii"], _OUTLINES[kind["outline"]]
    radii = np.maximum(generator.uniform(least, greatest, size=(count, 2)), least_radius)
    return [polygon for spot in zip(centres, radii, strict=True) for polygon in outline(*spot, generator)]
