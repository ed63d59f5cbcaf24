"""The errors of every epoch, as tables that a person can read.

    RUN/errors/classes.csv          epoch, part, class, images, precision, recall
    RUN/errors/epoch-007-val.csv    id, true, given, probability of the given grade, worst first; -train likewise

Training images are as they were seen in the epoch, turned and coloured; where images are mixed there is no such list.
Of a fold, val are the images that it holds out, judged after its last epoch only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from foveal.files import write_text
from foveal.metrics import confusion_matrices, precision, recall
from foveal.readout.predictions import probability_columns, read_predictions

FOLDER = "errors"
Answers = tuple[Sequence[str], np.ndarray, np.ndarray, np.ndarray]  # ids, true, given [n], probabilities [n, K]


def write_errors(run: Path, epoch: int, parts: dict[str, Answers], classes: list[str]) -> None:
    """Write the tables of one epoch, and its lines in classes.csv. parts: train, val -> answers."""
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    lines = []
    for part, (ids, true, given, probabilities) in parts.items():
        sure = np.asarray(probabilities)[np.arange(len(given)), given].astype(float)
        confusion = confusion_matrices(true, given, np.zeros_like(true), len(classes))[0]
        figures = zip(classes, confusion.sum(1).astype(int), precision(confusion), recall(confusion), strict=True)
        lines += [(epoch, part, *figure) for figure in figures]
        wrong = pd.DataFrame({"id": ids, "true": true, "given": given, "probability": sure.round(4)})
        wrong = wrong[true != given]
        distance = (wrong["true"] - wrong["given"]).abs()
        order = pd.DataFrame({"d": -distance, "p": -wrong["probability"], "id": wrong["id"]}).sort_values(
            ["d", "p", "id"]
        )
        text = wrong.loc[order.index].to_csv(index=False, lineterminator="\n")
        write_text(folder / f"epoch-{epoch:03d}-{part}.csv", text)
    _append(folder / "classes.csv", epoch, lines)


def write_held_out(run: Path, epoch: int, classes: list[str]) -> None:
    """The tables of the images that a fold holds out, which are judged once, after its last epoch."""
    table = read_predictions(run / "predictions.csv")
    table = table[table["split"] == "val"]
    true, given = (table[name].to_numpy(np.int64) for name in ("label", "grade"))
    probabilities = table[probability_columns(table)].to_numpy(float)
    write_errors(run, epoch, {"val": (table["id"].tolist(), true, given, probabilities)}, classes)


def _append(file: Path, epoch: int, lines: list[tuple]) -> None:
    """Replace what the file says of these parts in this epoch, and of later ones: who resumes makes them anew."""
    columns = ["epoch", "part", "class", "images", "precision", "recall"]
    new = pd.DataFrame(lines, columns=columns).round({"precision": 4, "recall": 4})
    if file.is_file():
        before = pd.read_csv(file, dtype={"class": str})
        same = (before["epoch"] == epoch) & ~before["part"].isin(new["part"])
        new = pd.concat([before[(before["epoch"] < epoch) | same], new], ignore_index=True)
    write_text(file, new.to_csv(index=False, lineterminator="\n"))
