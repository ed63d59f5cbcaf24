"""predict: grade pictures with a trained run, with several together, or with an exported file.

foveal predict RUN photograph.jpg folder/ archive.zip list.csv --out predictions.csv
foveal predict RUN DATA --split test --out predictions.csv
foveal predict RUN RUN2 RUN3 folder/ --tta flips
foveal predict exported/model.onnx folder/ --out predictions.jsonl

Rows are written while images are graded: memory does not grow with their number, and the same command goes on after
an interruption.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import tyro

from foveal.console import progress_bar, say, show_table, warn
from foveal.fundus.quality import UNGRADABLE, check_flags
from foveal.predict.answers import GRADE
from foveal.predict.inputs import list_photographs, sort_inputs
from foveal.predict.model import Model, batches, check_preparation, set_ungradable
from foveal.predict.opened import is_model, open_model
from foveal.predict.output import Writer
from foveal.predict.overlays import check_maps, write_overlays
from foveal.readout.predictions import probability_columns
from foveal.sets.leaks import find_seen, read_seen
from foveal.sets.records import PreparedSet, open_prepared

SHOWN = 12  # predictions printed; the file holds all


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Options of `foveal predict`."""

    # Run folder that `foveal train` wrote (folds are an ensemble), or a file of `foveal export`.
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    # Files, folders, zip archives, "patterns", lists (.csv) and prepared sets; further run folders grade along (mean).
    images: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES…")]
    # Table to write; JSON lines where it ends in .jsonl.
    out: Path = Path("predictions.csv")
    # Part of the prepared sets to grade.
    split: Literal["all", "train", "val", "test", "unlabelled"] = "all"
    # Test-time augmentation: mean over 4 flips, or over 8 flips and turns; auto is that of the run.
    tta: Literal["auto", "none", "flips", "turns"] = "auto"
    # Flags of quality with which a picture is answered "ungradable" instead of a grade.
    ungradable: tuple[str, ...] = tuple(sorted(UNGRADABLE))
    # Folder for a picture of each photograph with the places that spoke for its answer.
    overlays: Path | None = None
    # Ray cluster that grades the photographs: its address, auto for that of this machine, local for a new one.
    ray: str = ""
    # auto, cpu, cuda or mps.
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.images:
            raise ValueError("predict needs at least one picture, folder, archive, list or prepared set")
        check_flags(self.ungradable, "--ungradable")
        if self.ray and self.overlays is not None:
            raise ValueError("--overlays are drawn on this machine: leave out --ray, or draw them in a second command")


@dataclass(kw_only=True)
class Tally:
    """What is said at the end: counts, and the first rows."""

    rows: int = 0
    answers: dict[str, int] = field(default_factory=dict)
    flags: dict[str, int] = field(default_factory=dict)
    flagged: int = 0
    shown: list[pd.DataFrame] = field(default_factory=list)
    first_error: str = ""

    def count(self, table: pd.DataFrame) -> None:
        """Take some rows into account."""
        if sum(map(len, self.shown)) < SHOWN:
            self.shown.append(table.head(SHOWN))
        self.rows += len(table)
        for answer, number in table["answer"].value_counts().items():
            self.answers[str(answer)] = self.answers.get(str(answer), 0) + int(number)
        for flag, number in table["flags"].str.split().explode().dropna().value_counts().items():
            self.flags[str(flag)] = self.flags.get(str(flag), 0) + int(number)
        self.flagged += int((table["flags"] != "").sum())
        bad = table[table["answer"] == "unreadable"]
        if len(bad) and not self.first_error:
            self.first_error = f"{bad['id'].iloc[0]}: {bad['reason'].iloc[0]}"


def predict(config: PredictConfig) -> Path:
    """Grade pictures and write predictions.csv, a row each, whatever became of it. Returns the table's path."""
    more, images = further_runs(config.images)
    runs = [config.run, *more]
    holding, sets = sort_inputs(images)
    _check_out(config.out, images)
    prepared = [_chosen(path, config.split) for path in sets]
    _check_ids(prepared)
    model = open_model(runs, config.device, config.tta)
    for known, _ in prepared:
        check_preparation(known, model.preparation)
    if config.overlays is not None:
        check_maps(model)
    if len(runs) > 1:
        say(f"{len(runs)} runs grade together: the mean of their probabilities and cutoffs, without sets of grades")
    made_with = {"model": model.key, "images": [str(path) for path in images], "split": config.split,
                 "ungradable": list(config.ungradable),
                 "overlays": None if config.overlays is None else str(config.overlays)}  # fmt: skip
    tally = Tally()
    with Writer(config.out, made_with) as writer:
        for table in writer.earlier():
            tally.count(table)
        for table in _tables(config, model, runs, holding, prepared, writer.done):
            judged = set_ungradable(table, config.ungradable)
            writer.write(judged)
            tally.count(judged)
        if not tally.rows:
            raise ValueError(f"nothing to grade in {', '.join(map(str, images))}")
        if tally.answers.get("unreadable", 0) == tally.rows:
            writer.discard()
            raise ValueError(f"none of the {tally.rows} files could be read; the first: {tally.first_error}")
        writer.finish()
    _report(tally, model)
    say(f"predictions: {config.out}")
    return config.out


def further_runs(paths: tuple[Path, ...]) -> tuple[list[Path], tuple[Path, ...]]:
    """(models, other paths) among the paths given; ValueError where no picture is left."""
    runs = [path for path in paths if is_model(path)]
    images = tuple(path for path in paths if path not in runs)
    if not images:
        raise ValueError("predict needs at least one picture, folder or prepared set beside the runs")
    return runs, images


def _check_out(out: Path, images: tuple[Path, ...]) -> None:
    """ValueError where the table could not be written, or would take the place of what is to be graded."""
    if out.is_dir() or out.suffix.lower() not in (".csv", ".jsonl"):
        raise ValueError(f"--out {out}: give the path of a .csv or .jsonl file")
    if out.exists() and any(path.exists() and path.samefile(out) for path in images):
        raise ValueError(f"--out {out} is one of the inputs, and would be lost; choose another name")


def _check_ids(sets: list[tuple[PreparedSet, pd.DataFrame]]) -> None:
    """ValueError where two sets call an image alike: nobody could tell their rows apart."""
    set_of: dict[str, Path] = {}
    for prepared, records in sets:
        twice = next((name for name in records["id"] if name in set_of), None)
        if twice is not None:
            raise ValueError(
                f"{set_of[twice]} and {prepared.path} both have an image '{twice}', and their rows could not be told "
                "apart: grade them into two tables"
            )
        set_of |= dict.fromkeys(records["id"], prepared.path)


def _chosen(path: Path, split: str) -> tuple[PreparedSet, pd.DataFrame]:
    prepared = open_prepared(path)
    records = prepared.records if split == "all" else prepared.part(split)
    if not len(records):
        raise ValueError(f"{path} has no images in its part '{split}'")
    return prepared, records


def _tables(
    config: PredictConfig, model: Model, runs: list[Path], holding: list[Path],
    sets: list[tuple[PreparedSet, pd.DataFrame]], done: set[str],
) -> Iterator[pd.DataFrame]:  # fmt: skip
    """Tables of predictions, some rows at a time: the prepared sets first, then the photographs."""
    for prepared, records in sets:
        known = without_learned(prepared, records, runs)
        left = known[~known["id"].isin(done)]
        with progress_bar("predict", len(known), done=len(known) - len(left)) as bar:
            for table in model.tables_of_set(prepared, left):
                yield table.assign(answer="graded", reason="")
                bar.advance(len(table))
    if not holding:
        return
    listed = (photograph for photograph in list_photographs(holding) if photograph.id not in done)
    with progress_bar("predict", _count(holding), done=len(done)) as bar:
        if config.ray:
            from foveal.predict.workers import tables_on_ray

            for table in tables_on_ray(listed, runs, config.device, config.tta, config.ray):
                yield table
                bar.advance(len(table))
            return
        for batch in batches(model.read(listed)):
            answers = model.answer_batch(batch, GRADE if config.overlays is None else ("probabilities", "map"))
            if config.overlays is not None:
                write_overlays(model, batch, answers.maps, config.overlays)
            yield model.table_of_photographs(batch, answers)
            bar.advance(len(batch))


def _count(holding: list[Path]) -> int:
    """How many photographs there are: names are listed twice rather than kept."""
    return sum(1 for _ in list_photographs(holding))


def without_learned(prepared: PreparedSet, records: pd.DataFrame, runs: list[Path]) -> pd.DataFrame:
    """The records, with split 'train' for those that shaped the weights, so that an evaluation leaves them out."""
    learned_from = pd.concat([read_seen(str(run)) for run in runs])
    judged = records["split"].isin(("val", "test"))
    learned = judged & records["id"].isin(find_seen(prepared, records[judged], learned_from)["id"])
    if learned.any():
        warn(
            f"{int(learned.sum())} of the {int(judged.sum())} validation and test images of {prepared.path} shaped the "
            f"weights of {', '.join(map(str, runs))}: they are written with split 'train', so that an "
            "evaluation leaves them out"
        )
    return records.assign(split=records["split"].where(~learned, "train"))


def _report(tally: Tally, model: Model) -> None:
    if tally.shown:
        _show(pd.concat(tally.shown).head(SHOWN), tally.rows, model.classes)
    if tally.flagged:
        counts = ", ".join(f"{count} {flag}" for flag, count in tally.flags.items())
        warn(f"{tally.flagged} of {tally.rows} pictures are flagged ({counts}): look at them first")
    for answer in ("ungradable", "unreadable"):
        if tally.answers.get(answer):
            warn(
                f"{tally.answers[answer]} of {tally.rows} are {answer}: they have no grade, and column reason says why"
            )


def _show(table: pd.DataFrame, count: int, classes: list[str]) -> None:
    columns = probability_columns(table)
    rows = []
    for row in table.to_dict("records"):
        referable = {0: "no", 1: "yes"}.get(row["referable"], "") if pd.notna(row["referable"]) else ""
        graded = row["answer"] == "graded"
        grade = f"{row['grade']} {classes[row['grade']]}" if graded else str(row["answer"])
        known = row["answer"] != "unreadable"
        probabilities = "  ".join(f"{row[column]:.2f}" for column in columns) if known else ""
        rows.append([str(row["id"]), grade, referable, probabilities])
    show_table(f"{count} images", ["image", "grade", "refer", f"probability of 0 to {len(columns) - 1}"], rows)
    if count > len(table):
        say(f"… and {count - len(table)} more")
