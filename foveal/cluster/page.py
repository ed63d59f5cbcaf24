"""The page: one HTML file with scores, maps, and some images with the nearest to each.

Without scripts the maps are coloured by label; with them the reader chooses the colours and points at dots.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from foveal.cluster import drawing, tables, words
from foveal.cluster.asked import Asked
from foveal.cluster.images import Images
from foveal.cluster.look import Look
from foveal.cluster.maps import Map
from foveal.cluster.neighbours import Nearest, doubtful
from foveal.page.pictures import Thumbnail, embedded
from foveal.page.render import render as render_page
from foveal.page.words import listed

DOUBTED, AT_RANDOM = 8, 4  # images of which the nearest are shown
ACROSS = 6  # nearest images in a row
DOT_SIDE = 56  # pixels of the picture of a dot
PICTURE_BYTES = 5 << 19  # 2.5 MiB of pictures of dots; the whole page stays below 5


@dataclass(frozen=True, kw_only=True)
class Row:
    """An image with its nearest; `voted` is what the labelled ones among them vote for."""

    image: Thumbnail
    nearest: Sequence[tuple[Thumbnail, str]]  # with a tone: "same", "other" or "" where a label is missing
    voted: str


def render(
    result: dict[str, Any], images: Images, look: Look, maps: Sequence[Map], asked: Asked | None, seed: int
) -> str:  # fmt: skip
    """The page as HTML; every word that comes from a file is escaped."""
    clusters = look.clusterings["k-means"].clusters
    colours = drawing.colourings(images, clusters)
    generator = np.random.default_rng(seed)
    pictures = _dot_pictures(images, generator.permutation(maps[0].rows))
    doubted = doubtful(look.voted, look.doubts, images)["position"].to_numpy(np.int64)[:DOUBTED]
    at_random = np.sort(generator.choice(len(images), AT_RANDOM, replace=False))
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
        doubted=[_row(images, look, look.voters, int(position)) for position in doubted],
        at_random=[_row(images, look, look.near, int(position)) for position in at_random],
        asked=[] if asked is None else [_asked_row(images, asked, number) for number in range(len(asked.names))],
    )


def _dot_pictures(images: Images, order: np.ndarray) -> dict[int, str]:
    """Position -> data: address of a small picture, in this order, until there is no room left."""
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


def _asked_row(images: Images, asked: Asked, number: int) -> Row:
    """A photograph that was asked about, with its nearest and how far they are."""
    found, voted = asked.near.index[number][:ACROSS], int(asked.voted[number])
    nearest = [
        (_thumbnail(images, pixels, int(other), f"{max(0.0, 1 - cosine):.3f} "), "")
        for pixels, other, cosine in zip(images.pixels(found), found, asked.near.similarity[number], strict=False)
    ]
    picture = Thumbnail(source=embedded(asked.pixels[number]), id=Path(asked.names[number]).name, line="asked about")
    return Row(image=picture, nearest=nearest, voted=images.name(voted) if voted >= 0 else "")


def _row(images: Images, look: Look, near: Nearest, position: int) -> Row:
    found, own, voted = near.index[position], images.labels[position], int(look.voted[position])
    found = found[found >= 0][:ACROSS]
    pictures = images.pixels(np.append(position, found))
    nearest = [
        (_thumbnail(images, pixels, int(other)), _tone(own, images.labels[other]))
        for pixels, other in zip(pictures[1:], found, strict=True)
    ]
    image = _thumbnail(images, pictures[0], position)
    return Row(image=image, nearest=nearest, voted=images.name(voted) if voted >= 0 else "")


def _thumbnail(images: Images, pixels: np.ndarray, position: int, distance: str = "") -> Thumbnail:
    name, label = str(images.table["id"].iloc[position]), images.name(int(images.labels[position]))
    return Thumbnail(source=embedded(pixels), id=name, line=f"{distance}{label}")


def _tone(own: int, other: int) -> str:
    if own < 0 or other < 0:
        return ""
    return "same" if own == other else "other"
