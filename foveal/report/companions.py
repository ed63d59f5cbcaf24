"""What other verbs have added to a run folder: doubts about labels, heat maps, clusters and neighbours.

    label_noise.csv   images whose label may be wrong (evaluate)
    explain/          heat maps of where the grader looked, and how good they are (explain)
    cluster/          maps of similar images, nearest images, and clusters compared with labels (cluster)

Each may be missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from foveal.errors import FovealError
from foveal.files import read_json

NEIGHBOURS = ("id", "rank", "other", "similarity", "label", "other_label")


@dataclass(frozen=True, kw_only=True, eq=False)
class Companions:
    """The files of other verbs in one run folder; None or empty where they are missing."""

    folder: Path
    doubts: pd.DataFrame | None
    explained: dict[str, Any]  # explain.json
    maps: pd.DataFrame | None
    neighbours: pd.DataFrame | None
    clustered: dict[str, Any]  # cluster.json

    @property
    def images(self) -> list[dict[str, Any]]:
        """The explained images."""
        return [dict(image) for image in self.explained.get("images", [])]

    def explanation(self, name: str) -> dict[str, Any] | None:
        """The entry of explain.json for image `name`; None if it has no heat map inside explain/."""
        return next((image for image in self.images if str(image.get("id")) == name and self.picture(image)), None)

    def picture(self, image: Mapping[str, Any]) -> Path | None:
        """The heat map file of an explained image; None if it is missing or outside the folder."""
        folder = (self.folder / "explain").resolve()
        file = (folder / str(image.get("overlay") or "")).resolve()
        return file if file.is_relative_to(folder) and file.is_file() else None

    def near(self, name: str) -> list[dict[Any, Any]]:
        """The neighbours of image `name`, nearest first."""
        if self.neighbours is None:
            return []
        own = self.neighbours[self.neighbours["id"] == name]
        rank = pd.to_numeric(own["rank"], errors="coerce")
        return own.loc[rank.sort_values(kind="stable").index].to_dict("records")


def read_companions(run: Path) -> Companions:
    """Read what other verbs have added to `run`; FovealError where a file is damaged."""
    return Companions(
        folder=run,
        doubts=optional_table(run / "label_noise.csv", ("id", "label", "probability", "suspicion", "likely")),
        explained=optional_json(run / "explain" / "explain.json"),
        maps=optional_table(run / "cluster" / "maps.csv", ("id", "label", "cluster")),
        neighbours=optional_table(run / "cluster" / "neighbours.csv", NEIGHBOURS),
        clustered=optional_json(run / "cluster" / "cluster.json"),
    )


def optional_json(file: Path) -> dict[str, Any]:
    """The content of a JSON file; {} if there is no file."""
    return read_json(file) if file.is_file() else {}


def optional_table(file: Path, needed: Sequence[str] = ()) -> pd.DataFrame | None:
    """A CSV file as text; None if there is no file. Raises FovealError if a needed column is missing."""
    if not file.is_file():
        return None
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    missing = [column for column in needed if column not in table]
    if missing:
        verb = "cluster" if file.parent.name == "cluster" else "evaluate"
        what = f"{file} has no column {', '.join(missing)}"
        raise FovealError("table.missing_column", what, fix=f"write it again with foveal {verb}")
    return table


def map_note(image: Mapping[str, Any]) -> str:
    """The caption of a heat map: the note in explain.json, or the share of the map on the edge of the picture."""
    border = image.get("border_energy")
    return str(image.get("note") or ("" if border is None else f"{border:.0%} of it is on the edge"))


def whole(text: Any) -> int | None:
    """A class number from a table; None if the cell holds no number."""
    try:
        return int(float(text))
    except (TypeError, ValueError):
        return None
