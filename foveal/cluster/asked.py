"""New photographs, prepared and encoded like the images of the set, and their nearest images in the set.

    foveal cluster DATA --run RUN --image photograph.jpg

OUT/asked.csv has a row per photograph and neighbour: image, rank, other, similarity, distance, other_label. The
patients of new photographs are unknown: a photograph that is in the set finds itself and other images of its eye.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from foveal.cluster.features import Encode, Features, unit_rows
from foveal.cluster.images import Images
from foveal.cluster.neighbours import NEAREST, Nearest, nearest, pairs, vote
from foveal.console import say, show_table, warn
from foveal.errors import FovealError
from foveal.fundus.preparation import Preparation, prepare_file


@dataclass(frozen=True, kw_only=True)
class Asked:
    """New photographs: prepared pixels uint8 [m, S, S, C], nearest images, and the label of the vote, int [m]."""

    names: Sequence[str]
    pixels: np.ndarray
    near: Nearest
    voted: np.ndarray


def read_asked(files: Sequence[Path], images: Images) -> np.ndarray:
    """The photographs uint8 [m, S, S, C], prepared like the set; FovealError if one cannot be read."""
    card = images.sets[0].card
    preparation, found = Preparation(**card["options"]), []
    for file in files:
        try:
            prepared = prepare_file(file, preparation, bool(card.get("fundus")), name=str(file))
        except FovealError as error:
            raise FovealError(error.code, f"--image {file}: {error.what}", expected=error.expected,
                              fix=error.fix) from None  # fmt: skip
        if prepared.flags:
            warn(f"{file} is flagged {', '.join(prepared.flags)}: its nearest images may be meaningless")
        found.append(prepared.pixels)
    return np.stack(found)


def ask(files: Sequence[Path], pixels: np.ndarray, encode: Encode, features: Features, images: Images) -> Asked:
    """The nearest images of each photograph (prepared, uint8 [m, S, S, C]), by the features of the set."""
    directions, unknown = unit_rows(encode(pixels)), np.full(len(files), -1)
    near, voters = (
        nearest(directions, unknown, features.directions, images.units, among=among)
        for among in (None, images.labels >= 0)
    )
    voted = vote(voters, images.labels, len(images.classes))
    return Asked(names=[str(file) for file in files], pixels=pixels, near=near, voted=voted)


def listing(asked: Asked, images: Images) -> pd.DataFrame:
    """The table for asked.csv; the distance is one minus the cosine."""
    table = pairs(asked.near, np.array(asked.names, object), images).rename(columns={"id": "image"})
    table.insert(4, "distance", (1 - table["similarity"]).clip(0).round(5))
    return table


def show(asked: Asked, images: Images) -> None:
    """Print the nearest images of each photograph, and the label of their vote."""
    table = listing(asked, images)
    for name, voted in zip(asked.names, asked.voted, strict=True):
        own = table[table["image"] == name].fillna({"other_label": -1})
        rows = [
            [str(row["rank"]), str(row["other"]), f"{row['distance']:.3f}", images.name(row["other_label"])]
            for row in own.to_dict("records")
        ]
        say()
        show_table(f"nearest to {name}", ["", "image", "distance", "label"], rows)
        if voted >= 0:
            say(f"the {NEAREST} nearest labelled images vote for {images.name(int(voted))}")
