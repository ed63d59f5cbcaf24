"""Compare a new grader with an old one on the same photographs: differences, what changed for whom, a record of both.

The record is what a predetermined change control plan asks for (FDA, 2024).
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binom

from foveal import metrics
from foveal.console import warn
from foveal.errors import FovealError
from foveal.evaluate.columns import measure_subgroup
from foveal.evaluate.curves import roc_area
from foveal.evaluate.intervals import EQUAL, RESAMPLES, Figure, Resampling
from foveal.evaluate.operating import calls_of, severity
from foveal.files import json_ready, read_json, sha256_of, write_json, write_table
from foveal.page.render import print_template
from foveal.page.words import counted, difference_with_interval
from foveal.readout.predictions import probability_columns
from foveal.readout.scales import Scale
from foveal.runs import data_of, read_model
from foveal.sets.records import read_records
from foveal.sets.splits import group_codes

FILE = "comparison.json"
WEIGHTS = "best.pt"
COMPARED = ("quadratic_kappa", "accuracy", "sensitivity", "specificity", "referable_auc")
ALIKE = 6  # groups: that so many change in one direction by chance has a probability below 5 % (sign test)
SHOWN = ("id", "group", "label", "old_grade", "new_grade", "old_referable", "new_referable")


def paired_difference(
    first: pd.DataFrame, second: pd.DataFrame, referable_from: int | None = None, resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Quadratic kappa (if labels differ) and accuracy of `second` minus those of `first`; with a lowest referable
    class, also sensitivity and specificity of referral, each grader by its own rule, and referable AUC.

    Uses the labelled images that both tables contain. Returns n, name -> value, low, high, answer, and `mcnemar`.
    FovealError for different classes, different labels or fewer than 2 common images.
    """
    pairs, classes = _pairs(first, second), len(probability_columns(first))
    labels, resampling = pairs["label"].to_numpy(np.int64), Resampling(group_codes(pairs["group"]), resamples, seed)
    given = [pairs[column].to_numpy(np.int64) for column in ("grade", "grade_second")]
    result: dict[str, Any] = {"n": len(pairs)}
    for metric in (metrics.quadratic_kappa, metrics.accuracy)[len(np.unique(labels)) < 2 :]:
        before, after = (resampling.graded(metric, labels, grades, classes) for grades in given)
        result[metric.__name__] = difference(before, after, resampling)
    if referable_from is not None and 0 < referable_from < classes:
        rows = [table.set_index("id").loc[pairs["id"]] for table in (first, second)]
        (one, first_truth), (other, second_truth) = (severity(table, referable_from) for table in rows)
        truth = first_truth | second_truth  # a grader that did not learn macular oedema does not list its labels
        calls = [calls_of(table, referable_from) for table in rows]
        for name, sign, among in (("sensitivity", True, truth), ("specificity", False, ~truth)):
            if among.any():
                before, after = (resampling.ratio((called == sign) & among, among) for called in calls)
                result[name] = difference(before, after, resampling)
        before, after = (roc_area(scores, truth, resampling) for scores in (one, other))
        result["referable_auc"] = difference(before, after, resampling)
    return result | {"mcnemar": mcnemar(*(grades == labels for grades in given))}


def difference(first: Figure, second: Figure, resampling: Resampling) -> dict[str, Any]:
    """value, low, high and answer of the second metric minus the first; low and high are nan without an interval.

    Then the answer is cannot tell, unless `ALIKE` groups or more make the same difference in every resample.
    """
    value, drawn = second[0] - first[0], second[1] - first[1]
    low, high = resampling.interval(value, drawn)
    alike = resampling.groups >= ALIKE and np.ptp(drawn) <= EQUAL  # False if a resample has no value
    ends = (value - EQUAL, value + EQUAL) if alike else (low, high)
    return {"value": value, "low": low, "high": high, "answer": answer(*ends)}


def answer(low: float, high: float) -> str:
    """better, worse, or cannot tell: whether the interval of a difference excludes zero."""
    return "better" if low > 0 else "worse" if high < 0 else "cannot tell"


def mcnemar(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """McNemar's test of who is right, bool [n] each: mid-p, two-sided (Fagerland et al. 2013).

    It assumes independent images; if patients have several images, rely on the intervals.
    """
    only = int((first & ~second).sum()), int((second & ~first).sum())
    n, fewer = sum(only), min(only)
    mid = 1.0 if only[0] == only[1] else 2 * float(binom.cdf(fewer, n, 0.5)) - float(binom.pmf(fewer, n, 0.5))
    return {"only_first": only[0], "only_second": only[1], "mid_p": mid}


def check_classes(graders: tuple[object, object], classes: tuple[Sequence[str], Sequence[str]]) -> None:
    """FovealError, with the names of both, unless two graders have the same number of classes."""
    (one, other), (first, second) = graders, map(len, classes)
    if first != second:
        what, fix = f"{one} has {first} classes, {other} has {second}", "compare graders of the same classes"
        raise FovealError("predictions.classes", what, fix=f"{fix}, or evaluate each by itself")


def with_ids_of(new: pd.DataFrame, old: pd.DataFrame, runs: tuple[Path, Path]) -> pd.DataFrame:
    """`old` with the ids and labels of `new` for photographs that the sets of both runs name differently.

    They are found by the digest of the source file in records.csv, or else by the last part of the id. Unchanged if the
    tables share ids; FovealError if they share no photographs.
    """
    if set(new["id"]) & set(old["id"]):
        return old
    digests = [_digests(run, table["id"]) for run, table in zip(runs, (new, old), strict=True)]
    for ours, theirs in (digests, [table["id"].str.rpartition("/")[2] for table in (new, old)]):
        rows = new.assign(key=ours.to_numpy()).drop_duplicates("key").set_index("key").drop("", errors="ignore")
        both = old.assign(key=theirs.to_numpy()).drop_duplicates("key")
        both = both[both["key"].isin(rows.index)].reset_index(drop=True)
        if len(both) >= 2:
            known = rows.loc[both["key"]].reset_index(drop=True)
            if other := int((known["label"] != both["label"]).sum()):
                warn(f"{runs[1]} has other labels for {counted(other, 'photograph')}: those of {runs[0]} are used")
            return both.assign(id=known["id"], label=known["label"]).drop(columns="key")
    what = f"{runs[0]} and {runs[1]} share no photographs"
    fix = f"grade the same ones: foveal evaluate {runs[0]} --on DATA --versus {runs[1]}"
    raise FovealError("predictions.no_overlap", what, expected="at least 2", fix=fix)


def _digests(run: Path, ids: pd.Series) -> pd.Series:
    """The digest of the source file of each image; "" where the set of the run does not tell."""
    records = data_of(run) / "records.csv" if (run / "config.toml").is_file() else Path()
    known = read_records(records).set_index("id")["file_sha256"] if records.is_file() else pd.Series(dtype=str)
    return ids.map(known).astype(object).fillna("")


def _pairs(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """The labelled images that both tables contain; columns of the second end in `_second`."""
    check_classes(("the first table", "the second"), (probability_columns(first), probability_columns(second)))
    pairs = first.merge(second, on="id", suffixes=("", "_second"))
    pairs = pairs[pairs["label"].notna() & pairs["label_second"].notna()].reset_index(drop=True)
    if len(pairs) < 2:
        raise FovealError("predictions.no_overlap", f"the tables share {len(pairs)} labels", expected="at least 2")
    if other := int((pairs["label"] != pairs["label_second"]).sum()):
        what = f"the tables have different labels for {other} of {counted(len(pairs), 'image')}"
        raise FovealError("predictions.other_labels", what, fix="evaluate all runs with the same --corrections")
    return pairs


def describe(difference: Mapping[str, Any]) -> str:
    """One sentence about the difference between two graders, kappa first."""
    parts = [f"{name.replace('_', ' ')} {difference_with_interval(difference[name])}: {difference[name]['answer']}"
             for name in COMPARED if name in difference]  # fmt: skip
    return f"{'; '.join(parts)} (paired, 95 % intervals, {counted(difference['n'], 'image')})."


def compare_with(
    new: pd.DataFrame, old: pd.DataFrame, runs: tuple[Path, Path], scale: Scale
) -> tuple[dict[str, Any], pd.DataFrame]:
    """An entry of comparison.json, and its rows of changes.csv. new, old: labelled rows; runs: the folders of both."""
    check_classes(runs, (probability_columns(new), probability_columns(old)))
    cut = scale.cuts.get("referable")
    pair = paired_difference(old, new, cut)
    figure = "quadratic_kappa" if scale.ordered and "quadratic_kappa" in pair else "accuracy"
    if pair.get("sensitivity", {}).get("answer") == "worse":
        figure = "sensitivity"
    both = sorted(set(new["id"]) & set(old["id"]))
    new, old = (table.set_index("id").loc[both] for table in (new, old))
    changes, records = _changes(new, old, cut), {}
    for name, run, table in (("new", runs[0], new), ("old", runs[1], old)):  # figures of the shared photographs
        figures = measure_subgroup(table, scale, Resampling(group_codes(table["group"])))["metrics"]
        records[name] = record_of(run) | {"figures": figures}
    sentence = f"{runs[0]} compared with {runs[1]}: {describe(pair)}"
    entry = {"run": str(runs[0]), "versus": str(runs[1]), "sentence": sentence, "n": pair.pop("n"),
             "mcnemar": pair.pop("mcnemar"), "differences": pair,
             "verdict": pair[figure]["answer"], "figure": figure,  # which decides
             "changed": _counts(new, old, cut), "record": records}  # fmt: skip
    return entry, changes.assign(versus=str(runs[1]))


def _changes(new: pd.DataFrame, old: pd.DataFrame, cut: int | None) -> pd.DataFrame:
    """The photographs, in one order in both tables, whose grade or referral differs."""
    table = pd.DataFrame({"id": new.index, "group": new["group"].fillna("").to_numpy(),
                          "label": new["label"].to_numpy(),
                          "old_grade": old["grade"].to_numpy(), "new_grade": new["grade"].to_numpy(),
                          "old_referable": pd.NA if cut is None else calls_of(old, cut) * 1,
                          "new_referable": pd.NA if cut is None else calls_of(new, cut) * 1})  # fmt: skip
    differs = table["old_grade"] != table["new_grade"]
    if cut is not None:
        differs |= table["old_referable"] != table["new_referable"]
    return table[differs.to_numpy(bool)].reset_index(drop=True)


def _counts(new: pd.DataFrame, old: pd.DataFrame, cut: int | None) -> dict[str, Any]:
    """How many photographs got another grade, and how many people (groups, by any photograph) another referral."""
    found: dict[str, Any] = {"grades": int((new["grade"] != old["grade"]).sum())}
    if cut is None:
        return found
    groups = new["group"].fillna("").to_numpy()
    found["of"] = "patient" if (groups != "").all() else "photograph" if (groups == "").all() else "case"
    photographs = {"now": calls_of(new, cut), "before": calls_of(old, cut), "ill": severity(new, cut)[1]}
    people = pd.DataFrame(photographs).groupby(np.where(groups != "", groups, new.index)).any()
    changed = {"newly_referred": people["now"] & ~people["before"],
               "no_longer_referred": people["before"] & ~people["now"]}  # fmt: skip
    for name, chosen in changed.items():
        found[name] = {"patients": int(chosen.sum()), "with_disease": int(people["ill"][chosen].sum())}
    return found


def record_of(run: Path) -> dict[str, Any]:
    """Folder, command, time, code, data, starting weights and digest of a run, as far as they are known."""
    said = read_json(run / "provenance.json") if (run / "provenance.json").is_file() else {}
    members = read_model(run).get("members", ["."]) if (run / "model.json").is_file() else ["."]
    weights = [file for name in members if (file := run / name / WEIGHTS).is_file()]
    return {"folder": str(run), "parent": said.get("parent"), "command": said.get("command"),
            "started": said.get("started"), "code": {"commit": said.get("commit"), **said.get("versions", {})},
            "data": said.get("data", {}), "starting_weights": said.get("weights", {}),
            "sha256": {str(file.relative_to(run)): sha256_of(file) for file in weights}}  # fmt: skip


def write_comparison(folder: Path, entries: Sequence[Mapping[str, Any]], changes: Sequence[pd.DataFrame]) -> None:
    """Write comparison.json and changes.csv into `folder`, and print a verdict per pair."""
    write_json(folder / FILE, json_ready(list(entries)))
    write_table(folder / "changes.csv", pd.concat(changes)[["versus", *SHOWN]])
    print_template("changes.txt", entries=entries, file=folder / FILE, changes=folder / "changes.csv")
