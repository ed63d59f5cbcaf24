"""The analysis of one kind of features: clusters, neighbours, and scores of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foveal.cluster.features import Features
from foveal.cluster.images import Images
from foveal.cluster.methods import METHODS, Clustering, reduce
from foveal.cluster.neighbours import Nearest, doubt, judge, nearest, vote
from foveal.cluster.scores import Score, score
from foveal.console import say
from foveal.evaluate.difference import answer
from foveal.evaluate.intervals import Resampling

FEWEST = 20  # labelled images; with fewer, nothing is scored
NEIGHBOURS = "neighbours"  # stands for the nearest images where a method name is expected


@dataclass(frozen=True, kw_only=True)
class Look:
    """The analysis of one kind of features.

    points: float32 [n, d], principal components; variance: [d], their shares of it.
    scores: method -> measure -> Score; neighbours: measure -> Score of the votes; resampling: of both. Empty and None
    if there are too few labels to score. voters: the nearest labelled images of other groups; voted: int [n], the label
    that they vote for; doubts: float [n], how much they contradict the label of the image.
    """

    features: Features
    points: np.ndarray
    variance: np.ndarray
    clusterings: dict[str, Clustering]
    scores: dict[str, dict[str, Score]]
    near: Nearest
    voters: Nearest
    voted: np.ndarray
    doubts: np.ndarray
    neighbours: dict[str, Score]
    resampling: Resampling | None

    def plain(self) -> dict[str, Any]:
        """The entry in cluster.json."""
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


def look(features: Features, images: Images, judged: np.ndarray, *, clusters: int, seed: int) -> Look:
    """Cluster the images, find their neighbours, and score both on the `judged` images (bool [n])."""
    directions, labels, units = features.directions, images.labels, images.units
    points, variance = reduce(directions, seed)
    clusterings = {}
    for name, method in METHODS.items():
        say(f"{features.name}: {name} with {clusters} clusters", "dim")
        clusterings[name] = method(points, clusters, seed)
    say(f"{features.name}: nearest images", "dim")
    voters = nearest(directions, units, directions, units, among=labels >= 0)
    voted = vote(voters, labels, len(images.classes))
    scores: dict[str, dict[str, Score]] = {}
    neighbours: dict[str, Score] = {}
    resampling = None
    if not why_not(images, judged):
        rows = np.flatnonzero(judged)
        resampling = Resampling(np.unique(units[rows], return_inverse=True)[1], seed=seed)
        scores = {name: score(found.clusters[rows], labels[rows], resampling, seed)
                  for name, found in clusterings.items()}  # fmt: skip
        neighbours = judge(voted, images, rows, resampling)
    return Look(
        features=features, points=points, variance=variance, clusterings=clusterings, scores=scores,
        near=nearest(directions, units, directions, units), voters=voters, voted=voted,
        doubts=doubt(voters, labels, ordered=images.ordered), neighbours=neighbours,
        resampling=resampling,
    )  # fmt: skip


def why_not(images: Images, judged: np.ndarray) -> str:
    """Why nothing can be scored; empty if scoring is possible."""
    labels = images.labels[judged]
    if len(labels) < FEWEST:
        return f"only {len(labels)} labelled images can be scored; {FEWEST} are needed"
    if len(np.unique(labels)) < 2:
        return "all labelled images that can be scored have the same class"
    if len(np.unique(images.units[judged])) < FEWEST:
        return f"the labelled images that can be scored come from fewer than {FEWEST} groups"
    return ""


def differences(looks: Sequence[Look]) -> list[dict[str, Any]]:
    """Features minus pixels in every score, on the same images and resamples; empty if there is nothing to compare.

    An entry per method and measure, and one per measure of the neighbours: of, measure, value, low, high, answer.
    Resamples draw groups of images; clusters are not recomputed.
    """
    if len(looks) < 2 or looks[0].resampling is None:
        return []
    features, pixels = looks
    resampling = looks[0].resampling
    kinds = [(name, features.scores[name], pixels.scores[name]) for name in features.scores]
    kinds.append((NEIGHBOURS, features.neighbours, pixels.neighbours))
    return [
        {"of": of, "measure": measure} | _difference(first[measure], second[measure], resampling)
        for of, first, second in kinds
        for measure in first
    ]


def _difference(features: Score, pixels: Score, resampling: Resampling) -> dict[str, Any]:
    value = features.value - pixels.value
    low, high = resampling.interval(value, features.drawn - pixels.drawn)
    return {"value": value, "low": low, "high": high, "answer": answer(low, high)}
