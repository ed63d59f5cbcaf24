"""Features: a row of numbers per image, from the encoder of a run or from its pixels.

    OUT/features.npz    ids str [n], features float32 [n, D], labels int [n] (-1 unknown), splits str [n], key str

Features are computed once, and read from the file while the key (a hash of images and weights) is the same. Pixels are
the baseline: a result that pixels also give does not need a network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import cv2
import numpy as np

from foveal.cluster.images import Images
from foveal.console import progress_bar, say
from foveal.files import replacing
from foveal.runs import read_model

PIXEL_SIDE = 32  # px: enough for digits and the layout of a retina, too few for a microaneurysm
AT_ONCE = 64  # images

Encode = Callable[[np.ndarray], np.ndarray]  # uint8 [m, S, S, C] -> float32 [m, D]


@dataclass(frozen=True, kw_only=True)
class Features:
    """float32 [n, D], a row per image; `name` is "features" or "pixels", `source` says where they come from."""

    name: str
    source: str
    values: np.ndarray

    @property
    def directions(self) -> np.ndarray:
        """float32 [n, D] with rows of length one: their dot products are cosines. Rows of zeros stay zeros."""
        return unit_rows(self.values)


def unit_rows(values: np.ndarray) -> np.ndarray:
    """float32 [n, D] with every row scaled to length one; rows of zeros stay zeros."""
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return np.divide(values, lengths, out=np.zeros_like(values), where=lengths > 0)


def small_pixels(pixels: np.ndarray) -> np.ndarray:
    """uint8 [m, S, S, C] -> float32 [m, D], 0 to 1: shrunk to at most 32 x 32 px and flattened."""
    side = min(PIXEL_SIDE, pixels.shape[1])
    small = [cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in pixels]
    return np.stack(small).reshape(len(pixels), -1).astype(np.float32) / 255


def encoder_of(run: Path | None, images: Images, device: str) -> Encode:
    """The function that computes features of images prepared like these: the encoder of `run`, or `small_pixels`."""
    if run is None:
        return small_pixels
    from foveal.predict.features import open_encoder  # torch is needed only with a run

    return open_encoder(run, images.sets[0], device)


def pixel_features(images: Images) -> Features:
    """The pixels of all images, by `small_pixels`."""
    side, kind = min(PIXEL_SIDE, images.sets[0].size), "RGB" if images.sets[0].channels == 3 else "grey"
    return Features(name="pixels", source=f"{kind} pixels at {side} x {side}", values=_encoded(images, small_pixels))


def stored_features(images: Images, run: Path | None, out: Path, device: str) -> Features:
    """The features of `run`, or pixels without a run; read from OUT/features.npz if it matches."""
    file, key = out / "features.npz", key_of(images, run)
    known = _read(file, key)
    if known is not None:
        say(f"features: read from {file}")
        return known
    if run is None:
        features = pixel_features(images)
    else:
        model = read_model(run)
        kind = "grader" if model["kind"] == "grader" else "pre-trained encoder"
        values = _encoded(images, encoder_of(run, images, device))
        features = Features(name="features", source=f"{model['encoder']} of {run}, a {kind}", values=values)
    _write(file, features, images, key)
    return features


def _encoded(images: Images, encode: Encode) -> np.ndarray:
    """Features [n, D] of all images."""
    parts = []
    with progress_bar("features", len(images)) as bar:
        for start in range(0, len(images), AT_ONCE):
            parts.append(encode(images.pixels(np.arange(start, min(start + AT_ONCE, len(images))))))
            bar.advance(len(parts[-1]))
    return np.concatenate(parts)


def key_of(images: Images, run: Path | None) -> str:
    """Hashes of all that features.npz depends on: images in order, ids, labels and splits, and the weights."""
    pixels = hashlib.sha256("\n".join(images.table["sha256"]).encode())
    ids = hashlib.sha256("\n".join([*images.table["id"], *map(str, images.labels), *images.table["split"]]).encode())
    weights = None
    if run is not None:
        digest = hashlib.sha256((run / "model.json").read_bytes())
        digest.update((run / "encoder.safetensors").read_bytes())
        weights = digest.hexdigest()
    return json.dumps({"pixels": pixels.hexdigest(), "images": ids.hexdigest(), "weights": weights})


def _read(file: Path, key: str) -> Features | None:
    try:
        with file.open("rb") as stream, np.load(stream) as stored:
            if str(stored["key"]) == key:
                return Features(name=str(stored["name"]), source=str(stored["source"]), values=stored["features"])
    except (FileNotFoundError, BadZipFile, KeyError, ValueError, EOFError):
        return None  # missing, damaged or of another version: write it again
    return None


def _write(file: Path, features: Features, images: Images, key: str) -> None:
    with replacing(file) as partial:
        np.savez(
            partial, ids=images.table["id"].to_numpy(str), features=features.values, labels=images.labels,
            splits=images.table["split"].to_numpy(str), name=np.array(features.name), source=np.array(features.source),
            key=np.array(key),
        )  # fmt: skip
