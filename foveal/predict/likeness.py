"""Likeness: four scores for how much a photograph looks like those that a grader learned from; RUN/likeness.npz.

    resolution  the visible disc's diameter in the original photograph, in octaves
    sharpness   variance of the Laplacian of the prepared photograph at the network's size (Pech-Pacheco et al., 2000)
    colour      means and spreads of the channels within the disc, as a Mahalanobis distance
    content     means and spreads of the maps in the middle of the encoder (nets/heads.py), as a Mahalanobis distance
                (Lee et al., 2018, with one Gaussian). Directions beyond the first `DIRECTIONS` share one variance
                (Tipping and Bishop, 1999)

Each score is divided by a high quantile in validation, and above 1 a photograph is unlike. Content tells sources apart
best, so it has the strictest limit. All four together call at most 4 % of validation photographs unlike.
"""

import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from foveal.files import replacing
from foveal.fundus.crop import inscribed
from foveal.fundus.preparation import at_size

FILE = "likeness.npz"
KINDS = ("resolution", "sharpness", "colour", "content")
PASSING = (0.995, 0.995, 0.995, 0.975)  # of validation photographs, for each kind
FAR = 5  # spreads from the median: a limit for few validation photographs, of all kinds but content
DIRECTIONS = 64  # of the texture that have their own variance
SHRINKAGE = 0.1  # of variances towards their mean
LEAST_SPREAD = np.array([0.1, 0.1])  # octaves, log variance: photographs of one size must not make all others unlike
LEAST_HELD = 20  # photographs to set limits
MOST_IMAGES = 2000  # of each part, so that a large set takes no longer than an epoch
_RADIUS = 0.9  # of the disc: the rim differs by cropping
_LEAST_LIMIT = np.array([2.5, 2.0, 1.0, 0.5])  # of scores in spreads


@dataclass(frozen=True, kw_only=True)
class Likeness:
    """What training photographs look like, in float32.

    plain: [2, 2], median and spread of resolution and sharpness. colours, texture: [1 + k, D], mean, and directions
    divided by their spread. rest: [2], 1 / variance of other directions. limits: [4]. side: pixels the network sees.
    """

    plain: np.ndarray
    colours: np.ndarray
    texture: np.ndarray
    rest: np.ndarray
    limits: np.ndarray
    side: np.ndarray

    def scores(self, looks: np.ndarray, texture: np.ndarray) -> np.ndarray:
        """[n, 4], above 1 where unlike. looks: from `looks_of`. texture: [n, D] of the encoder."""
        middle, spread = self.plain
        away = np.abs(looks[:, :2] - middle) / spread
        colour = _distance(looks[:, 2:], self.colours, self.rest[0])
        return np.column_stack([away, colour, _distance(texture, self.texture, self.rest[1])]) / self.limits

    def unlike(self, looks: np.ndarray, texture: np.ndarray) -> list[str]:
        """For each photograph the words of `KINDS` in which it is unlike, the most unlike first; "" for none."""
        return [" ".join(KINDS[k] for k in np.argsort(-row, kind="stable") if row[k] > 1)
                for row in self.scores(looks, texture)]  # fmt: skip


def fit_likeness(
    looks: np.ndarray, texture: np.ndarray, held_looks: np.ndarray, held_texture: np.ndarray, side: int
) -> Likeness:
    """Statistics of training photographs with looks [n, 2 + 2 C] and texture [n, D], and limits from photographs that
    the encoder did not learn from. side: as in `looks_of`."""
    middle = np.median(looks[:, :2], 0)
    spread = np.maximum(1.4826 * np.median(np.abs(looks[:, :2] - middle), 0), LEAST_SPREAD)
    colours, colour_rest = _gaussian(looks[:, 2:])
    directions, rest = _gaussian(texture)
    found = {"plain": [middle, spread], "colours": colours, "texture": directions, "rest": [colour_rest, rest],
             "limits": np.ones(4), "side": side}  # fmt: skip
    start = Likeness(**{name: np.asarray(values, np.float32) for name, values in found.items()})
    raw = start.scores(held_looks, held_texture)
    typical = np.median(raw, 0)
    extreme = typical + FAR * 1.4826 * np.median(np.abs(raw - typical), 0)
    # The quantiles that these shares of new photographs stay below, on average (conformal, Vovk, 2005).
    ranks = [min(math.ceil((len(raw) + 1) * share), len(raw)) - 1 for share in PASSING]
    limits = np.sort(raw, axis=0)[ranks, range(len(ranks))]
    limits[:3] = np.maximum(limits, extreme)[:3]
    # Scores are compared with float32 limits: a little room keeps the photograph at the limit on this side.
    return Likeness(**asdict(start) | {"limits": (np.maximum(limits, _LEAST_LIMIT) * 1.0001).astype(np.float32)})


def looks_of(images: np.ndarray, diameters: np.ndarray, side: int) -> np.ndarray:
    """float64 [n, 2 + 2 C]: log2 diameter, log sharpness, mean and spread of each channel (0..1). images: prepared
    uint8 [n, S, S, C]. diameters: [n] in pixels of the originals. side: pixels that the network sees."""
    inside = inscribed(side, _RADIUS)
    rows = []
    for image, across in zip(at_size(images, side), diameters, strict=True):
        green = np.ascontiguousarray(image[..., image.shape[2] // 2])
        sharpness = cv2.Laplacian(green, cv2.CV_32F)[inside].var()
        seen = image[inside] / 255
        rows.append([math.log2(max(across, 1)), math.log(sharpness + 1), *seen.mean(0), *seen.std(0)])
    return np.array(rows, float).reshape(len(images), 2 + 2 * images.shape[3])


def diameter(width: float, height: float, border: float = math.nan) -> float:
    """Diameter in pixels of a disc with the area that shows the eye; border: see fundus/quality.py, NaN if unknown."""
    return math.sqrt(width * height * (1 if math.isnan(border) else 4 / math.pi * max(1 - border, 0)))


def diameters_of(records: pd.DataFrame, measures: pd.DataFrame) -> np.ndarray:
    """[n]: `diameter` of records of a prepared set with its measures."""
    borders = measures.set_index("id")["border"] if "border" in measures else pd.Series(dtype=float)
    border = pd.to_numeric(borders.reindex(records["id"]), errors="coerce")
    sizes = zip(records["width"].astype(float), records["height"].astype(float), border, strict=True)
    return np.array([diameter(*size) for size in sizes])


def write_likeness(run: Path, likeness: Likeness) -> None:
    """Write RUN/likeness.npz."""
    with replacing(run / FILE) as partial:
        np.savez_compressed(partial, **asdict(likeness))


def read_likeness(run: Path) -> Likeness | None:
    """The statistics of a run; None for runs of earlier versions, which have none or others."""
    if not (run / FILE).is_file():
        return None
    names = [field.name for field in fields(Likeness)]
    with np.load(run / FILE, allow_pickle=False) as arrays:
        return Likeness(**{name: arrays[name] for name in names}) if set(names) <= set(arrays.files) else None


def is_batch_unlike(count: int, total: int) -> bool:
    """Whether more photographs are unlike than chance explains: more than 5 %, plus 3 standard errors and one."""
    return count > 0.05 * total + 3 * math.sqrt(0.05 * 0.95 * total) + 1


def _gaussian(values: np.ndarray) -> tuple[np.ndarray, float]:
    """The mean and the whitened main directions [1 + k, D], and 1 / variance of the rest, after shrinkage."""
    mean = values.mean(0)
    _, singular, directions = np.linalg.svd(values - mean, full_matrices=False)
    variances = singular**2 / max(len(values) - 1, 1)
    average = variances.sum() / values.shape[1] + 1e-12
    kept = min(DIRECTIONS, len(values) // 4, values.shape[1])
    others = variances[kept:].sum() / max(values.shape[1] - kept, 1)
    own, rest = ((1 - SHRINKAGE) * variance + SHRINKAGE * average for variance in (variances[:kept], others))
    return np.vstack([mean, directions[:kept] / np.sqrt(own[:, None])]), 1 / rest


def _distance(values: np.ndarray, gaussian: np.ndarray, rest: float) -> np.ndarray:
    """[n]: the Mahalanobis distance per square root of the dimension."""
    apart = values.astype(np.float64) - gaussian[0]
    whitened = gaussian[1:].astype(np.float64)
    lengths = np.maximum((whitened**2).sum(1), 1e-30)
    along = apart @ whitened.T
    left = np.maximum((apart**2).sum(1) - (along**2 / lengths).sum(1), 0)
    return np.asarray(np.sqrt(((along**2).sum(1) + rest * left) / values.shape[1]))
