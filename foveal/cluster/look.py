"""Everything that is found in one kind of features: clusters, their scores, neighbours, and what those tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foveal.cluster.features import Features
from foveal.cluster.images import Images
from foveal.cluster.methods import METHODS, Clustering, reduce
from foveal.cluster.neighbours import VOTERS, Nearest, Told, judge, nearest, tell
from foveal.cluster.scores import Score, score
from foveal.console import say
from foveal.evaluate.difference import answer
from foveal.evaluate.intervals import percentile_interval

FEWEST = 20  # labelled images, below which no figure is given
NEIGHBOURS = "neighbours"  # in the place of a method, where the nearest images are compared


@dataclass(frozen=True, kw_only=True)
class Look:
    """`points` float32 [n, d] are the principal components; `variance` [d] their shares of it.

    scores: method -> measure -> Score; neighbours: what the nearest labelled images tell, measure -> Score. Both are
    empty where too few labels can be judged. `voters` are the nearest labelled images of other groups.
    """

    features: Features
    points: np.ndarray
    variance: np.ndarray
    clusterings: dict[str, Clustering]
    scores: dict[str, dict[str, Score]]
    near: Nearest
    voters: Nearest
    told: Told
    neighbours: dict[str, Score]

    def plain(self) -> dict[str, Any]:
        """What cluster.json holds."""
        return {
            "name": self.features.name, "source": self.features.source, "dimensions": self.features.values.shape[1],
            "components": self.points.shape[1], "variance": float(self.variance.sum()),
            "methods": [
                {"name": name, "note": found.note, "sizes": np.bincount(found.clusters).tolist(),
                 "scores": {key: one.plain() for key, one in self.scores.get(name, {}).items()}}
                for name, found in self.clusterings.items()
            ],
            "neighbours": {key: one.plain() for key, one in self.neighbours.items()},
        }  # fmt: skip


def look(
    features: Features, images: Images, judged: np.ndarray, *, clusters: int, neighbours: int, same_group: bool,
    seed: int,
) -> Look:  # fmt: skip
    """Cluster the images, find their neighbours, and score both on the `judged` images (bool [n])."""
    directions = features.directions
    points, variance = reduce(directions, seed)
    clusterings = {}
    for name, method in METHODS.items():
        say(f"{features.name}: {name} into {clusters} clusters", "dim")
        clusterings[name] = method(points, clusters, seed)
    enough = not why_not(images, judged)
    scores = {
        name: score(found.clusters[judged], images.labels[judged], images.units[judged], seed)
        for name, found in clusterings.items() if enough
    }  # fmt: skip
    say(f"{features.name}: nearest images", "dim")
    units = np.arange(len(images)) if same_group else images.units
    voters = nearest(directions, images.units, VOTERS, images.labels >= 0)
    told = tell(voters, images.labels, len(images.classes), ordered=images.ordered)
    return Look(
        features=features, points=points, variance=variance, clusterings=clusterings, scores=scores,
        near=nearest(directions, units, neighbours), voters=voters, told=told,
        neighbours=judge(told, images, judged, seed) if enough else {},
    )  # fmt: skip


def why_not(images: Images, judged: np.ndarray) -> str:
    """Why nothing can be scored; empty where it can."""
    labels = images.labels[judged]
    if len(labels) < FEWEST:
        return f"{len(labels)} labelled images can be judged; {FEWEST} are needed"
    if len(np.unique(labels)) < 2:
        return "all labelled images that can be judged are of one class"
    if len(np.unique(images.units[judged])) < FEWEST:
        return f"the labelled images that can be judged are of fewer than {FEWEST} groups"
    return ""


def differences(looks: Sequence[Look]) -> list[dict[str, Any]]:
    """How far features are above pixels, on the same images and resamples; empty where there is nothing to compare.

    An entry per method and measure, and one per measure of the neighbours: of, measure, features, pixels, difference,
    low, high, answer. The resamples draw groups of images; the clusters stay as they were found.
    """
    if len(looks) < 2 or not looks[0].neighbours:
        return []
    features, pixels = looks
    kinds = [(name, features.scores[name], pixels.scores[name]) for name in features.scores]
    kinds.append((NEIGHBOURS, features.neighbours, pixels.neighbours))
    return [
        {"of": of, "measure": measure} | _difference(first[measure], second[measure])
        for of, first, second in kinds
        for measure in first
    ]


def _difference(features: Score, pixels: Score) -> dict[str, Any]:
    low, high = percentile_interval(features.drawn - pixels.drawn)
    both = {"features": features.value, "pixels": pixels.value, "difference": features.value - pixels.value}
    return {**both, "low": low, "high": high, "answer": answer(low, high)}
