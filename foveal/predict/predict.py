"""predict: grade pictures with a trained run, or with several together.

foveal predict RUN photograph.jpg folder/ --out predictions.csv
foveal predict RUN DATA --split test --out predictions.csv
foveal predict RUN RUN2 RUN3 folder/ --tta flips
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import tyro

from foveal.console import say, show_table, warn
from foveal.data.leaks import find_seen, read_seen
from foveal.data.records import open_prepared
from foveal.data.source import list_pictures
from foveal.distributed import choose_device
from foveal.evaluate.predictions import probability_columns
from foveal.predict.predictor import Predictor
from foveal.runs import write_text

SHOWN = 12  # predictions printed; the file holds all


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Options of `foveal predict`."""

    # Run folder that `foveal train` wrote; a run of folds is an ensemble of its folds.
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    # Picture files, folders of pictures and prepared sets, in any mix; further run folders grade along (mean).
    images: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="IMAGES…")]
    # Table to write.
    out: Path = Path("predictions.csv")
    # Part of the prepared sets to grade.
    split: Literal["all", "train", "val", "test", "unlabelled"] = "all"
    # Test-time augmentation: mean over 4 flips, or over 8 flips and turns; auto is that of the run.
    tta: Literal["auto", "none", "flips", "turns"] = "auto"
    # auto, cpu, cuda or mps.
    device: str = "auto"

    def __post_init__(self) -> None:
        if not self.images:
            raise ValueError("predict needs at least one picture, folder or prepared set")


def predict(config: PredictConfig) -> Path:
    """Grade pictures and write predictions.csv; what cannot be read is listed beside it. Returns the table's path."""
    more, images = further_runs(config.images)
    runs = [config.run, *more]
    files, sets = sort_inputs(images)
    if config.out.is_dir():
        raise ValueError(f"--out {config.out} is a folder; give the path of a .csv file")
    predictor = Predictor(runs, choose_device(config.device), None if config.tta == "auto" else config.tta)
    if len(runs) > 1:
        say(f"{len(runs)} runs grade together: the mean of their probabilities, without sets of grades")
    learned_from = pd.concat([read_seen(str(run)) for run in runs])
    tables: list[pd.DataFrame] = []
    failed: list[tuple[Path, str]] = []
    for path in sets:
        prepared = open_prepared(path)
        records = prepared.records if config.split == "all" else prepared.part(config.split)
        if not len(records):
            raise ValueError(f"{path} has no images in its part '{config.split}'")
        judged = records["split"].isin(("val", "test"))
        found = find_seen(prepared, records[judged], learned_from)
        learned = judged & records["id"].isin(found["id"])
        if learned.any():
            warn(
                f"{int(learned.sum())} of the {int(judged.sum())} validation and test images of {path} shaped the "
                f"weights of {', '.join(map(str, runs))}: they are written with split 'train', so that an "
                "evaluation leaves them out"
            )
        records = records.assign(split=records["split"].where(~learned, "train"))
        tables.append(predictor.predict_prepared(prepared, records))
    if files:
        table, failed = predictor.predict_files(files)
        tables.append(table)
    table = pd.concat(tables, ignore_index=True)
    if not len(table):
        raise ValueError(f"none of the {len(files)} files could be read; the first: {failed[0][0]}: {failed[0][1]}")
    config.out.parent.mkdir(parents=True, exist_ok=True)
    write_text(config.out, table.to_csv(index=False, lineterminator="\n"))
    _show(table, predictor.classes)
    flagged = table["flags"].str.split().explode().dropna().value_counts()
    if len(flagged):
        counts = ", ".join(f"{count} {flag}" for flag, count in flagged.items())
        warn(f"{int((table['flags'] != '').sum())} of {len(table)} pictures are flagged ({counts}): look at them first")
    if failed:
        rejected = config.out.with_name(f"{config.out.stem}.rejected.csv")
        rows = pd.DataFrame([(file.as_posix(), reason) for file, reason in failed], columns=["file", "reason"])
        write_text(rejected, rows.to_csv(index=False, lineterminator="\n"))
        warn(f"{len(failed)} files could not be read; {rejected} says why")
    say(f"predictions: {config.out}")
    return config.out


def further_runs(paths: tuple[Path, ...]) -> tuple[list[Path], tuple[Path, ...]]:
    """(run folders, other paths) among the paths given; ValueError where no picture is left."""
    runs = [path for path in paths if (path / "model.json").is_file()]
    images = tuple(path for path in paths if path not in runs)
    if not images:
        raise ValueError("predict needs at least one picture, folder or prepared set beside the runs")
    return runs, images


def sort_inputs(images: tuple[Path, ...]) -> tuple[list[Path], list[Path]]:
    """(picture files, prepared sets) among the paths given; ValueError for a path that does not exist."""
    files: list[Path] = []
    sets: list[Path] = []
    for path in images:
        if not path.exists():
            raise ValueError(f"{path}: there is no such file or folder")
        if (path / "records.csv").is_file():
            sets.append(path)
        elif path.is_dir():
            files.extend(list_pictures(path))
        else:
            files.append(path)
    return list(dict.fromkeys(files)), sets


def _show(table: pd.DataFrame, classes: list[str]) -> None:
    columns = probability_columns(table)
    rows = []
    for row in table.head(SHOWN).to_dict("records"):
        referable = {0: "no", 1: "yes"}.get(row["referable"], "") if pd.notna(row["referable"]) else ""
        probabilities = "  ".join(f"{row[column]:.2f}" for column in columns)
        rows.append([str(row["id"]), f"{row['grade']} {classes[row['grade']]}", referable, probabilities])
    show_table(
        f"{len(table)} images graded", ["image", "grade", "refer", f"probability of 0 to {len(columns) - 1}"], rows
    )
    if len(table) > SHOWN:
        say(f"… and {len(table) - SHOWN} more")
