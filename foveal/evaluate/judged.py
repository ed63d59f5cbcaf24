"""The rows to evaluate, the meaning of their classes, and their labels: corrected on request, doubted by the grader.

Doubts are by confident learning (Northcutt, Jiang and Chuang 2021), outside the training part only, because a grader
fits the labels it was trained on.

RUN/label_noise.csv, a row per doubted label, the most suspicious first:
    id, label, grade  as in predictions.csv, the label after corrections
    probability       of the label
    suspicion         0.5 to 1: half of 1 - (probability of the label - highest of the other classes)
    likely            the class that the image probably has
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foveal.errors import FovealError
from foveal.page.words import counted
from foveal.readout.predictions import probability_columns
from foveal.readout.scales import SIGHT_THREATENING_FROM, Scale, class_that_starts_at
from foveal.sets.corrections import FILE as CORRECTIONS
from foveal.sets.corrections import apply_corrections, later_names, read_changes, read_corrections, unguarded
from foveal.sets.reviewed import FILE as REVIEWS
from foveal.sets.splits import HELD_OUT

REVIEWED = "reviewed"  # how `why` of a correction begins if it comes from a review


def table_of(source: Path) -> Path:
    """The predictions.csv of a run folder, or the table itself."""
    return source / "predictions.csv" if source.is_dir() else source


def choose_rows(table: pd.DataFrame, split: str) -> tuple[pd.DataFrame, str]:
    """The labelled rows of a part, and the part's name; FovealError if there are fewer than 2.

    all: every labelled row, except those of sources that are held out, if there are others.
    """
    labelled = table[table["label"].notna()]
    parts = labelled["split"]
    if split == "auto":
        split = "test" if (parts == "test").any() else "all"
    home = labelled[parts != HELD_OUT] if (parts != HELD_OUT).any() else labelled
    chosen = home if split == "all" else labelled[parts == split]
    if len(chosen) < 2:
        there = ", ".join(f"{n} {name or 'without split'}" for name, n in labelled["split"].value_counts().items())
        has = f"--split {split} has {counted(len(chosen), 'labelled row')} (there are: {there or 'none'})"
        raise FovealError("predictions.no_labels", has, expected="at least 2", fix="choose another --split")
    return chosen.reset_index(drop=True), split


def scale_of(lowest: int | None, model: dict[str, Any], names: list[str], table: pd.DataFrame) -> Scale:
    """The meaning of the classes: from --referable-from, else from model.json, else ICDR if the table has five classes
    and values of `referable`. FovealError if --referable-from is not a grade above the lowest one."""
    ordered, referable = model.get("task", "grading") == "grading", table["referable"].notna().any()
    if lowest is not None and not (ordered and 0 < lowest < len(names)):
        expected = f"a grade 1..{len(names) - 1}" if ordered else "none: these classes have no order"
        raise FovealError("option.value", f"--referable-from is {lowest}", expected=expected)
    if lowest is None and referable:
        lowest = model.get("referable_from", 2)
    scale = model.get("scale", "icdr" if referable and len(names) == 5 else "none")
    threatening = class_that_starts_at(scale, SIGHT_THREATENING_FROM)
    return Scale(names=names, ordered=ordered, referable_from=lowest, sight_threatening_from=threatening)


def with_corrections(table: pd.DataFrame, file: Path, names: list[str]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The predictions with all corrections of `file` applied, and {file, all, rows, changed}.

    all: number of corrections in the file; rows: those of graded images; changed: images whose label changed.
    FovealError if the file does not exist, contains none of the images, or corrects a label that an image never had.
    """
    if not file.is_file():
        raise FovealError("corrections.missing", f"--corrections {file} does not exist")
    changes = read_corrections(file)
    graded = changes[changes["id"].isin(table["id"])]
    if not len(graded):
        raise FovealError("corrections.no_match", f"--corrections {file} contains none of the graded images")
    corrected = apply_corrections(table, file, names, partly=True)
    before, after = (rows["label"].astype(object).fillna(-1) for rows in (table, corrected))
    counts = {"all": len(changes), "rows": len(graded), "changed": int((before != after).sum())}
    return corrected, {"file": file.name, **counts}


def unseen(folder: Path | None) -> pd.DataFrame:
    """id, group, eye and label of the photographs of a prepared set that are missing or cannot be read."""
    columns = ["id", "group", "eye", "label"]
    file = folder and folder / "rejected.csv"
    table = pd.read_csv(file, dtype=str, keep_default_na=False) if file and file.is_file() else pd.DataFrame()
    table = table.reindex(columns=columns, fill_value="")
    return table[table["id"] != ""].assign(label=pd.to_numeric(table["label"]).astype("Int64"))


def reviewed(rows: pd.DataFrame, folder: Path, further: Path | None = None) -> int:
    """How many of the labels reviews gave or confirmed, by reviewers who saw the answer of a grader.

    folder: a prepared set or a run, with corrections.csv; further: other corrections. Confirmations are known from the
    set's reviewed.csv, that is from the last reviews that were applied.
    """
    tables = []
    for file in (folder / CORRECTIONS, further):
        if file is not None and file.is_file():
            last = read_corrections(file).drop_duplicates("id", keep="last")
            tables.append(last[last["why"].str.match(f"{REVIEWED}(: |$)")])
    if (file := folder / REVIEWS).is_file():
        table = unguarded(pd.read_csv(file, dtype=str, keep_default_na=False), file, ("id", "new", "result"))
        tables.append(table[table["result"].isin(("applied", "already so"))])
    changes = read_changes(folder)  # that of a run is about what another run refers
    names = later_names(changes, rows["id"]) if "change" in changes else {}
    given = {(names.get(name, name), new) for one in tables for name, new in zip(one["id"], one["new"], strict=True)}
    return sum(pair in given for pair in zip(rows["id"], rows["label"].astype(str), strict=True))


def unlearned(table: pd.DataFrame) -> pd.DataFrame:
    """The labelled rows outside the training part."""
    return table[table["label"].notna() & (table["split"] != "train")].reset_index(drop=True)


def doubts(table: pd.DataFrame) -> pd.DataFrame:
    """The table of label_noise.csv: labelled rows for which another class is both `likely` and more probable."""
    probabilities, labels = table[probability_columns(table)].to_numpy(float), table["label"].to_numpy(np.int64)
    rows, others = np.arange(len(labels)), probabilities.copy()
    own, others[rows, labels] = probabilities[rows, labels], -np.inf
    found = pd.DataFrame({"id": table["id"], "label": labels, "grade": table["grade"], "probability": own.round(6),
                          "suspicion": ((1 - (own - others.max(1))) / 2).round(6),
                          "likely": likely(probabilities, labels)})  # fmt: skip
    found = found[(found["likely"] != found["label"]) & (found["suspicion"] > 0.5)]
    return found.sort_values(["suspicion", "id"], ascending=[False, True], ignore_index=True)


def likely(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """int [n]: the likely true class of each image, from probabilities [n, K] and labels [n] (the paper's confident
    joint): the most probable of those that reach their mean over the images with that label; else the label."""
    classes = range(probabilities.shape[1])
    bars = [probabilities[labels == k, k].mean() if (labels == k).any() else np.inf for k in classes]
    reached = np.where(probabilities >= np.array(bars), probabilities, -1.0)
    return np.where(reached.max(1) >= 0, reached.argmax(1), labels)
