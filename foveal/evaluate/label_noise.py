"""Labels that the grader doubts: confident learning (Northcutt, Jiang and Chuang 2021).

Only images that the grader has not learned from count, since it believes the labels that it has seen. A doubt is a
reason to look again, never a correction by itself; a reader's corrections go into a file for `--corrections`.

RUN/label_noise.csv, a row per doubted label, the most suspect first:
    id, label, grade  as in predictions.csv, the label after corrections
    probability       of the label
    suspicion         0.5 to 1: half of 1 - (probability of the label - highest of the other classes)
    likely            the class that the image seems to have
    neighbours        labels of the 5 images most like it, as "3 no DR, 2 mild NPDR", where `foveal cluster` has run
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from foveal.readout.predictions import probability_columns

NEIGHBOURS = 5


def unlearned(table: pd.DataFrame) -> pd.DataFrame:
    """The labelled rows that the grader has not learned from: all but those of the training part."""
    return table[table["label"].notna() & (table["split"] != "train")].reset_index(drop=True)


def doubts(table: pd.DataFrame) -> pd.DataFrame:
    """The table of label_noise.csv for labelled rows: those where another class is likely, and more probable."""
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
    """The doubts with what their nearest images are labelled, from cluster/neighbours.csv where there is one."""
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
    """int [n]: the class that each image is counted to, from probabilities [n, K] and labels [n].

    The most probable class whose probability reaches the mean that it has among the images with its label (the
    confident joint of the paper, which allows for classes that the grader gives timidly or boldly); without one, the
    label stays.
    """
    classes = range(probabilities.shape[1])
    bars = [probabilities[labels == k, k].mean() if (labels == k).any() else np.inf for k in classes]
    reached = np.where(probabilities >= np.array(bars), probabilities, -1.0)
    return np.where(reached.max(1) >= 0, reached.argmax(1), labels)
