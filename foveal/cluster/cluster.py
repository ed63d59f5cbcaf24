"""cluster: which images look alike, and whether that has to do with their labels.

    foveal cluster DATA --out clusters
    foveal cluster DATA --run RUN --out clusters
    foveal cluster DATA --run RUN --image photograph.jpg

Without a run the pixels are looked at; with one the features of its encoder, and the pixels beside them. OUT gets
features.npz, cluster.json, maps.csv, neighbours.csv, doubtful.csv, the page cluster.html, and asked.csv with --image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import tyro

from foveal.cluster import maps, neighbours, tables, words
from foveal.cluster.asked import Asked, ask, read_asked
from foveal.cluster.asked import listing as asked_listing
from foveal.cluster.asked import show as show_asked
from foveal.cluster.features import pixel_features, stored_features
from foveal.cluster.images import Images, choose, learned_from
from foveal.cluster.look import Look, differences, look, why_not
from foveal.console import say, show_table, warn
from foveal.files import json_ready, write_json, write_text
from foveal.page.parts import Table
from foveal.runs import read_model

STYLES = {"bad": "bold red", "unsure": "yellow", "good": "green"}


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Options of `foveal cluster`."""

    # Prepared sets; several are looked at together.
    data: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATA…")]
    # Run folder of pretrain or train whose encoder is asked; none looks at the pixels alone.
    run: Path | None = None
    # Folder to write; by default RUN/cluster, where a report finds it, or clusters without a run.
    out: Path = Path()
    # Part of the prepared sets to look at.
    split: Literal["all", "train", "val", "test", "unlabelled"] = "all"
    # Number of clusters; 0 takes the number of classes.
    clusters: int = 0
    # Most images to look at, drawn at random; 0 takes all.
    limit: int = 10_000
    # Most images on the t-SNE and UMAP maps, drawn at random.
    map_points: int = 5_000
    # Nearest images listed for each.
    neighbours: int = 10
    # Photograph that is not in the sets, to show its nearest images; give it again for more.
    image: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    # List images of the same patient, and copies, among the nearest too.
    same_group: bool = False
    # Seed of everything that is drawn at random.
    seed: int = 0
    # auto, cpu, cuda or mps.
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("cluster needs at least one prepared set: foveal cluster DATA")
        for file in self.image:
            if not file.is_file():
                raise ValueError(f"--image {file}: there is no such file; give a photograph")
        folders = [path.resolve() for path in self.data]
        if len(set(folders)) < len(folders):
            raise ValueError("a prepared set is given more than once; name every set once")
        if self.clusters == 1 or self.clusters < 0:
            raise ValueError(f"--clusters must be 2 or more, or 0 for the number of classes, got {self.clusters}")
        for name, least in (("limit", 0), ("map_points", 10), ("neighbours", 1)):
            if getattr(self, name) < least:
                option = f"--{name.replace('_', '-')}"
                raise ValueError(f"{option} must be at least {least}, got {getattr(self, name)}")


def cluster(config: ClusterConfig) -> dict[str, Any]:
    """Cluster images, map them and find their neighbours; returns all numbers as they are written to cluster.json."""
    if config.out == Path():
        config = replace(config, out=Path("clusters") if config.run is None else config.run / "cluster")
    _check_out(config.out)
    model = None if config.run is None else read_model(config.run)
    images = choose(config.data, config.split, config.limit, config.seed)
    count = _number_of_clusters(config, images)
    photographs = read_asked(config.image, images) if config.image else None
    learned = np.zeros(len(images), bool) if config.run is None else learned_from(images, config.run)
    judged = images.labels >= 0
    taught = model is not None and model["kind"] == "grader"  # its features know the labels that it learned from
    if taught:
        judged &= ~learned
    config.out.mkdir(parents=True, exist_ok=True)
    kinds = [stored_features(images, config.run, config.out, config.device)]
    if config.run is not None:
        kinds.append(pixel_features(images))
    looks = [
        look(features, images, judged, clusters=count, neighbours=config.neighbours, same_group=config.same_group,
             seed=config.seed)
        for features in kinds
    ]  # fmt: skip
    say("maps: PCA, t-SNE" + (", UMAP" if maps.umap_is_installed() else ""), "dim")
    if not maps.umap_is_installed():
        say("there will be no UMAP map: pip install 'foveal[umap]' brings what it needs", "dim")
    drawn = maps.draw_maps(looks[0].points, config.map_points, config.seed)
    asked = None
    if photographs is not None:
        asked = ask(
            config.image, photographs, kinds[0], images, config.run, count=config.neighbours, device=config.device
        )
    result = _numbers(config, images, judged, looks, drawn, {"taught": taught, "learned": int(learned.sum())})
    _write(config, images, looks, drawn, learned, asked, result)
    show(result)
    if asked is not None:
        show_asked(asked, images)
    say(f"\nwritten: {config.out}; the page is {config.out / 'cluster.html'}")
    return result


def _check_out(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; give a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / "features.npz").is_file():
        raise ValueError(f"--out {out} holds something else; choose another --out or empty it first")


def _number_of_clusters(config: ClusterConfig, images: Images) -> int:
    count = config.clusters or len(images.classes)
    if count < 2:
        raise ValueError("these sets have no classes to take the number of clusters from; say it with --clusters")
    if count > len(images) // 2:
        raise ValueError(f"--clusters {count} is too many for {len(images)} images")
    return count


def _numbers(
    config: ClusterConfig, images: Images, judged: np.ndarray, looks: Sequence[Look], drawn: Sequence[maps.Map],
    about: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """All numbers, and last what they mean."""
    result = json_ready({
        "about": {
            "sets": [str(path) for path in config.data], "run": None if config.run is None else str(config.run),
            "split": config.split, "images": len(images), "of": images.of, "groups": len(np.unique(images.units)),
            "labelled": int((images.labels >= 0).sum()), "judged": int(judged.sum()), "classes": images.classes,
            "ordered": images.ordered, "clusters": len(np.unique(looks[0].clusterings["k-means"].clusters)),
            "seed": config.seed, "neighbours": config.neighbours, "same_group": config.same_group, **about,
            "why_not": why_not(images, judged), "interval": "95 %, percentile bootstrap over groups",
        },
        "looks": [one.plain() for one in looks],
        "differences": differences(looks),
        "doubtful": len(neighbours.doubtful(looks[0].told, images)),
        "maps": [{"name": one.name, "images": len(one.rows), "kept": one.kept, "by_chance": one.by_chance}
                 for one in drawn],
    })  # fmt: skip
    return {**result, "findings": [asdict(finding) for finding in words.find(result)]}


def _write(
    config: ClusterConfig, images: Images, looks: Sequence[Look], drawn: list[maps.Map], learned: np.ndarray,
    asked: Asked | None, result: dict[str, Any],
) -> None:  # fmt: skip
    from foveal.cluster.page import render

    first = looks[0]
    clusters = first.clusterings["k-means"].clusters
    _write_table(maps.listing(drawn, first.points, images, clusters, learned), config.out / "maps.csv")
    _write_table(neighbours.listing(first.near, images), config.out / "neighbours.csv")
    doubtful = neighbours.doubtful(first.told, images)
    _write_table(doubtful.drop(columns="position"), config.out / "doubtful.csv")
    write_json(config.out / "cluster.json", result)
    if asked is not None:
        _write_table(asked_listing(asked, images), config.out / "asked.csv")
    write_text(config.out / "cluster.html", render(result, images, first, drawn, doubtful, asked, config.seed))


def _write_table(table: pd.DataFrame, file: Path) -> None:
    write_text(file, table.to_csv(index=False, lineterminator="\n"))


def show(result: dict[str, Any]) -> None:
    """Print the tables, and last what they mean."""
    about = result["about"]
    say(f"\n{about['images']:,} images in {about['groups']:,} groups, {about['judged']:,} judged by label", "bold")
    if about["why_not"]:
        warn(f"there are no scores: {about['why_not']}")
    for title, table in tables.tables_of(result):
        _print(title, table)
    say("\nWhat this shows", "bold")
    for finding in result["findings"]:
        say(f"  {finding['text']}", STYLES[finding["tone"]])
        say(f"     {finding['grounds']}")


def _print(title: str, table: Table) -> None:
    say()
    rows = [[f"{cell.text} ({cell.small})" if cell.small else cell.text for cell in row] for row in table.rows]
    show_table(title, table.columns, rows)
    for note in table.notes:
        say(f"  {note}", "dim")
