"""evaluate: predictions.csv -> metrics.json, every value with an interval, n and what a constant answer would reach.

foveal evaluate RUN
foveal evaluate RUN --by flags --by sharpness --records DATA --prevalence 0.1
foveal evaluate predictions.csv --out metrics.json
foveal evaluate RUN OTHER… --baseline OTHER

metrics.json    metrics, confusion, constant_answer, curves, reliability, operating_points, sets, second, subgroups,
                harm, about
confusion.csv   true by given class
label_noise.csv the labels that the grader doubts (label_noise.py)
comparison.*    with more than one source: each against the baseline (versus.py)
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import tyro

from foveal.console import say, warn
from foveal.evaluate.corrected import with_corrections
from foveal.evaluate.coverage import measure_sets
from foveal.evaluate.intervals import Resampling
from foveal.evaluate.label_noise import doubts, unlearned, with_neighbours
from foveal.evaluate.measure import measure, measure_on
from foveal.evaluate.operating import operating_points
from foveal.evaluate.readers import agreement
from foveal.evaluate.second import measure_second
from foveal.evaluate.show import SMALL_CLASS, show, warnings
from foveal.evaluate.subgroups import join_records, subgroups
from foveal.evaluate.versus import against_baseline, write_comparison
from foveal.files import write_json, write_text
from foveal.readout.predictions import probability_columns, read_predictions, units
from foveal.readout.readout import read_readout
from foveal.readout.scales import SIGHT_THREATENING_FROM, Scale, class_that_starts_at
from foveal.sets.corrections import FILE as CORRECTIONS
from foveal.sets.corrections import read_corrections

__all__ = ["SMALL_CLASS", "EvaluateConfig", "choose_rows", "evaluate", "measure", "show"]
MANY_DOUBTS = 0.2  # share of doubted labels beyond which the grader is doubtful itself


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Options of `foveal evaluate`."""

    # A run folder, or a predictions.csv.
    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    # Run folders or tables to compare with it, or with --baseline.
    others: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="OTHERS…")] = ()
    # Which of the sources the others are compared with; by default the first.
    baseline: Path | None = None
    # File to write; by default metrics.json beside the predictions.
    out: Path | None = None
    # Part to evaluate; auto takes test where there is one, else all labelled rows.
    split: Literal["auto", "train", "val", "test", "all"] = "auto"
    # Lowest grade that is referred; by default 2 on the ICDR scale, none without a severity scale.
    referable_from: int | None = None
    # Lowest grade that threatens sight; by default 3 on the ICDR scale, none without a severity scale.
    sight_threatening_from: int | None = None
    # Share of referable eyes (0-1) that predictive values are for; by default, and else, that of the evaluated images.
    prevalence: float | None = None
    # Column to measure by (eye, flags, width, source, a measure, …); give it again for more.
    by: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    # Prepared set whose records.csv and measures.csv hold the columns of --by.
    records: Path | None = None
    # Table of corrected labels (id, old, new, who, when, why) to apply before measuring.
    corrections: Path | None = None
    # Quadratic kappa between two readers of such images, to hold the grader's against.
    inter_rater: float | None = None
    # Column with the grades of a second reader, of the table or of --records: kappa of both readers, with interval.
    second_reader: str | None = None
    # Bootstrap resamples for the intervals.
    resamples: int = 1000
    # Seed of the resamples.
    seed: int = 0

    def __post_init__(self) -> None:
        sources = [self.source, *self.others]
        if len({path.resolve() for path in sources}) < len(sources):
            raise ValueError("a source is given more than once; name every run or table once")
        if self.baseline is not None and self.baseline not in sources:
            raise ValueError(f"--baseline {self.baseline} is none of the sources {', '.join(map(str, sources))}")
        if self.inter_rater is not None and self.second_reader is not None:
            raise ValueError("--inter-rater gives the kappa that --second-reader would measure; choose one")
        if self.resamples < 100:
            raise ValueError(f"--resamples must be at least 100 for a 95 % interval, got {self.resamples}")
        if self.prevalence is not None and not 0 < self.prevalence < 1:
            raise ValueError(f"--prevalence must be a share between 0 and 1, got {self.prevalence}")
        if self.inter_rater is not None and not 0 < self.inter_rater <= 1:
            raise ValueError(f"--inter-rater must be a kappa above 0 and at most 1, got {self.inter_rater}")


def evaluate(config: EvaluateConfig) -> Path:
    """Measure predictions against labels and write metrics.json; returns its path."""
    file = _table_of(config.source)
    everything = read_predictions(file)
    model = _model_beside(file)
    names = model.get("classes") or [str(number) for number in range(len(probability_columns(everything)))]
    if len(names) != len(probability_columns(everything)):
        raise ValueError(f"{file} has {len(probability_columns(everything))} classes, the model beside it {len(names)}")
    out = config.out or file.with_name("metrics.json")
    corrected = {}
    if config.corrections is not None:
        if (out.parent / "records.csv").is_file():
            raise ValueError(
                f"{out} would stand in a prepared set, and the corrections of these images in place of its "
                "corrections.csv; choose another --out"
            )
        everything, corrected["corrections"] = with_corrections(everything, config.corrections, names)
    table, split = choose_rows(everything, config.split)
    _check_classes(table, split, names)
    second = () if config.second_reader is None else (config.second_reader,)
    table = join_records(table, config.records, (*config.by, *second))
    scale = scale_of(config, model, names, everything)
    resampling = Resampling(units(table), config.resamples, config.seed)
    readers = {} if not second else {"inter_rater": agreement(table, second[0], names, resampling)}
    comparison = _compared(config, table, scale)
    result = measure_on(table, scale, resampling)
    result |= _points(everything, table, split, scale, resampling, config)
    result["sets"] = measure_sets(table, names, resampling)
    result["second"] = measure_second(table, resampling)
    result["subgroups"] = subgroups(table, config.by, scale, resampling)
    result["about"] = {
        "predictions": file.name, "split": split, "images": len(table), "groups": resampling.groups,
        "classes": names, "referable_from": scale.referable_from,
        "sight_threatening_from": scale.sight_threatening_from, "prevalence": config.prevalence,
        "resamples": config.resamples, "seed": config.seed, "interval": "95 %, BCa bootstrap over groups",
        **_promised(file), **corrected, **({} if config.inter_rater is None else {"inter_rater": config.inter_rater}),
        **readers,
    }  # fmt: skip
    out.parent.mkdir(parents=True, exist_ok=True)
    judged = unlearned(everything)
    found = with_neighbours(doubts(judged), file.parent / "cluster" / "neighbours.csv", names)
    _write(out, result, found, names)
    if config.corrections is not None:  # beside the figures, so that a report can repeat them
        kept, beside = read_corrections(config.corrections), out.with_name(CORRECTIONS)
        kept = kept[kept["id"].isin(everything["id"])]
        if beside.resolve() != config.corrections.resolve():  # which holds those of other images as well
            write_text(beside, kept.to_csv(index=False, lineterminator="\n"))
        rows, changed = corrected["corrections"]["rows"], corrected["corrections"]["changed"]
        say(f"labels: {rows} correction(s) of graded images; {changed} image(s) have another label than in {file.name}")
    say(f"labels: {len(found)} of {len(judged)} are doubted by the grader, which has not learned from them; "
        f"see {out.with_name('label_noise.csv')}")  # fmt: skip
    if len(found) > MANY_DOUBTS * len(judged):
        warn("so many doubts say more of the grader than of the labels")
    say(f"metrics: {out}")
    if comparison:
        write_comparison(out.parent, comparison)
    for warning in warnings(result):
        warn(warning)
    config_file = file.with_name("config.toml")
    if config_file.is_file() and tomllib.loads(config_file.read_text(encoding="utf-8")).get("allow_leaks"):
        warn(f"{file.parent} was trained with --allow-leaks: what it is judged on may have been learned from")
    return out


def choose_rows(table: pd.DataFrame, split: str) -> tuple[pd.DataFrame, str]:
    """The labelled rows of a part, and the part's name; ValueError when there is none."""
    labelled = table[table["label"].notna()]
    if split == "auto":
        split = "test" if (labelled["split"] == "test").any() else "all"
    chosen = labelled if split == "all" else labelled[labelled["split"] == split]
    if len(chosen) < 2:
        there = ", ".join(f"{n} {name or 'without split'}" for name, n in labelled["split"].value_counts().items())
        raise ValueError(
            f"--split {split}: {len(chosen)} labelled rows; metrics need at least 2 (there are: {there or 'none'}); "
            "choose another --split, or add labels"
        )
    return chosen.reset_index(drop=True), split


def _table_of(source: Path) -> Path:
    return source / "predictions.csv" if source.is_dir() else source


def _check_classes(table: pd.DataFrame, split: str, names: list[str]) -> None:
    """ValueError where all labels are one class: agreement beyond chance and areas under curves need two."""
    present = table["label"].unique()
    if len(present) < 2:
        raise ValueError(
            f"--split {split}: all {len(table)} labels are '{names[int(present[0])]}'; kappa and areas under curves "
            "need images of two classes at least: add some, or choose another --split"
        )


def _compared(config: EvaluateConfig, table: pd.DataFrame, scale: Scale) -> list[dict[str, Any]]:
    """Every source against the baseline, on the same part and by the same corrections; [] for a single one."""
    tables = {str(config.source): table}
    for path in config.others:
        other = read_predictions(_table_of(path))
        if config.corrections is not None:
            other, _ = with_corrections(other, config.corrections, list(scale.names))
        tables[str(path)] = choose_rows(other, config.split)[0]
    return against_baseline(tables, str(config.baseline or config.source), config.resamples, config.seed, scale)


def scale_of(config: EvaluateConfig, model: dict[str, Any], names: list[str], table: pd.DataFrame) -> Scale:
    """What the classes mean: from the options, else from model.json, else from the table itself.

    Predictions without a model beside them were made on the ICDR scale when they say what is referable and have its
    five classes. Raises ValueError for a cut-off that does not part the classes.
    """
    ordered, referable = model.get("task", "grading") == "grading", table["referable"].notna().any()
    cuts = {"referable_from": config.referable_from, "sight_threatening_from": config.sight_threatening_from}
    for name, cut in cuts.items():
        if cut is not None and not (ordered and 0 < cut < len(names)):
            what = f"a grade 1..{len(names) - 1}" if ordered else "left out: these classes have no order"
            raise ValueError(f"--{name.replace('_', '-')} must be {what}, got {cut}")
    if cuts["referable_from"] is None and referable:
        cuts["referable_from"] = model.get("referable_from", 2)
    if cuts["sight_threatening_from"] is None:
        scale = model.get("scale", "icdr" if referable and len(names) == 5 else "none")
        cuts["sight_threatening_from"] = class_that_starts_at(scale, SIGHT_THREATENING_FROM)
    return Scale(names=names, ordered=ordered, **cuts)


def _points(
    everything: pd.DataFrame, table: pd.DataFrame, split: str, scale: Scale, resampling: Resampling,
    config: EvaluateConfig,
) -> dict[str, Any]:  # fmt: skip
    """Operating points, chosen on validation rows that are not among the evaluated ones."""
    apart = everything["label"].notna() & (everything["split"] == "val") & (split not in ("val", "all"))
    chosen_on = everything[apart].reset_index(drop=True)
    points, note = operating_points(table, chosen_on, scale, resampling, config.prevalence)
    return {"operating_points": points} | ({"operating_points_note": note} if note else {})


def _write(out: Path, result: dict[str, Any], noise: pd.DataFrame, names: list[str]) -> None:
    """All files of an evaluation, and the tables for the terminal."""
    write_json(out, result)
    confusion = pd.DataFrame(result["confusion"], index=pd.Index(names, name="true \\ given"), columns=names)
    write_text(out.with_name("confusion.csv"), confusion.to_csv(lineterminator="\n"))
    write_text(out.with_name("label_noise.csv"), noise.to_csv(index=False, lineterminator="\n"))
    show(result)


def _promised(file: Path) -> dict[str, float]:
    """The coverage that the sets were made for, as readout.json beside the predictions says; {} without sets."""
    coverage = read_readout(file.parent, "", ordered=True).coverage
    return {"coverage": coverage} if coverage else {}


def _model_beside(file: Path) -> dict[str, Any]:
    model = file.with_name("model.json")
    return dict(json.loads(model.read_text(encoding="utf-8"))) if model.is_file() else {}
