"""Labels that the grader doubts: confident learning (Northcutt, Jiang and Chuang 2021).

Only images outside the training part are checked, because a grader fits the labels it was trained on. A doubt is a
reason to look at the image again, not a correction; a reader's corrections go into a file for `--corrections`.

RUN/label_noise.csv, a row per doubted label, the most suspicious first:
    id, label, grade  as in predictions.csv, the label after corrections
    probability       of the label
    suspicion         0.5 to 1: half of 1 - (probability of the label - highest of the other classes)
    likely            the class that the image probably has
    neighbours        labels of the 5 most similar images, as "3 no DR, 2 mild NPDR", if `foveal cluster` has been run
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from foveal.readout.predictions import probability_columns

NEIGHBOURS = 5


def unlearned(table: pd.DataFrame) -> pd.DataFrame:
    """The labelled rows outside the training part."""
    return table[table["label"].notna() & (table["split"] != "train")].reset_index(drop=True)


def doubts(table: pd.DataFrame) -> pd.DataFrame:
    """The table of label_noise.csv: labelled rows for which another class is both `likely` and more probable."""
    probabilities, labels = table[probability_columns(table)].to_numpy(float), table["label"].to_numpy(np.int64)
    rows = np.arange(len(labels))
    own = probabilities[rows, labels]
    others = probabilities.copy()
    others[rows, labels] = -np.inf
    found = pd.DataFrame({
        "id": table["id"], "label": labels, "grade": table["grade"], "probability": own.round(6),
        "suspicion": ((1 - (own - others.max(1))) / 2).round(6), "likely": likely(probabilities, labels),
    })  # fmt: skip
    found = found[(found["likely"] != found["label"]) & (found["suspicion"] > 0.5)]
    return found.sort_values(["suspicion", "id"], ascending=[False, True], ignore_index=True)


def with_neighbours(found: pd.DataFrame, file: Path, names: list[str]) -> pd.DataFrame:
    """Add the labels of the most similar images to the doubts, if there is a cluster/neighbours.csv."""
    if not file.is_file():
        return found
    near = pd.read_csv(file, dtype={"id": str}, usecols=["id", "rank", "other_label"])
    near = near[near["id"].isin(found["id"]) & (near["rank"] <= NEIGHBOURS) & near["other_label"].notna()]
    words = {
        name: ", ".join(f"{n} {names[label]}" for label, n in Counter(own["other_label"].astype(int)).most_common())
        for name, own in near.groupby("id")
    }
    return found.assign(neighbours=[words.get(name, "") for name in found["id"]])


def likely(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """int [n]: the likely true class of each image, from probabilities [n, K] and labels [n].

    The most probable class among those whose probability reaches its mean over the images with that label; without
    one, the label itself. This is the confident joint of the paper; the means allow for over- and underconfidence.
    """
    classes = range(probabilities.shape[1])
    bars = [probabilities[labels == k, k].mean() if (labels == k).any() else np.inf for k in classes]
    reached = np.where(probabilities >= np.array(bars), probabilities, -1.0)
    return np.where(reached.max(1) >= 0, reached.argmax(1), labels)
