"""What is judged: the labelled rows of a part, and what their classes mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from foveal.errors import FovealError
from foveal.files import read_json
from foveal.page.words import counted
from foveal.readout.predictions import probability_columns
from foveal.readout.scales import SIGHT_THREATENING_FROM, Scale, class_that_starts_at


def table_of(source: Path) -> Path:
    """The table of predictions that a run folder holds, or the table itself."""
    return source / "predictions.csv" if source.is_dir() else source


def model_beside(file: Path) -> dict[str, Any]:
    """model.json of the run folder that the predictions are in; {} without one."""
    model = file.with_name("model.json")
    return read_json(model) if model.is_file() else {}


def names_of(table: pd.DataFrame, model: dict[str, Any], file: Path) -> list[str]:
    """Class names, or numbers without a model.json; FovealError where the table has another number of classes."""
    count = len(probability_columns(table))
    names = model.get("classes") or [str(number) for number in range(count)]
    if len(names) != count:
        raise FovealError("predictions.classes", f"{file} has {count} classes, the model.json beside it {len(names)}")
    return list(names)


def choose_rows(table: pd.DataFrame, split: str) -> tuple[pd.DataFrame, str]:
    """The labelled rows of a part, and the part's name; FovealError where there are fewer than 2."""
    labelled = table[table["label"].notna()]
    if split == "auto":
        split = "test" if (labelled["split"] == "test").any() else "all"
    chosen = labelled if split == "all" else labelled[labelled["split"] == split]
    if len(chosen) < 2:
        there = ", ".join(f"{n} {name or 'without split'}" for name, n in labelled["split"].value_counts().items())
        raise FovealError(
            "predictions.no_labels", f"--split {split} has {counted(len(chosen), 'labelled row')} (there are: "
            f"{there or 'none'})", expected="2 at least", fix="choose another --split, or add labels",
        )  # fmt: skip
    return chosen.reset_index(drop=True), split


def check_classes(table: pd.DataFrame, split: str, names: list[str]) -> None:
    """FovealError where all labels are one class: agreement beyond chance and areas under curves need two."""
    present = table["label"].unique()
    if len(present) < 2:
        raise FovealError(
            "predictions.one_class", f"--split {split}: all {len(table)} labels are '{names[int(present[0])]}'",
            expected="images of two classes at least", fix="add some, or choose another --split",
        )  # fmt: skip


def scale_of(lowest: int | None, model: dict[str, Any], names: list[str], table: pd.DataFrame) -> Scale:
    """What the classes mean: from --referable-from, else from model.json, else from the table itself.

    Predictions without a model.json are on the ICDR scale when they say what is referable and have its five classes.
    FovealError for a --referable-from that does not divide the classes.
    """
    ordered, referable = model.get("task", "grading") == "grading", table["referable"].notna().any()
    if lowest is not None and not (ordered and 0 < lowest < len(names)):
        expected = f"a grade 1..{len(names) - 1}" if ordered else "none: these classes have no order"
        raise FovealError("option.value", f"--referable-from is {lowest}", expected=expected)
    if lowest is None and referable:
        lowest = model.get("referable_from", 2)
    scale = model.get("scale", "icdr" if referable and len(names) == 5 else "none")
    threatening = class_that_starts_at(scale, SIGHT_THREATENING_FROM)
    return Scale(names=names, ordered=ordered, referable_from=lowest, sight_threatening_from=threatening)
