"""What other verbs have laid into a run folder: doubts about labels, maps of attention, clusters and neighbours.

    label_noise.csv   images whose label the grader doubts (evaluate)
    explain/          overlays of where the grader looked, and what such maps are worth (explain)
    cluster/          the images laid out by likeness, the nearest of each, and clusters against labels (cluster)

Each may be missing. A table that lacks a column is an error that names the verb that writes it again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

NEEDED = {
    "label_noise.csv": ("id", "label", "probability", "suspicion", "likely"),
    "cluster/maps.csv": ("id", "label", "cluster"),
    "cluster/neighbours.csv": ("id", "rank", "other", "similarity", "label", "other_label"),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Companions:
    """The files of other verbs in one run folder; None or empty where they are missing."""

    folder: Path
    doubts: pd.DataFrame | None = None
    explained: dict[str, Any] = field(default_factory=dict)
    maps: pd.DataFrame | None = None
    neighbours: pd.DataFrame | None = None
    clustered: dict[str, Any] = field(default_factory=dict)

    def explanation(self, name: str) -> dict[str, Any] | None:
        """What explain.json says of image `name`; None where it has no map inside explain/."""
        return next((image for image in self.images if str(image.get("id")) == name and self.picture(image)), None)

    def overlay(self, name: str) -> Path | None:
        """The picture of where the grader looked at image `name`; None where there is none."""
        image = self.explanation(name)
        return None if image is None else self.picture(image)

    @property
    def images(self) -> list[dict[str, Any]]:
        """The explained images."""
        return [dict(image) for image in self.explained.get("images", [])]

    def picture(self, image: dict[str, Any]) -> Path | None:
        """The overlay file of an explained image; None where it is not there, or leads out of the folder."""
        folder = (self.folder / "explain").resolve()
        file = (folder / str(image.get("overlay") or "")).resolve()
        return file if file.is_relative_to(folder) and file.is_file() else None

    def near(self, name: str) -> list[dict[str, Any]]:
        """The neighbours of image `name`, nearest first."""
        if self.neighbours is None:
            return []
        own = self.neighbours[self.neighbours["id"] == name]
        return [{str(key): value for key, value in row.items()}
                for row in own.sort_values("rank", kind="stable").to_dict("records")]  # fmt: skip


def read_companions(run: Path) -> Companions:
    """Read what other verbs have laid into `run`; ValueError where a file is damaged."""
    neighbours = _read_table(run, "cluster/neighbours.csv")
    if neighbours is not None:
        numbers = neighbours[["rank", "similarity"]].apply(pd.to_numeric, errors="coerce")
        neighbours = neighbours.assign(**numbers)
    return Companions(
        folder=run,
        doubts=_read_table(run, "label_noise.csv"),
        explained=_read_json(run, "explain"),
        maps=_read_table(run, "cluster/maps.csv"),
        neighbours=neighbours,
        clustered=_read_json(run, "cluster"),
    )


def _read_table(run: Path, name: str) -> pd.DataFrame | None:
    file = run / name
    if not file.is_file():
        return None
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    missing = [column for column in NEEDED[name] if column not in table]
    if missing:
        verb = "cluster" if name.startswith("cluster") else "evaluate"
        raise ValueError(f"{file} has no column {', '.join(missing)}; make it again with: foveal {verb} {run}")
    return table


def _read_json(run: Path, verb: str) -> dict[str, Any]:
    """RUN/VERB/VERB.json; {} where it is missing."""
    file = run / verb / f"{verb}.json"
    if not file.is_file():
        return {}
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is damaged ({error}); make it again with: foveal {verb} {run}") from None


def map_note(image: Mapping[str, Any]) -> str:
    """What stands below a map: its own words, or how much of it lies on the edge."""
    border = image.get("border_energy")
    return str(image.get("note") or ("" if border is None else f"{border:.0%} of it on the edge"))


def whole(text: Any) -> int | None:
    """A class number from a table; None where there is none."""
    try:
        return int(float(text))
    except (TypeError, ValueError):
        return None
