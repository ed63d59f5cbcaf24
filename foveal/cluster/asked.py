"""Photographs that are not in the set: prepared as it was, encoded by the same network, and their nearest in it.

    foveal cluster DATA --run RUN --image photograph.jpg

OUT/asked.csv, a row per photograph and neighbour: image, rank, other, similarity, distance, other_label. Nothing is
known of their patients: a photograph that is in the set finds itself, and others of its eye.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from foveal.cluster.features import Features, small_pixels, unit_rows
from foveal.cluster.images import Images
from foveal.cluster.neighbours import VOTERS, Nearest, nearest_to, tell
from foveal.console import say, show_table, warn
from foveal.errors import FovealError
from foveal.fundus.preparation import Preparation, prepare_file


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Photographs with their prepared pixels uint8 [m, S, S, C], their nearest, and what labelled ones tell int [m]."""

    names: Sequence[str]
    pixels: np.ndarray
    near: Nearest
    told: np.ndarray


def read_asked(files: Sequence[Path], images: Images) -> np.ndarray:
    """The photographs uint8 [m, S, S, C], prepared as the set was; ValueError for one that cannot be read."""
    card = images.sets[0].card
    preparation, found = Preparation(**card["options"]), []
    for file in files:
        try:
            prepared = prepare_file(file, preparation, bool(card.get("fundus")), name=str(file))
        except (FovealError, OSError) as error:
            raise ValueError(f"--image {file} could not be read ({error}); give a photograph") from None
        if prepared.flags:
            warn(f"{file} is flagged {', '.join(prepared.flags)}: what is near to it may say little")
        found.append(prepared.pixels)
    return np.stack(found)


def ask(
    files: Sequence[Path], pixels: np.ndarray, features: Features, images: Images, run: Path | None, *, count: int,
    device: str,
) -> Asked:  # fmt: skip
    """The `count` nearest images of each photograph (prepared, uint8 [m, S, S, C]), by the features of the set."""
    if run is None:
        values = small_pixels(pixels)
    else:
        from foveal.predict.features import open_encoder

        values = open_encoder(run, images.sets[0], device)(pixels)
    directions, labelled = unit_rows(values), images.labels >= 0
    voters = nearest_to(directions, features.directions, VOTERS, labelled)
    asked = np.full(len(files), -1)
    told = tell(voters, images.labels, len(images.classes), ordered=images.ordered, own=asked)
    near = nearest_to(directions, features.directions, count)
    return Asked(names=[str(file) for file in files], pixels=pixels, near=near, told=told.label)


def listing(asked: Asked, images: Images) -> pd.DataFrame:
    """The table that asked.csv holds; the distance is one minus the cosine."""
    row, rank = np.nonzero(asked.near.index >= 0)
    other, cosine = asked.near.index[row, rank], asked.near.similarity[row, rank].astype(float)
    ids, labels = images.table["id"].to_numpy(), images.table["label"].array
    return pd.DataFrame({
        "image": np.array(asked.names, object)[row], "rank": rank + 1, "other": ids[other],
        "similarity": cosine.round(5), "distance": (1 - cosine).round(5), "other_label": labels[other],
    })  # fmt: skip


def show(asked: Asked, images: Images) -> None:
    """Print the nearest of each photograph, and what they tell."""
    table = listing(asked, images)
    for number, name in enumerate(asked.names):
        rows = [
            [str(row["rank"]), str(row["other"]), f"{row['distance']:.3f}",
             images.name(-1 if pd.isna(row["other_label"]) else int(row["other_label"]))]
            for row in table[table["image"] == name].to_dict("records")
        ]  # fmt: skip
        say()
        show_table(f"nearest to {name}", ["", "image", "distance", "label"], rows)
        if asked.told[number] >= 0:
            say(f"the {VOTERS} nearest labelled images say {images.name(int(asked.told[number]))}")
