"""cluster: which images are similar, and whether similar images have the same label.

Without a run, images are compared by their pixels; with a run, by the features of its encoder and also by pixels.
Writes cluster.json, maps.csv, neighbours.csv, doubtful.csv and the page cluster.html to OUT; `foveal embed` writes the
features.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from foveal.cluster.features import choose, computed, learned_from
from foveal.cluster.look import differences, look, why_not
from foveal.cluster.methods import draw_maps, listing, map_listing, propose
from foveal.cluster.page import find, render, tables
from foveal.config import check_paths
from foveal.console import say, warn
from foveal.errors import FovealError
from foveal.files import check_free, json_ready, write_json, write_table, write_text
from foveal.page.render import print_table, print_verdicts
from foveal.page.words import counted
from foveal.runs import read_model


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Options of `foveal cluster`."""

    # Prepared sets; several sets are clustered together.
    data: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATA…")]
    # Run folder of pretrain or train whose features to compare; by default, pixels are compared.
    run: Path | None = None
    # Folder to write; by default RUN/cluster, or clusters if there is no run.
    out: Path | None = None
    # Part of the prepared sets to use.
    split: Literal["all", "train", "val", "test", "unlabelled"] = "all"
    # Number of clusters; 0 means the number of classes or, without classes, the number with the clearest clusters.
    clusters: int = 0
    # Device: auto, cpu, cuda or mps.
    device: str = "auto"

    def __post_init__(self) -> None:
        check_paths(self.data, "cluster DATA", "a prepared set")
        if self.clusters == 1 or self.clusters < 0:
            raise FovealError("option.value", f"--clusters {self.clusters}", expected="2 or more, or 0")


def cluster(config: ClusterConfig) -> dict[str, Any]:
    """Cluster images, map them and find their neighbours; returns the content of cluster.json."""
    out = config.out or (Path("clusters") if config.run is None else config.run / "cluster")
    check_free(out, made="cluster.json")
    images = choose(config.data, config.split)
    count = config.clusters or (max(len(images.classes), 2) if images.classes else 0)
    if count > len(images) // 2:
        what = f"--clusters {count} is too many for {len(images)} images"
        raise FovealError("option.value", what, expected=f"at most {len(images) // 2}")
    learned, taught, judged = np.zeros(len(images), bool), False, images.labels >= 0
    if config.run is not None:
        learned, taught = learned_from(images, config.run), read_model(config.run)["kind"] == "grader"
        judged &= ~(learned & taught)  # the features of a grader reflect the labels that it has learned
    kinds = [computed(images, run, config.device) for run in dict.fromkeys([config.run, None])]
    tried = {} if count else propose(kinds[0].components[0])
    count = count or max(tried, key=tried.__getitem__, default=2)
    looks = [look(features, images, judged, count) for features in kinds]
    first = looks[0]
    say("maps: PCA and t-SNE", "dim")
    maps = draw_maps(kinds[0].components[0])
    about = {"sets": [str(path) for path in config.data], "run": None if config.run is None else str(config.run),
             "split": config.split, "images": len(images), "of": images.of, "groups": len(np.unique(images.units)),
             "labelled": int((images.labels >= 0).sum()), "classes": images.classes, "ordered": images.ordered,
             "judged": int(judged.sum()), "clusters": len(np.unique(first.clusters)), "silhouettes": tried,
             "taught": taught, "learned": int(learned.sum()), "why_not": why_not(images, judged),
             "interval": "95 %, BCa bootstrap over groups"}  # fmt: skip
    drawn = [{"name": one.name, "images": len(one.rows), "kept": one.kept, "by_chance": one.by_chance} for one in maps]
    result: dict[str, Any] = json_ready({
        "about": about, "looks": [one.plain() for one in looks], "differences": differences(looks),
        "doubtful": len(first.doubted), "maps": drawn,
    })  # fmt: skip
    result["findings"] = [asdict(finding) for finding in find(result)]
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "cluster.json", result)  # first: a later call may replace what an interrupted one left behind it
    write_table(out / "maps.csv", map_listing(maps, kinds[0].components[0], images, first.clusters, learned))
    write_table(out / "neighbours.csv", listing(first.near, images))
    write_table(out / "doubtful.csv", first.doubted.drop(columns="position"))
    write_text(out / "cluster.html", render(result, images, first, maps))
    show(result)
    say(f"\nwritten: {out}; the page is {out / 'cluster.html'}")
    return result


def show(result: dict[str, Any]) -> None:
    """Print the tables, then what they mean."""
    about = result["about"]
    scored = f", {about['judged']:,} scored against labels" if about["labelled"] else ", without labels"
    say(f"\n{counted(about['images'], 'image')} in {counted(about['groups'], 'group')}{scored}", "bold")
    if about["why_not"] and about["labelled"]:
        warn(f"no scores: {about['why_not']}")
    for table in tables(result):
        print_table(table)
    say("\nWhat this shows", "bold")
    print_verdicts(result["findings"])
