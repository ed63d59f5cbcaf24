"""Results by source: each source by itself, also those held out, comparisons in the run, and cohorts.

The figures of a run come from its metrics.json. Comparisons (`foveal compare --hold-out source --out RUN/compare`) come
from the folder of a run, or are given beside it. A cohort (`foveal evaluate RUN --on SOURCE`) has a page of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from foveal.errors import FovealError
from foveal.evaluate.columns import MEAN, OTHERS, all_but
from foveal.files import read_json
from foveal.page.parts import Cell, Shown, muted
from foveal.page.render import told
from foveal.page.words import capital, interval, number
from foveal.predict.cohort import ABOUT, FILE, folder_of
from foveal.readout.predictions import read_predictions
from foveal.report.evidence import Evidence, read_table
from foveal.report.findings import NAMES, PARTS, Finding
from foveal.report.operating import points_of
from foveal.report.quality import by_column
from foveal.sets.records import read_records

FOLDER, TABLE = "compare", "compare.csv"  # in the folder of a run, and in that one
MOST_MATRICES = 6  # of one comparison
WAYS = {"probe": "linear probe", "finetune": "fine-tuning"}
NUMBERS = ("value", "low", "high", "difference", "difference_low", "difference_high", "gap", "gap_low", "gap_high")


def is_comparison(folder: Path) -> bool:
    """Whether a folder was written by `foveal compare --hold-out`."""
    return (folder / TABLE).is_file() and "trained_on" in pd.read_csv(folder / TABLE, nrows=0)


def travel(findings: Sequence[Finding], graders: Sequence[Evidence], compared: Sequence[Path]) -> dict[str, Any] | None:
    """A table of the sources of each run, and comparisons: those given and those in the runs."""
    runs = []
    for finding in [one for one in findings if one.result.get("sources")]:
        rows = [one | {"value": one["source"] + " (held out)" * one["held_out"]} for one in finding.result["sources"]]
        runs.append({"name": finding.name, "finding": finding, "table": by_column(finding, rows)})
    folders = [*compared, *(folder for run in graders if is_comparison(folder := run.path / FOLDER))]
    tables = []
    for folder in dict.fromkeys(folder.resolve() for folder in folders):
        table = pd.read_csv(folder / TABLE, dtype={"tested_on": str, "labels": str, "init": str}, keep_default_na=False,
                            na_values={name: [""] for name in NUMBERS})  # fmt: skip
        tables.append({"name": "/".join(folder.parts[-2:]), "matrices": _matrices(table), **_means(table)})
    return {"runs": runs, "compared": tables} if runs or tables else None


def _matrices(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Trained on by tested on: the first metric, for each way, share and starting weights; the largest shares first."""
    metric, found = table["metric"].iloc[0], []
    first = table[(table["metric"] == metric) & (table["tested_on"] != MEAN)]
    first = first.sort_values("share", ascending=False, kind="stable").rename(columns={"images": "n"})
    for (how, labels, init), own in list(first.groupby(["how", "labels", "init"], sort=False))[:MOST_MATRICES]:
        rows, columns = own["trained_on"].unique(), own["tested_on"].unique()
        entries = own.set_index(["trained_on", "tested_on"]).to_dict("index")
        found.append({
            "title": capital(f"{WAYS[how]} from {Path(init).name}, {labels} of the labels: {metric.replace('_', ' ')}"),
            "columns": ["trained on", *columns],
            "rows": [[row, *(_square(entries[row, column], row == all_but(column)) for column in columns)]
                     for row in rows],
        })  # fmt: skip
    return found


def _square(entry: Mapping[Any, Any], abroad: bool) -> Cell:
    """An entry with its number of images, framed if the source was not among those trained on."""
    small = f"{interval(entry)}, n = {entry['n']:,}"
    return Cell(text=number(entry["value"]), small=small, tone="abroad" if abroad else "")


def _means(table: pd.DataFrame) -> dict[str, Any]:
    """A row for each way, share and starting weights: the means over sources, seen and unseen, and the differences."""
    first = table[(table["metric"] == table["metric"].iloc[0]) & (table["tested_on"] == MEAN)]
    several, rows = first["init"].nunique() > 1, []
    for _, own in first.groupby(["how", "labels", "init"], sort=False):
        for row in own.to_dict("records"):
            unseen = row["trained_on"] == OTHERS
            name = f"{row['how']}, {row['labels']}, {row['init']}: {'not trained on' if unseen else 'trained on'}"
            shown: list[Shown] = [name, {key: row[key] for key in ("value", "low", "high")}]
            shown.append(_difference(row, "gap", "gap_answer") if unseen else None)
            rows.append([*shown, *([_difference(row, "difference", "answer")] if several else [])])
    metric, baseline = str(table["metric"].iloc[0]).replace("_", " "), str(first["init"].iloc[0])
    columns = ["mean over sources", metric, "unseen minus seen", *[f"minus {baseline}"] * several]
    return {"rows": rows, "columns": columns}


def _difference(row: Mapping[Any, Any], name: str, sign: str) -> Shown:
    """A paired difference; see compare/tables.py."""
    if not row.get(sign):
        return muted("reference")
    return {"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"], "answer": row[sign]}


def read_cohort(own: Evidence, source: Path) -> Evidence:
    """The run's evidence with the images of a cohort; FovealError if it has not been evaluated on it."""
    folder = folder_of(own.path, source)
    if not (folder / "metrics.json").is_file():
        what, fix = f"{own.path} has not been evaluated on {source}", f"foveal evaluate {own.path} --on {source}"
        raise FovealError("run.not_evaluated", what, fix=fix)
    data, result = Path(read_json(folder / ABOUT)["set"]), read_json(folder / "metrics.json")
    card = read_json(data / "card.json") | result["about"].get("set", {})  # as it was evaluated
    doubts = read_table(folder / "label_noise.csv")
    return replace(own, path=folder, predictions=read_predictions(folder / FILE), result=result, doubts=doubts,
                   options=own.options | {"data": str(data)}, card=card | {"title": folder.name},
                   misgraded=None, explained={})  # fmt: skip


def _digests(run: Evidence) -> pd.Series:
    """The digests of the prepared images that were judged; empty if the prepared set is gone."""
    file = run.started_in / str(run.options.get("data")) / "records.csv"
    if not file.is_file():
        return pd.Series(dtype=str)
    records = read_records(file)
    return records["sha256"][records["id"].isin(run.judged["id"])]


def beside(cohort: Evidence, own: Evidence) -> dict[str, Any] | None:
    """The figures of the cohort and of the run's own part, in two columns; None if the run has none of its own."""
    if own.result is None or cohort.result is None:
        return None
    results = cohort.result, own.result
    points = [point for result in results for point in points_of(result, "referable")[:1]]  # the rule in use
    there, digests = PARTS[own.result["about"]["split"]], [_digests(cohort), _digests(own)]
    shared = int(digests[0].isin(digests[1]).sum()) if all(map(len, digests)) else None
    (table,) = told("cohort.txt", cohort=cohort, own=own, points=points, names=NAMES, part=there)
    return {"columns": table.columns, "rows": table.rows, "run": own.name, "there": there, "shared": shared}
