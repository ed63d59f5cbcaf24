"""Tables and pictures of misgraded images.

    RUN/errors/classes.csv          epoch, part, class, images, precision, recall
    RUN/errors/epoch-007-val.csv    id, true, given, probability of the given grade, worst first; -train likewise
    RUN/misgraded.csv               the same for the best epoch; RUN/misgraded/NN.jpg shows the worst images

Training images were graded in their random views of that epoch; with mixup or CutMix they are not listed. The val part
of a fold is its held-out images, graded only after its last epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from foveal.files import write_bytes, write_table
from foveal.metrics import confusion_matrix, precision, recall
from foveal.readout.predictions import probability_columns, read_predictions
from foveal.sets.records import PreparedSet

FOLDER = "errors"
MISGRADED_SHOWN = 12  # pictures; the table lists all
Answers = tuple[Sequence[str], np.ndarray, np.ndarray, np.ndarray]  # ids, true, given [n], probabilities [n, K]


def write_errors(run: Path, epoch: int, parts: dict[str, Answers], classes: list[str]) -> None:
    """Write the tables of one epoch, and its lines of classes.csv. parts: train or val -> predictions."""
    folder = run / FOLDER
    folder.mkdir(exist_ok=True)
    lines = []
    for part, (ids, true, given, probabilities) in parts.items():
        confusion = confusion_matrix(true, given, len(classes))
        figures = zip(classes, confusion.sum(1).astype(int), precision(confusion), recall(confusion), strict=True)
        lines += [(epoch, part, *figure) for figure in figures]
        sure = np.asarray(probabilities)[np.arange(len(given)), given].astype(float)
        table = pd.DataFrame({"id": ids, "true": true, "given": given, "probability": sure.round(4)})
        worst = worst_first(table, "true", "given").drop(columns="distance")
        write_table(folder / f"epoch-{epoch:03d}-{part}.csv", worst)
    _replace_epoch(folder / "classes.csv", epoch, lines)


def worst_first(table: pd.DataFrame, true: str, given: str) -> pd.DataFrame:
    """The misgraded rows, sorted by their `distance` in grades, then by `probability`, both largest first."""
    wrong = table[table[true].notna() & (table[true] != table[given])]
    wrong = wrong.assign(distance=(wrong[true] - wrong[given]).abs().astype(int))
    return wrong.sort_values(["distance", "probability", "id"], ascending=[False, False, True])


def write_held_out(run: Path, epoch: int, classes: list[str]) -> None:
    """Write the tables of a fold's held-out images, from its predictions."""
    table = read_predictions(run / "predictions.csv")
    table = table[table["split"] == "val"]
    true, given = (table[name].to_numpy(np.int64) for name in ("label", "grade"))
    probabilities = table[probability_columns(table)].to_numpy(float)
    write_errors(run, epoch, {"val": (table["id"].tolist(), true, given, probabilities)}, classes)


def _replace_epoch(file: Path, epoch: int, lines: list[tuple]) -> None:
    """Replace the lines of these parts of an epoch, and drop later epochs, which a resumed run repeats."""
    columns = ["epoch", "part", "class", "images", "precision", "recall"]
    new = pd.DataFrame(lines, columns=columns).round({"precision": 4, "recall": 4})
    if file.is_file():
        before = pd.read_csv(file, dtype={"class": str})
        same = (before["epoch"] == epoch) & ~before["part"].isin(new["part"])
        new = pd.concat([before[(before["epoch"] < epoch) | same], new], ignore_index=True)
    write_table(file, new)


def write_misgraded(run: Path, prepared: PreparedSet, table: pd.DataFrame) -> None:
    """Write RUN/misgraded.csv from a table of predictions, and pictures of the worst test images.

    Without a test part, the pictures show the worst of all images.
    """
    rows = table.to_dict("records")
    wrong = worst_first(table.assign(probability=[row[f"p{row['grade']}"] for row in rows]), "label", "grade")
    shown = wrong[wrong["split"] == "test"] if (table["split"] == "test").any() else wrong
    names = {name: f"{number:02d}.jpg" for number, name in enumerate(shown.head(MISGRADED_SHOWN)["id"])}
    wrong["picture"] = wrong["id"].map(names).fillna("")
    write_table(run / "misgraded.csv", wrong[["id", "split", "label", "grade", "probability", "distance", "picture"]])
    folder = run / "misgraded"
    folder.mkdir(exist_ok=True)
    records = prepared.records.set_index("id").loc[list(names)]
    for name, pixels in zip(names.values(), prepared.pixels(records), strict=True):
        colour = cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_GRAY2BGR
        encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, colour), [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
        write_bytes(folder / name, encoded.tobytes())
