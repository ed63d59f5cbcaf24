"""evaluate: measure predictions that exist, or grade a cohort with a run first (--on) and measure these.

    foveal evaluate RUN --on clinic/labels.csv
    foveal evaluate RUN --stress                (stress.py)

    RUN/cohorts/clinic/set/              the photographs, prepared like those of the run
    RUN/cohorts/clinic/predictions.csv   as from `predict`, with labels, patients, and columns eye and camera
    RUN/cohorts/clinic/cohort.json       the prepared set and its source
    RUN/cohorts/clinic/metrics.json      as from `evaluate`; cutoffs and operating points are those of the run

A prepared set is used as it is. Photographs that shaped the run, their copies and their patients are not judged.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd

from foveal.config import build
from foveal.console import hushed, warn
from foveal.errors import FovealError
from foveal.evaluate.evaluate import EvaluateConfig, measure_predictions
from foveal.files import read_json, write_json, write_table
from foveal.fundus.preparation import Preparation
from foveal.page.words import counted
from foveal.predict.inputs import is_prepared
from foveal.predict.predict import PredictConfig, predict
from foveal.predict.stress import stressing
from foveal.runs import read_model
from foveal.sets.leaks import find_seen, read_seen
from foveal.sets.options import PrepareConfig
from foveal.sets.prepare import prepare, read
from foveal.sets.records import PreparedSet, open_prepared

FOLDER, FILE, ABOUT = "cohorts", "predictions.csv", "cohort.json"
PARENT = "parent.csv"  # in the folder of an adapted run: what its parent predicts for the same photographs
COLUMNS = ("eye", "camera")  # of the records, kept in the predictions; subgroups where they differ


def evaluate(config: EvaluateConfig) -> Path:
    """Evaluate predictions, or those of the cohort in `config.on`; returns metrics.json."""
    runs: list[Path] = []
    if config.on is None:
        parent = config.source / PARENT
        if not config.versus and parent.is_file():  # of foveal adapt: both on the same photographs
            runs = [config.source, Path(read_json(config.source / "provenance.json")["parent"])]
            config = replace(config, versus=(parent,))
        return measure_predictions(config, runs, stressing(config, config.source))
    runs = [config.source, *config.versus]
    for run in runs:
        if not (run / "model.json").is_file():
            what = f"--on grades photographs with a run, and {run} is none"
            raise FovealError("option.conflict", what, expected="run folders of foveal train")
    sets = [cohort_set(run, config.on) for run in runs]
    files = [grade_cohort(run, config.on, prepared) for run, prepared in zip(runs, sets, strict=True)]
    first = pd.read_csv(files[0], dtype=str, keep_default_na=False)
    differing = tuple(name for name in COLUMNS if (first[name] != "").all() and first[name].nunique() > 1)
    by = config.by or differing
    cohort = replace(config, on=None, source=files[0], versus=tuple(files[1:]), by=by, records=sets[0].path)
    return measure_predictions(cohort, runs, stressing(cohort, runs[0]))


def folder_of(run: Path, source: Path) -> Path:
    """RUN/cohorts/NAME; a table is named by its folder."""
    place = source.resolve()
    return run / FOLDER / (place.parent if place.is_file() else place).name


def cohort_set(run: Path, source: Path, *, graded: bool = True) -> PreparedSet:
    """The photographs of a cohort, prepared like those of the run.

    FovealError unless, if they should be `graded`, some have labels of its scale.
    """
    model = read_model(run)
    if is_prepared(source):
        prepared = open_prepared(source)
        if graded:
            _check_labels(run, source, prepared.records["label"], prepared.classes, prepared.card["scale"])
        return prepared
    way = Preparation(**model["preparation"])
    asked = {name: getattr(way, name) for name in ("size", "crop", "fit", "mask", "enhance", "green")}
    asked |= {
        "source": (source,), "out": folder_of(run, source) / "set", "val": 0.0, "test": 0.0,
        "fundus": "yes" if model.get("fundus", way.crop == "disc") else "no",  # older runs do not have this key
        "classes": model["scale"].partition(" ")[2],
    }  # fmt: skip
    config = build(PrepareConfig, asked, "prepare")
    if graded:
        with hushed():  # prepare says the same; the labels are checked before anything is decoded
            found = read(config, None)
        _check_labels(run, source, found.source.table["label"], list(found.source.classes), found.scale)
    return open_prepared(prepare(config))


def _check_labels(run: Path, source: Path, labels: pd.Series, classes: list[str], scale: str) -> None:
    """FovealError unless a cohort has labels, on the scale of the run."""
    model = read_model(run)
    if not labels.notna().any():
        what = f"{source} has no labels, so there is nothing to measure"
        raise FovealError("label.none", what, fix=f"grade it with: foveal predict {run} {source}")
    if (classes, scale) != (model["classes"], model["scale"]):
        what = f"{source} has the scale '{scale}' ({', '.join(classes)})"
        expected = f"'{model['scale']}' ({', '.join(model['classes'])}), as {run}"
        raise FovealError("set.scales", what, expected=expected)


def grade_cohort(run: Path, source: Path, prepared: PreparedSet) -> Path:
    """Grade the cohort and write its predictions.csv: the split is test, or train for what the run has learned from."""
    file = folder_of(run, source) / FILE
    records = prepared.records
    labelled = records[records["label"].notna()]
    learned = find_seen(prepared, labelled, read_seen(str(run)))
    if len(learned) == len(labelled):
        what = f"{run} has learned from all {counted(len(labelled), 'labelled photograph')} of {source}"
        raise FovealError("leak.seen", what, fix="evaluate it on photographs of other patients")
    predict(PredictConfig(run=run, images=(prepared.path,), out=file))
    if len(learned):
        first = f"{learned['id'].iloc[0]} ({learned['how'].iloc[0]} {learned['other'].iloc[0]})"
        warn(f"{run} has learned from {counted(len(learned), 'photograph')} of {source}, or from their patients; "
             f"these are not judged. The first is {first}")  # fmt: skip
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    known = records.set_index("id").loc[table["id"]]
    split = known["label"].notna().map({True: "test", False: "unlabelled"})
    table["split"] = split.where(~known.index.isin(learned["id"]), "train").to_numpy()
    for name in COLUMNS:
        table[name] = known[name].to_numpy()
    write_table(file, table)
    write_json(file.with_name(ABOUT), {"set": str(prepared.path), "source": str(source.absolute())})
    return file
