"""evaluate: evaluate existing predictions, or first grade a cohort with a run (--on) and evaluate the result.

Results are in RUN/cohorts/clinic; cutoffs and operating points are those of the run. Another table in the folder
clinic, such as 2024.csv, is the cohort clinic-2024. If the name belongs to another source, a number follows it. When
the predictions change, results from the earlier ones are deleted.

A prepared set is used as it is. Photographs that the run learned from, their copies and patients are not evaluated.
"""

from dataclasses import replace
from functools import partial
from itertools import chain, count
from pathlib import Path

import numpy as np
import pandas as pd

from foveal.config import build
from foveal.console import warn
from foveal.errors import FovealError
from foveal.evaluate.columns import USUAL
from foveal.evaluate.difference import check_classes
from foveal.evaluate.evaluate import EvaluateConfig, measure_predictions
from foveal.files import read_json, write_json, write_table
from foveal.fundus.preparation import Preparation
from foveal.page.words import counted
from foveal.predict.inputs import is_prepared
from foveal.predict.predict import PredictConfig, predict
from foveal.predict.stress import write_stress
from foveal.runs import read_model
from foveal.sets.corrections import UNGRADABLE
from foveal.sets.leaks import find_namesakes, find_seen, read_seen, read_validation
from foveal.sets.options import ALL, PrepareConfig
from foveal.sets.prepare import check_out, is_there, prepare_from, read
from foveal.sets.records import PreparedSet, open_prepared
from foveal.sources.archive import unpacked
from foveal.sources.cards import CLASSES
from foveal.sources.source import TABLES
from foveal.sources.tables import has_labels, tables_at

FOLDER, FILE, ABOUT = "cohorts", "predictions.csv", "cohort.json"
MESSIDOR_HIGHEST = len(CLASSES["messidor"]) - 1
USUAL_TABLES = ("labels.csv", "train.csv")
DOCUMENTS = "documents"  # of foveal document
EARLIER = ("metrics.json", "label_noise.csv", "comparison.json", "changes.csv", "corrections.csv", "stress.csv",
           "report.html")  # fmt: skip
PARENT = "parent.csv"  # in the folder of an adapted run: what its parent predicts for the same photographs


def evaluate(config: EvaluateConfig) -> Path:
    """Evaluate predictions, or those of the cohort in `config.on`; returns metrics.json."""
    runs: list[Path] = []
    parent = config.source / PARENT
    if config.on is not None:
        runs = [config.source, *config.versus]
        config = _graded(config, config.on, runs)
    elif not config.versus and parent.is_file():  # of foveal adapt: both on the same photographs
        runs = [config.source, Path(read_json(config.source / "provenance.json")["parent"])]
        config = replace(config, versus=(parent,))
    stress = partial(write_stress, config, runs[0] if runs else config.source) if config.stress else None
    return measure_predictions(config, runs, stress)


def folder_of(run: Path, source: Path) -> Path:
    """The folder of a cohort: the one whose cohort.json has its source, else RUN/cohorts/NAME, or NAME-2, …."""
    place = source.resolve()
    for about in sorted((run / FOLDER).glob(f"*/{ABOUT}")):
        folder, table = sorted((place, Path(read_json(about)["source"]).resolve()))
        if folder == table or (table.parent == folder and tables_at(folder) == [table]):  # its only table of labels
            return about.parent
    name, ending = place.name, place.suffix.lower()
    if ending in TABLES:
        name = place.parent.name + f"-{place.stem}" * (place.name not in USUAL_TABLES)
    return _free(run / FOLDER / (place.stem if ending == ".zip" else name), ABOUT)


def _free(path: Path, file: str = "") -> Path:
    """`path`, or the first of path-2, path-3, …, that does not exist, or does not have `file`."""
    paths = chain([path], (path.with_name(f"{path.name}-{number}") for number in count(2)))
    return next(place for place in paths if not (place / file).exists())


def _graded(config: EvaluateConfig, source: Path, runs: list[Path]) -> EvaluateConfig:
    """Grade the cohort with every run; returns the options that measure these predictions."""
    for run in runs:
        if not (run / "model.json").is_file():
            raise FovealError("option.conflict", f"--on: {run} is not a run", expected="run folders of foveal train")
    for run in runs[1:]:  # before anything is graded
        check_classes((runs[0], run), (read_model(runs[0])["classes"], read_model(run)["classes"]))
    sets = [cohort_set(run, source) for run in runs]
    files = [_grade(run, source, prepared) for run, prepared in zip(runs, sets, strict=True)]
    return replace(config, on=None, source=files[0], versus=tuple(files[1:]), records=sets[0].path)


def cohort_set(run: Path, source: Path, *, graded: bool = True) -> PreparedSet:
    """The photographs of a cohort, prepared like those of the run; FovealError if `graded` ones lack its labels."""
    model = read_model(run)
    if is_prepared(source):
        prepared = open_prepared(source)
        if graded:
            _check_labels(run, source, prepared.records["label"], prepared.classes, prepared.card["scale"])
        return prepared
    way, (scale, _, merged) = Preparation(**model["preparation"]), model["scale"].partition(" ")
    asked = way.asked(model.get("fundus", way.crop == "disc")) | {  # older runs do not have this key
        "source": (source,), "out": folder_of(run, source) / "set", "val": 0.0, "test": 0.0, "classes": merged,
        "scale": scale if scale in CLASSES else "auto",  # 0-3 in a table may be on several scales
    }  # fmt: skip
    config = build(PrepareConfig, asked, "prepare")
    if not graded and (tables := tables_at(source)) and not any(map(has_labels, tables)):
        config = replace(config, unlabelled=ALL)  # a table of photographs that nobody has graded
    existing = check_out(config)
    if existing and not is_there(config):
        return open_prepared(config.out)
    try:
        with unpacked(source, config.out) as root:
            found = read(config, existing, root, named=graded)  # `select` may have prepared the others
            if graded:  # before anything is decoded
                _check_labels(run, source, found.source.table["label"], list(found.source.classes), found.scale)
            if graded and found.source.numbered:  # words tell which grades they mean
                _warn_of_scales(run, source, scale, found.source.table["label"].max())
            prepared = open_prepared(prepare_from(found, existing))
    except FovealError as error:
        if "--" in error.fix:  # an option of `prepare`
            error.fix = f"{error.fix}, in foveal prepare {source} --out DATA; then give DATA in place of {source}"
        raise
    write_json(config.out.parent / ABOUT, {"set": str(prepared.path), "source": str(source.absolute())})
    return prepared


def _check_labels(run: Path, source: Path, labels: pd.Series, classes: list[str], scale: str) -> None:
    """FovealError unless a cohort has labels, on the scale of the run."""
    model = read_model(run)
    if not labels.notna().any():
        raise FovealError("label.none", f"{source} has no labels", fix=f"grade it with: foveal predict {run} {source}")
    if (classes, scale) != (model["classes"], model["scale"]):
        what, expected = f"{source} has the scale '{scale}' ({', '.join(classes)})", f"'{model['scale']}', as {run}"
        raise FovealError("set.scales", what, expected=expected)


def _warn_of_scales(run: Path, source: Path, scale: str, highest: int) -> None:
    if scale == "icdr" and highest == MESSIDOR_HIGHEST:
        what = f"the highest grade in {source} is {MESSIDOR_HIGHEST}, read on the ICDR scale of {run}"
        warn(f"{what}: on the scale of Messidor-1, 0 to 3, the same numbers mean other grades")
    if scale == "icdr" and highest == 1:
        what = f"the labels in {source} are 0 and 1 at most, read as grades of the ICDR scale of {run}"
        two = "no case is referable; if 1 means any, or referable, disease, they are two classes"
        warn(f"{what}: {two} (foveal prepare --scale none), and {run} cannot be measured on them")


def unlearned(run: Path, source: Path, prepared: PreparedSet, records: pd.DataFrame) -> pd.Series:
    """bool: which records did not shape the run: its training and validation images, their copies and patients. Warns
    about those that did, and about patients who may have; FovealError if there are no others."""
    seen, fix = pd.concat([read_seen(str(run)), read_validation(run)]), "use photographs of other patients"
    learned = find_seen(prepared, prepared.records, seen)  # an unlabelled copy makes its patient known, too
    learned = learned[learned["id"].isin(records["id"])]
    others = records[~records["id"].isin(learned["id"])]
    named = find_namesakes(prepared, others, seen).merge(others[["id", "group"]], on="id")
    same, doubtful = named[named["sure"]], named[~named["sure"]]
    if len(same):
        fix = f"{fix}; if they only have the same numbers, give them other numbers in {source}"
    if len(learned) + len(same) == len(records):
        what = f"{run} was trained or validated on all {counted(len(records), 'photograph')} of {source}"
        raise FovealError("leak.seen", what, fix=fix)
    if len(learned):
        first = f"{learned['id'].iloc[0]} ({learned['how'].iloc[0]} {learned['other'].iloc[0]})"
        known = f"photographs that {run} was trained or validated on, or of the same patients"
        warn(f"left out: {len(learned)} {known}, such as {first}")
    for part, what, advice in (
        (same, "left out", "if they are other people, give them other numbers"),
        (doubtful, "not left out", "if they are the same people, remove them from the cohort"),
    ):
        if len(part):
            row, people = part.iloc[0], counted(part["group"].nunique(), "patient")
            first = f"{row['name']} ({row['id']}, in training {row['other']})"
            warn(f"{what}: {people} whose number also occurs in the training of {run}, such as {first}; {advice}")
    return ~records["id"].isin([*learned["id"], *same["id"]])


def _grade(run: Path, source: Path, prepared: PreparedSet) -> Path:
    """Write predictions.csv of the cohort: the split is test, or train for what the run has learned from. Photographs
    that readers called ungradable are in the test part, too: they count among those without a grade."""
    flags = prepared.records["flags"].str.split().map(lambda words: UNGRADABLE in words)
    file, seen = folder_of(run, source) / FILE, prepared.records[prepared.records["label"].notna() | flags]
    test = seen["id"][unlearned(run, source, prepared, seen)]
    before = file.read_bytes() if file.is_file() else b""
    predict(PredictConfig(run=run, images=(prepared.path,), out=file))
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    known = prepared.records.set_index("id").loc[table["id"]]
    table["split"] = np.select([table["id"].isin(test), table["id"].isin(seen["id"])], ["test", "train"], "unlabelled")
    table[[*USUAL]] = known[[*USUAL]].to_numpy()
    write_table(file, table)
    if before not in (b"", file.read_bytes()):
        for name in EARLIER:
            file.with_name(name).unlink(missing_ok=True)
        if (documents := file.with_name(DOCUMENTS)).is_dir():  # in which authors may have written
            kept = documents.rename(_free(file.with_name(f"earlier-{DOCUMENTS}")))
            warn(f"{documents} is about an earlier evaluation; it was renamed to {kept}")
    write_json(file.with_name(ABOUT), {"set": str(prepared.path), "source": str(source.absolute())})
    return file
