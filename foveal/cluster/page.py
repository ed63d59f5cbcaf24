"""The page: one HTML file with scores, maps and the images that are nearest to some.

It needs no network, follows the reader's light or dark mode, and prints; its style is that of the report. Without
scripts the maps are coloured by label; with them the colours can be chosen and dots be asked what they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from foveal.cluster import drawing, tables, words
from foveal.cluster.asked import Asked
from foveal.cluster.images import Images
from foveal.cluster.look import Look
from foveal.cluster.maps import Map
from foveal.cluster.neighbours import Nearest
from foveal.page.pictures import Thumbnail, embedded
from foveal.page.render import render as render_page
from foveal.page.words import listed

DOUBTED, AT_RANDOM = 8, 4  # images of which the nearest are shown
ACROSS = 6  # nearest images in a row
DOT_SIDE = 56  # pixels of the picture of a dot
PICTURE_BYTES = 5 << 19  # 2.5 MiB of pictures of dots; the whole page stays below 5


@dataclass(frozen=True, kw_only=True)
class Row:
    """An image with its nearest; `told` is what the labelled ones among them vote for."""

    image: Thumbnail
    nearest: Sequence[tuple[Thumbnail, str]]  # with a tone: "same", "other" or "" where a label is missing
    told: str


def render(
    result: dict[str, Any], images: Images, look: Look, maps: Sequence[Map], doubtful: pd.DataFrame,
    asked: Asked | None, seed: int,
) -> str:  # fmt: skip
    """The page as HTML; every word that comes from a file is escaped."""
    clusters = look.clusterings["k-means"].clusters
    colours = drawing.colourings(images, clusters)
    generator = np.random.default_rng(seed)
    pictures = _dot_pictures(images, generator.permutation(maps[0].rows))
    return render_page(
        "cluster.html",
        title=listed(list(dict.fromkeys(images.table["source"]))),
        about=" · ".join(dict.fromkeys(prepared.card["title"] for prepared in images.sets)),
        licence="; ".join(dict.fromkeys(prepared.card["licence"] for prepared in images.sets)),
        lead=words.lead(result),
        findings=result["findings"],
        tables=tables.tables_of(result),
        colourings=colours,
        drawings=drawing.drawings(maps, colours, look.variance, seed),
        side=drawing.SIDE,
        points=drawing.points(images, maps[0].rows, clusters, pictures),
        shown=len(maps[0].rows),
        pictured=len(pictures),
        images=len(images),
        umap=any(one.name == "umap" for one in maps),
        beside_maps=words.beside_maps(result),
        cannot_show=words.CANNOT_SHOW,
        beside_doubts=words.beside_doubts(result),
        doubted=_rows(images, look, look.voters, doubtful["position"].to_numpy(np.int64)[:DOUBTED]),
        at_random=_rows(images, look, look.near, np.sort(generator.choice(len(images), AT_RANDOM, replace=False))),
        asked=[] if asked is None else _asked_rows(images, asked),
        same_group=result["about"]["same_group"],
    )


def _dot_pictures(images: Images, order: np.ndarray) -> dict[int, str]:
    """Position -> data: address of a small picture, in this order, until the room for them is spent."""
    pictures: dict[int, str] = {}
    room = PICTURE_BYTES
    for start in range(0, len(order), 64):
        part = order[start : start + 64]
        for position, pixels in zip(part, images.pixels(part), strict=True):
            side = min(DOT_SIDE, len(pixels))
            small = cv2.resize(pixels, (side, side), interpolation=cv2.INTER_AREA)
            source = embedded(small.reshape(side, side, -1))
            room -= len(source)
            if room < 0:
                return pictures
            pictures[int(position)] = source
    return pictures


def _asked_rows(images: Images, asked: Asked) -> list[Row]:
    """The photographs asked about, each with its nearest and how far they are."""
    rows = []
    for number, name in enumerate(asked.names):
        found = asked.near.index[number][:ACROSS]
        nearest = [
            (Thumbnail(source=embedded(pixels), id=str(images.table["id"].iloc[other]),
                       line=f"{1 - cosine:.3f} {images.name(int(images.labels[other]))}"), "")
            for pixels, other, cosine in zip(images.pixels(found), found, asked.near.similarity[number][:ACROSS],
                                             strict=True)
        ]  # fmt: skip
        told = images.name(int(asked.told[number])) if asked.told[number] >= 0 else ""
        picture = Thumbnail(source=embedded(asked.pixels[number]), id=Path(name).name, line="asked about")
        rows.append(Row(image=picture, nearest=nearest, told=told))
    return rows


def _rows(images: Images, look: Look, near: Nearest, positions: np.ndarray) -> list[Row]:
    return [_row(images, near.index[position], int(look.told.label[position]), int(position)) for position in positions]


def _row(images: Images, found: np.ndarray, told: int, position: int) -> Row:
    found, own = found[found >= 0][:ACROSS], images.labels[position]
    pictures = images.pixels(np.append(position, found))
    nearest = [
        (_thumbnail(images, pixels, int(other)), _tone(own, images.labels[other]))
        for pixels, other in zip(pictures[1:], found, strict=True)
    ]
    image = _thumbnail(images, pictures[0], position)
    return Row(image=image, nearest=nearest, told=images.name(told) if told >= 0 else "")


def _thumbnail(images: Images, pixels: np.ndarray, position: int) -> Thumbnail:
    name, label = str(images.table["id"].iloc[position]), images.name(int(images.labels[position]))
    return Thumbnail(source=embedded(pixels), id=name, line=label)


def _tone(own: int, other: int) -> str:
    if own < 0 or other < 0:
        return ""
    return "same" if own == other else "other"
