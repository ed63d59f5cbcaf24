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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from foveal.cluster import maps, neighbours, tables, words
from foveal.cluster.asked import Asked, ask, read_asked
from foveal.cluster.asked import listing as asked_listing
from foveal.cluster.asked import show as show_asked
from foveal.cluster.features import encoder_of, pixel_features, stored_features
from foveal.cluster.images import Images, choose, learned_from
from foveal.cluster.look import Look, differences, look, why_not
from foveal.console import say, warn
from foveal.errors import FovealError
from foveal.files import is_free, json_ready, write_json, write_table, write_text
from foveal.page.terminal import print_table, print_verdicts
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
        folders = [path.resolve() for path in self.data]
        if len(set(folders)) < len(folders):
            raise FovealError("option.conflict", f"a prepared set is given twice: {' '.join(map(str, self.data))}",
                              fix="give each set once")  # fmt: skip
        if self.clusters == 1 or self.clusters < 0:
            raise FovealError("option.value", f"--clusters {self.clusters}", expected="2 or more, or 0")


def cluster(config: ClusterConfig) -> dict[str, Any]:
    """Cluster images, map them and find their neighbours; returns the content of cluster.json."""
    if config.out == Path():
        config = replace(config, out=Path("clusters") if config.run is None else config.run / "cluster")
    _check_out(config.out)
    images = choose(config.data, config.split, seed=SEED)
    count = _number_of_clusters(config, images)
    photographs = read_asked(config.image, images) if config.image else None
    learned, judged, taught = _seen_by(config.run, images)
    config.out.mkdir(parents=True, exist_ok=True)
    kinds = [stored_features(images, config.run, config.out, config.device)]
    if config.run is not None:
        kinds.append(pixel_features(images))
    looks = [look(features, images, judged, clusters=count, seed=SEED) for features in kinds]
    say("maps: PCA, t-SNE, UMAP" if maps.umap_is_installed() else
        "maps: PCA, t-SNE (UMAP needs pip install 'foveal[umap]')", "dim")  # fmt: skip
    drawn = maps.draw_maps(looks[0].points, SEED)
    result = _numbers(config, images, judged, looks, drawn, {"taught": taught, "learned": int(learned.sum())})
    asked = None
    if photographs is not None:
        asked = ask(config.image, photographs, encoder_of(config.run, images, config.device), kinds[0], images)
    _write(config.out, result, images, looks[0], drawn, learned, asked)
    show(result)
    if asked is not None:
        show_asked(asked, images)
    say(f"\nwritten: {config.out}; the page is {config.out / 'cluster.html'}")
    return result


def _seen_by(run: Path | None, images: Images) -> tuple[np.ndarray, np.ndarray, bool]:
    """bool [n] the run learned from, bool [n] to score, and whether the run learned from labels.

    The features of a grader reflect the labels of its training images, so those images are not scored.
    """
    labelled = images.labels >= 0
    if run is None:
        return np.zeros(len(images), bool), labelled, False
    learned, taught = learned_from(images, run), read_model(run)["kind"] == "grader"
    return learned, labelled & ~learned if taught else labelled, taught


def _check_out(out: Path) -> None:
    if not is_free(out) and not (out / "features.npz").is_file():
        raise FovealError("output.exists", f"--out {out} exists and was not made by foveal cluster",
                          fix="choose another --out or delete it")  # fmt: skip


def _number_of_clusters(config: ClusterConfig, images: Images) -> int:
    count = config.clusters or max(len(images.classes), 2 if images.classes else UNLABELLED)
    if count > len(images) // 2:
        raise FovealError("option.value", f"--clusters {count} is too many for {len(images)} images",
                          expected=f"at most {len(images) // 2}")  # fmt: skip
    return count


def _numbers(
    config: ClusterConfig, images: Images, judged: np.ndarray, looks: Sequence[Look], drawn: Sequence[maps.Map],
    about: dict[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """All numbers, followed by what they mean."""
    first = looks[0]
    result: dict[str, Any] = json_ready({
        "about": {
            "sets": [str(path) for path in config.data], "run": None if config.run is None else str(config.run),
            "split": config.split, "images": len(images), "of": images.of, "groups": len(np.unique(images.units)),
            "labelled": int((images.labels >= 0).sum()), "judged": int(judged.sum()), "classes": images.classes,
            "ordered": images.ordered, "clusters": len(np.unique(first.clusterings["k-means"].clusters)), **about,
            "why_not": why_not(images, judged), "interval": "95 %, BCa bootstrap over groups",
        },
        "looks": [one.plain() for one in looks],
        "differences": differences(looks),
        "doubtful": len(neighbours.doubtful(first.voted, first.doubts, images)),
        "maps": [{"name": one.name, "images": len(one.rows), "kept": one.kept, "by_chance": one.by_chance}
                 for one in drawn],
    })  # fmt: skip
    return {**result, "findings": [asdict(finding) for finding in words.find(result)]}


def _write(
    out: Path, result: dict[str, Any], images: Images, first: Look, drawn: Sequence[maps.Map], learned: np.ndarray,
    asked: Asked | None,
) -> None:  # fmt: skip
    from foveal.cluster.page import render  # here, because the options do not need the templates

    clusters = first.clusterings["k-means"].clusters
    doubtful = neighbours.doubtful(first.voted, first.doubts, images)
    write_table(out / "maps.csv", maps.listing(drawn, first.points, images, clusters, learned))
    write_table(out / "neighbours.csv", neighbours.listing(first.near, images))
    write_table(out / "doubtful.csv", doubtful.drop(columns="position"))
    if asked is not None:
        write_table(out / "asked.csv", asked_listing(asked, images))
    write_json(out / "cluster.json", result)
    write_text(out / "cluster.html", render(result, images, first, drawn, asked, SEED))


def show(result: dict[str, Any]) -> None:
    """Print the tables, then what they mean."""
    about = result["about"]
    say(
        f"\n{about['images']:,} images in {about['groups']:,} groups, {about['judged']:,} scored against labels", "bold"
    )
    if about["why_not"]:
        warn(f"no scores: {about['why_not']}")
    for table in tables.tables_of(result):
        print_table(table)
    say("\nWhat this shows", "bold")
    print_verdicts(result["findings"])
