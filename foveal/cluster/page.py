"""The page: one HTML file with scores, maps, and some images with their nearest images.

Without scripts, maps are coloured by label. With scripts, readers can choose colours and point at dots.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from foveal.cluster import drawing, tables, words
from foveal.cluster.asked import Asked
from foveal.cluster.images import Images
from foveal.cluster.look import Look
from foveal.cluster.maps import Map
from foveal.cluster.neighbours import NEAREST, Nearest, doubtful
from foveal.page.parts import Bullets, Columns, Gallery, Heading, Html, Note, Part, Picture, Section, Verdict
from foveal.page.pictures import embedded
from foveal.page.render import page
from foveal.page.render import render as rendered
from foveal.page.words import listed

DOUBTED, AT_RANDOM = 8, 4  # number of images shown with their nearest
ACROSS = 7  # nearest images shown for each
DOT_SIDE = 56  # pixels of the picture shown for a dot
PICTURE_BYTES = 5 << 19  # 2.5 MiB of these pictures, so that the page stays below 5 MiB


def render(
    result: dict[str, Any], images: Images, look: Look, maps: Sequence[Map], asked: Asked | None, seed: int
) -> str:  # fmt: skip
    """The page as HTML; all text from files is escaped."""
    generator = np.random.default_rng(seed)
    drawn = _drawn_maps(images, look, maps, generator, seed)
    doubted = doubtful(look.voted, look.doubts, images)["position"].to_numpy(np.int64)[:DOUBTED]
    at_random = np.sort(generator.choice(len(images), AT_RANDOM, replace=False))
    licence = "; ".join(dict.fromkeys(prepared.card["licence"] for prepared in images.sets))
    likeness = "Similarity is not a diagnosis: similar images may come from the same camera or show the same eye."
    sections = [
        Section(name="findings", title="What this shows",
                parts=[Note(words.lead(result), "lead"), *(Verdict(**finding) for finding in result["findings"])]),
        Section(name="asked", title="Images similar to the given photographs", short="Similar images", parts=[
            f"Each given photograph with its nearest images in the set and their distance (1 − cosine). {likeness}",
            *([] if asked is None else _asked_rows(images, asked))]),
        Section(name="maps", title="Maps", parts=[
            words.beside_maps(result), drawn, Heading("What maps cannot show"), Bullets(words.CANNOT_SHOW)]),
        Section(name="numbers", title="Numbers",
                parts=[Columns([[one] for one in tables.tables_of(result)], "tables")]),
        Section(name="doubted", title="Doubtful labels", parts=[
            f"{words.beside_doubts(result)} The most doubtful are shown here with their nearest labelled images. Check "
            "them first.", *_rows(images, look, look.voters, doubted)]),
        Section(name="alike", title="Examples of similar images", parts=[
            "Random images with their nearest images by cosine, without copies and images of the same patient. "
            f"Licence of the pictures: {licence}. It also applies to this page.",
            *_rows(images, look, look.near, at_random)]),
    ]  # fmt: skip
    empty = {"asked" if asked is None else "", "" if len(doubted) else "doubted"}
    return page(
        [section for section in sections if section.name not in empty],
        title=listed(list(dict.fromkeys(images.table["source"]))), kind="Foveal clusters",
        subtitle="which images are similar", style="cluster.css", script="cluster.js",
        about=" · ".join(dict.fromkeys(prepared.card["title"] for prepared in images.sets)),
    )  # fmt: skip


def _drawn_maps(
    images: Images, look: Look, maps: Sequence[Map], generator: np.random.Generator, seed: int
) -> Html:  # fmt: skip
    rows, clusters = maps[0].rows, look.clusterings["k-means"].clusters
    colours = drawing.colourings(images, clusters)
    pictures = _dot_pictures(images, generator.permutation(rows))
    return Html(rendered(
        "dots.html", colourings=colours, drawings=drawing.drawings(maps, colours, look.variance, seed),
        points=drawing.points(images, rows, clusters, pictures), pictured=len(pictures), images=len(images),
        umap=any(one.name == "umap" for one in maps),
    ))  # fmt: skip


def _dot_pictures(images: Images, order: np.ndarray) -> dict[int, str]:
    """Position -> data: URL of a small picture, in this order, up to the size limit."""
    pictures: dict[int, str] = {}
    room = PICTURE_BYTES
    for start in range(0, len(order), 64):
        part = order[start : start + 64]
        for position, pixels in zip(part, images.pixels(part), strict=True):
            source = embedded(pixels, DOT_SIDE)
            room -= len(source)
            if room < 0:
                return pictures
            pictures[int(position)] = source
    return pictures


def _asked_rows(images: Images, asked: Asked) -> list[Part]:
    """Each given photograph with its nearest images and their distances."""
    parts: list[Part] = []
    for number, (name, voted) in enumerate(zip(asked.names, asked.voted, strict=True)):
        found = asked.near.index[number][:ACROSS]
        nearest = [
            _picture(images, pixels, int(other), distance=f"{max(0.0, 1 - cosine):.3f} ")
            for pixels, other, cosine in zip(images.pixels(found), found, asked.near.similarity[number], strict=False)
        ]
        own = Picture(source=embedded(asked.pixels[number]), id=Path(name).name, text="given photograph", tone="own")
        parts += _row(own, nearest, images, int(voted))
    return parts


def _rows(images: Images, look: Look, near: Nearest, positions: Iterable[int]) -> list[Part]:
    """Each image with its nearest images, marked by whether they have the same label."""
    parts: list[Part] = []
    for position in positions:
        found, own = near.index[position], images.labels[position]
        found = found[found >= 0][:ACROSS]
        first, *others = images.pixels(np.append(position, found))
        nearest = [
            _picture(images, pixels, int(other), tone=_tone(own, images.labels[other]))
            for pixels, other in zip(others, found, strict=True)
        ]
        picture = _picture(images, first, int(position), tone="own")
        parts += _row(picture, nearest, images, int(look.voted[position]))
    return parts


def _row(own: Picture, nearest: Sequence[Picture], images: Images, voted: int) -> list[Part]:
    text = "Nearest first." if nearest else "There are no images of other patients."
    if voted >= 0:
        text = f"The {NEAREST} nearest labelled images vote for {images.name(voted)}. {text}"
    return [Note(text), Gallery([own, *nearest], "small")]


def _picture(images: Images, pixels: np.ndarray, position: int, *, tone: str = "", distance: str = "") -> Picture:
    name, label = str(images.table["id"].iloc[position]), images.name(int(images.labels[position]))
    return Picture(source=embedded(pixels), id=name, text=f"{distance}{label}", tone=tone)


def _tone(own: int, other: int) -> str:
    if own < 0 or other < 0:
        return ""
    return "same" if own == other else "other"
