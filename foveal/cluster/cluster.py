"""cluster: which images are similar, and whether similar images have the same label.

    foveal cluster DATA --out clusters
    foveal cluster DATA --run RUN --out clusters
    foveal cluster DATA --run RUN --image photograph.jpg

Without a run, images are compared by their pixels; with a run, by the features of its encoder and also by pixels.
Writes features.npz, cluster.json, maps.csv, neighbours.csv, doubtful.csv and the page cluster.html to OUT; with
--image also asked.csv.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from foveal.cluster import methods, words
from foveal.cluster.features import Images, choose, encoder_of, learned_from, pixel_features, stored_features
from foveal.cluster.look import Look, differences, look, why_not
from foveal.cluster.methods import draw_maps, map_listing
from foveal.cluster.neighbours import ask, doubtful, listing, read_asked
from foveal.console import say, warn
from foveal.errors import FovealError
from foveal.files import is_free, json_ready, write_json, write_table, write_text
from foveal.page.terminal import print_table, print_verdicts
from foveal.page.words import counted
from foveal.runs import read_model

SEED = 0  # of everything random; other seeds give similar results
UNLABELLED = 5  # clusters for sets without classes: the number of grades of diabetic retinopathy


@dataclass(frozen=True, kw_only=True)
class ClusterConfig:
    """Options of `foveal cluster`."""

    # Prepared sets; several sets are clustered together.
    data: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATA…")]
    # Run folder of pretrain or train whose features to compare; by default, pixels are compared.
    run: Path | None = None
    # Folder to write; by default RUN/cluster, which the report shows, or clusters if there is no run.
    out: Path = Path()
    # Part of the prepared sets to use.
    split: Literal["all", "train", "val", "test", "unlabelled"] = "all"
    # Number of clusters; 0 means the number of classes, or 5 if there are none.
    clusters: int = 0
    # New photograph whose nearest images to show; repeat the option for more.
    image: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = ()
    # auto, cpu, cuda or mps.
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.data:
            raise FovealError("option.missing", "no prepared set is given", fix="give one: foveal cluster DATA")
        if len({path.resolve() for path in self.data}) < len(self.data):
            what = f"a prepared set is given twice: {' '.join(map(str, self.data))}"
            raise FovealError("option.conflict", what, fix="give each set once")
        if self.clusters == 1 or self.clusters < 0:
            raise FovealError("option.value", f"--clusters {self.clusters}", expected="2 or more, or 0")


def cluster(config: ClusterConfig) -> dict[str, Any]:
    """Cluster images, map them and find their neighbours; returns the content of cluster.json."""
    out = config.out
    if out == Path():
        out = Path("clusters") if config.run is None else config.run / "cluster"
    if not is_free(out) and not (out / "features.npz").is_file():
        what = f"--out {out} exists and was not made by foveal cluster"
        raise FovealError("output.exists", what, fix="choose another --out or delete it")
    images = choose(config.data, config.split, seed=SEED)
    count = _number_of_clusters(config.clusters, images)
    photographs = read_asked(config.image, images) if config.image else None
    learned, judged, taught = _seen_by(config.run, images)
    out.mkdir(parents=True, exist_ok=True)
    kinds = [stored_features(images, config.run, out, config.device)]
    if config.run is not None:
        kinds.append(pixel_features(images))
    looks = [look(features, images, judged, clusters=count, seed=SEED) for features in kinds]
    first = looks[0]
    say("maps: PCA, t-SNE, UMAP" if methods.umap_is_installed() else
        "maps: PCA, t-SNE (UMAP needs pip install 'foveal[umap]')", "dim")  # fmt: skip
    maps = draw_maps(first.points, SEED)
    clusters = first.clusterings["k-means"].clusters
    doubts = doubtful(first.voted, first.doubts, images)
    result = _numbers(config, images, looks, {"judged": int(judged.sum()), "clusters": len(np.unique(clusters)),
                      "taught": taught, "learned": int(learned.sum()), "why_not": why_not(images, judged)})  # fmt: skip
    result |= {
        "doubtful": len(doubts),
        "maps": [{"name": one.name, "images": len(one.rows), "kept": one.kept, "by_chance": one.by_chance}
                 for one in maps],
    }  # fmt: skip
    result["findings"] = [asdict(finding) for finding in words.find(result)]
    asked = None
    if photographs is not None:
        asked = ask(config.image, photographs, encoder_of(config.run, images, config.device), kinds[0], images)
        write_table(out / "asked.csv", asked.listing(images))
    write_table(out / "maps.csv", map_listing(maps, first.points, images, clusters, learned))
    write_table(out / "neighbours.csv", listing(first.near, images))
    write_table(out / "doubtful.csv", doubts.drop(columns="position"))
    write_json(out / "cluster.json", result)
    from foveal.cluster.page import render  # here, because the options do not need the templates

    write_text(out / "cluster.html", render(result, images, first, maps, asked, SEED))
    show(result)
    if asked is not None:
        asked.show(images)
    say(f"\nwritten: {out}; the page is {out / 'cluster.html'}")
    return result


def _numbers(config: ClusterConfig, images: Images, looks: Sequence[Look], about: dict[str, Any]) -> dict[str, Any]:
    """The content of cluster.json: what was compared, and the scores."""
    found: dict[str, Any] = json_ready({
        "about": {
            "sets": [str(path) for path in config.data], "run": None if config.run is None else str(config.run),
            "split": config.split, "images": len(images), "of": images.of, "groups": len(np.unique(images.units)),
            "labelled": int((images.labels >= 0).sum()), "classes": images.classes, "ordered": images.ordered, **about,
            "interval": "95 %, BCa bootstrap over groups",
        },
        "looks": [one.plain() for one in looks],
        "differences": differences(looks),
    })  # fmt: skip
    return found


def _seen_by(run: Path | None, images: Images) -> tuple[np.ndarray, np.ndarray, bool]:
    """bool [n] the run learned from, bool [n] to score, and whether the run learned from labels.

    The features of a grader reflect the labels of its training images, so those images are not scored.
    """
    labelled = images.labels >= 0
    if run is None:
        return np.zeros(len(images), bool), labelled, False
    learned, taught = learned_from(images, run), read_model(run)["kind"] == "grader"
    return learned, labelled & ~learned if taught else labelled, taught


def _number_of_clusters(asked: int, images: Images) -> int:
    count = asked or max(len(images.classes), 2 if images.classes else UNLABELLED)
    if count > len(images) // 2:
        what = f"--clusters {count} is too many for {len(images)} images"
        raise FovealError("option.value", what, expected=f"at most {len(images) // 2}")
    return count


def show(result: dict[str, Any]) -> None:
    """Print the tables, then what they mean."""
    about = result["about"]
    within = f"{counted(about['images'], 'image')} in {counted(about['groups'], 'group')}"
    say(f"\n{within}, {about['judged']:,} scored against labels", "bold")
    if about["why_not"]:
        warn(f"no scores: {about['why_not']}")
    for table in words.tables(result):
        print_table(table)
    say("\nWhat this shows", "bold")
    print_verdicts(result["findings"])
