"""evaluate: predictions.csv -> metrics.json; every value with an interval, n, and the value of a constant answer."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import tyro

from foveal.config import check, check_paths, read_toml
from foveal.console import hushed, say, warn
from foveal.errors import FovealError
from foveal.evaluate import columns, judged, stress
from foveal.evaluate.difference import compare_with, with_ids_of, write_comparison
from foveal.evaluate.intervals import RESAMPLES, Resampling
from foveal.evaluate.measure import measure, measure_rules
from foveal.evaluate.operating import measure_patients, operating_points
from foveal.evaluate.show import show, warnings
from foveal.files import check_file, read_json, write_json, write_table, write_text
from foveal.page.words import counted
from foveal.readout.predictions import probability_columns, read_predictions, read_ungraded
from foveal.readout.readout import read_readout
from foveal.readout.referral import predicted_oedema
from foveal.sets import corrections
from foveal.sets.records import open_prepared
from foveal.sets.splits import group_codes

MANY_DOUBTS = 0.2  # share of doubted labels above which the grader is probably the problem
SEED = 0  # of the resamples; with 1000 resamples the intervals hardly depend on it


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Options of `foveal evaluate`."""

    ## What to measure
    # What to evaluate: a run folder, or a predictions.csv.
    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    # Labelled photographs on which to test the run in SOURCE: a folder, a table or a prepared set.
    on: Path | None = None
    # Older run folders or tables to compare with, on the same photographs.
    versus: tuple[Path, ...] = ()
    # File to write; by default metrics.json in the folder of the predictions.
    out: Path | None = None
    # Part to evaluate; auto is the test part if there is one, else all labelled rows.
    split: Literal["auto", "train", "val", "test", "held-out", "all"] = "auto"
    # Sources (names of joined sets) to evaluate separately; those that `train` held out are always separate.
    hold_out: tuple[str, ...] = ()

    ## How to measure
    # Lowest grade that is referred; by default 2 on the ICDR scale, and no referral on other scales.
    referable_from: int | None = None
    # Prevalence of referable disease (0-1) for predictive values; by default that of the evaluated images.
    prevalence: float | None = None
    # Column that defines subgroups to evaluate (eye, flags, width, camera, a measure, …); repeat for more columns. By
    # default eye and camera, where they are known and differ.
    by: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    # Prepared set with the columns of --by (in its records.csv, measures.csv or columns.csv) and the photographs of
    # --stress, if they are no longer where the run found them.
    records: Path | None = None
    # Table of corrected labels (id, old, new, who, when, why) to apply before evaluating.
    corrections: Path | None = None
    # Column with the grades of a second reader, in the table or in --records; shows the kappa between both readers.
    second_reader: str | None = None
    # Also grade up to 200 photographs at lower resolution, blurred, compressed, in other light and other colours.
    stress: bool = False

    def __post_init__(self) -> None:
        check_paths([self.source, *self.versus], "evaluate RUN", "a run folder")
        check(self, "prevalence", self.prevalence is None or 0 < self.prevalence < 1, "between 0 and 1")


def measure_predictions(
    config: EvaluateConfig, runs: Sequence[Path] = (), alter: Callable[[pd.DataFrame], None] | None = None
) -> Path:
    """Measure predictions against labels and write metrics.json; returns its path.

    runs: the folders of the grader and of those in --versus; by default those of their predictions. alter: writes
    stress.csv for the evaluated rows (predict/stress.py), once nothing else can be refused.
    """
    file = judged.table_of(config.source)
    runs = runs or [judged.table_of(path).parent for path in (config.source, *config.versus)]
    run = runs[0]
    out = config.out or file.with_name("metrics.json")
    check_file(out)
    if config.corrections is not None and (out.parent / "records.csv").is_file():  # a set has its own under that name
        raise FovealError("output.in_set", f"{out} is in a prepared set", fix="choose another --out")
    everything, model, names, corrected = _rows(config, file, run)
    table, split = judged.choose_rows(everything, config.split)
    by = config.by or columns.usual(table)
    table = columns.join_records(table, config.records, by)
    scale = judged.scale_of(config.referable_from, model, names, everything)
    resampling = Resampling(group_codes(table["group"]), RESAMPLES, SEED)
    readout = read_readout(run, "", ordered=True)
    referral = readout.referral
    if scale.referable_from != model.get("referable_from", 2):  # these calls are for another cutoff
        table, referral = table.drop(columns="referable"), None
    about = {"predictions": file.name, "split": split, "images": len(table), "groups": resampling.groups,
             "classes": names, "referable_from": scale.referable_from,
             "sight_threatening_from": scale.sight_threatening_from, "prevalence": config.prevalence,
             "resamples": RESAMPLES, "seed": SEED, "interval": "95 %, BCa bootstrap over groups",
             **({"coverage": readout.coverage} if readout.coverage else {}), **corrected,
             **({} if referral is None else {"referral": asdict(referral)}),
             **({"oedema": True} if predicted_oedema(table) is not None else {}),
             **({"held_out": list(config.hold_out)} if config.hold_out else {})}  # fmt: skip
    place = run
    if config.records is not None and run != file.parent:  # a cohort, whose set may be corrected later
        place = config.records
        with hushed():
            card = open_prepared(place).card
        about["set"] = {name: card[name] for name in ("content_hash", "counts", "corrections") if name in card}
    if count := judged.reviewed(table, place, config.corrections):
        about["reviewed"] = count
    if (column := config.second_reader) is not None:
        table = columns.join_records(table, config.records, (column,), "--second-reader")
        about["inter_rater"] = columns.agreement(table, column, names, resampling)
    compared = []
    for path, other in zip(config.versus, runs[1:], strict=True):
        old = judged.choose_rows(_rows(config, judged.table_of(path), other)[0], config.split)[0]
        old = old if "referable" in table else old.drop(columns="referable")
        old = with_ids_of(table, old, (run, other))
        compared.append(compare_with(table, old, (run, other), scale))
    sources = columns.by_source(everything, table, scale, resampling, SEED)
    # A cohort has no validation part; its thresholds are those that the run's own validation images give.
    before = everything if run == file.parent else read_predictions(run / "predictions.csv")
    apart = before["label"].notna() & (before["split"] == "val") & (split not in ("val", "all"))
    chosen_on = before[apart].reset_index(drop=True)
    frozen = None if referral is None else referral.threshold
    points, note = operating_points(table, chosen_on, scale, resampling, config.prevalence, frozen)
    ungraded, bare = (read_ungraded(file, known=known) for known in (True, False))
    further_rows = [everything[everything["label"].isna()], bare, judged.unseen(config.records)]
    others = pd.concat([part for part in further_rows if len(part)] or further_rows[:1], ignore_index=True)
    if alter is not None:
        alter(table)
    size = model.get("preparation", {}).get("size")
    further = {
        **{f"{each}s": measure_patients(table, ungraded, scale, config.prevalence, each, others)
           for each in ("patient", "eye")}, "sources": sources,
        "stress": stress.measure_stress(file.with_name(stress.FILE), table, scale, {"seed": SEED, "size": size}),
    }  # fmt: skip
    result = measure(table, scale, resampling) | {
        "operating_points": points, **({"operating_points_note": note} if note else {}),
        "decisions": measure_rules(table, chosen_on, resampling) if scale.ordered else {},
        "sets": columns.measure_sets(table, names, resampling), "second": columns.measure_second(table, resampling),
        "subgroups": columns.subgroups(table, by, scale, resampling),
        **{name: part for name, part in further.items() if part}, "about": about,
    }  # fmt: skip
    _write(config, out, result, everything)
    say(f"metrics: {out}")
    if compared:
        write_comparison(out.parent, *zip(*compared, strict=True))
    for warning in warnings(result):
        warn(warning)
    with suppress(FovealError, OSError):  # no run, or that of another verb
        if read_toml(run / "config.toml", "train").get("allow_leaks"):
            warn(f"{run} was trained with --allow-leaks: evaluation images may be among its training images")
    return out


def _rows(config: EvaluateConfig, file: Path, run: Path) -> tuple[pd.DataFrame, dict, list[str], dict]:
    """The predictions with corrected labels and sources held out; model.json and class names; counts of corrections."""
    table, counts = read_predictions(file), {}
    kept, count = run / "model.json", len(probability_columns(table))
    model = read_json(kept) if kept.is_file() else {}
    names = list(model.get("classes") or map(str, range(count)))
    if len(names) != count:
        raise FovealError("predictions.classes", f"{file} has {count} classes, but {kept} has {len(names)}")
    if config.corrections is not None:
        table, counts["corrections"] = judged.with_corrections(table, config.corrections, names)
    return columns.held_out(columns.with_source(table, config.records), config.hold_out), model, names, counts


def _write(config: EvaluateConfig, out: Path, result: dict[str, Any], everything: pd.DataFrame) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, result)
    show(result)
    if config.corrections is not None:  # a report can apply those of these images as well
        kept, beside = corrections.read_corrections(config.corrections), out.with_name(corrections.FILE)
        kept = kept[kept["id"].isin(everything["id"])]
        if beside.resolve() != config.corrections.resolve():  # that file may contain other images
            write_text(beside, corrections.corrections_text(kept))
        applied, changed = counted(len(kept), "correction"), counted(result["about"]["corrections"]["changed"], "label")
        say(f"labels: {applied} for graded images; {changed} changed")
    rows, listed = judged.unlearned(everything), out.with_name("label_noise.csv")
    doubted = judged.doubts(rows)
    write_table(listed, doubted)
    counts = f"{len(doubted)} of {counted(len(rows), 'label')}"
    say(f"labels: the grader doubts {counts} it was not trained on; see {listed}")
    if len(doubted) > MANY_DOUBTS * len(rows):
        warn("with so many doubted labels, the grader is more likely wrong than the labels")
