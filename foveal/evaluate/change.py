"""Old against new: one grader minus another on the same photographs, what changed for whom, and a record of both.

    foveal evaluate NEW --versus OLD

comparison.json   a list with an entry per OLD: run, versus, n, differences (name -> value, low, high, answer; paired),
                  mcnemar, verdict (better, worse or cannot tell, in quadratic kappa or, without order, accuracy),
                  changed (counts), sentence, and record: folder, command, code, data, weights and figures of both, as
                  a predetermined change control plan asks for (FDA, 2024)
comparison.csv    the differences, with a row per pair and metric
changes.csv       a row per photograph whose grade or referral changed
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foveal import metrics
from foveal.console import say
from foveal.evaluate.difference import describe, paired_difference
from foveal.evaluate.intervals import Resampling
from foveal.evaluate.operating import calls_of, severity
from foveal.files import json_ready, read_json, sha256_of, write_json, write_table
from foveal.page.words import counted
from foveal.readout.scales import Scale
from foveal.runs import read_model
from foveal.sets.splits import group_codes

FILE = "comparison.json"
WEIGHTS = "best.pt"
SHOWN = ("id", "group", "label", "old_grade", "new_grade", "old_referable", "new_referable")


def compare_with(
    new: pd.DataFrame, old: pd.DataFrame, runs: tuple[Path, Path], scale: Scale
) -> tuple[dict[str, Any], pd.DataFrame]:
    """An entry of comparison.json, and its rows of changes.csv. new, old: labelled rows; runs: the folders of both."""
    cut = scale.cuts.get("referable")
    pair = paired_difference(old, new, cut)
    figure = "quadratic_kappa" if scale.ordered else "accuracy"
    both = sorted(set(new["id"]) & set(old["id"]))
    new, old = (table.set_index("id").loc[both] for table in (new, old))
    changes = _changes(new, old, cut)
    entry = {
        "run": str(runs[0]), "versus": str(runs[1]), "sentence": f"{runs[0]} compared with {runs[1]}: {describe(pair)}",
        "n": pair.pop("n"), "mcnemar": pair.pop("mcnemar"), "differences": pair, "verdict": pair[figure]["answer"],
        "changed": _counts(changes, new, cut),
        "record": {"new": record_of(runs[0]) | {"figures": _figures(new, scale)},
                   "old": record_of(runs[1]) | {"figures": _figures(old, scale)}},
    }  # fmt: skip
    return entry, changes.assign(versus=str(runs[1]))


def _changes(new: pd.DataFrame, old: pd.DataFrame, cut: int | None) -> pd.DataFrame:
    """The photographs, in one order in both tables, whose grade or referral differs."""
    table = pd.DataFrame({
        "id": new.index, "group": new["group"].fillna("").to_numpy(), "label": new["label"].to_numpy(),
        "old_grade": old["grade"].to_numpy(), "new_grade": new["grade"].to_numpy(),
        "old_referable": pd.NA if cut is None else calls_of(old, cut) * 1,
        "new_referable": pd.NA if cut is None else calls_of(new, cut) * 1,
    })  # fmt: skip
    differs = table["old_grade"] != table["new_grade"]
    if cut is not None:
        differs |= table["old_referable"] != table["new_referable"]
    return table[differs.to_numpy(bool)].reset_index(drop=True)


def _counts(changes: pd.DataFrame, new: pd.DataFrame, cut: int | None) -> dict[str, Any]:
    """How many photographs got another grade, and how many people are newly referred or no longer referred.

    A person is a group; a photograph without one counts by itself.
    """
    found: dict[str, Any] = {"grades": int((changes["old_grade"] != changes["new_grade"]).sum())}
    if cut is None:
        return found
    ill = pd.Series(severity(new, cut)[1], index=new.index)
    person = changes["group"].where(changes["group"] != "", changes["id"])
    for name, now in (("newly_referred", 1), ("no_longer_referred", 0)):
        chosen = (changes["new_referable"] == now) & (changes["old_referable"] != now)
        people = pd.DataFrame({"person": person[chosen], "ill": ill.loc[changes["id"][chosen]].to_numpy()})
        each = people.groupby("person")["ill"].any()
        found[name] = {"patients": len(each), "with_disease": int(each.sum()), "photographs": int(chosen.sum())}
    return found


def _figures(table: pd.DataFrame, scale: Scale) -> dict[str, Any]:
    """Value and interval of kappa (of ordered classes) and accuracy on the photographs that both graders judged."""
    labels, grades = table["label"].to_numpy(np.int64), table["grade"].to_numpy(np.int64)
    resampling = Resampling(group_codes(table["group"]))
    chosen = [metrics.quadratic_kappa] * scale.ordered + [metrics.accuracy]
    return {metric.__name__: resampling.of_grades(metric, labels, grades, len(scale.names)) for metric in chosen}


def record_of(run: Path) -> dict[str, Any]:
    """Folder, command, time, code, data, starting weights and digest of a run, as far as the folder says."""
    said = read_json(run / "provenance.json") if (run / "provenance.json").is_file() else {}
    members = read_model(run).get("members", ["."]) if (run / "model.json").is_file() else ["."]
    weights = [file for name in members if (file := run / name / WEIGHTS).is_file()]
    return {
        "folder": str(run), "parent": said.get("parent"), "command": said.get("command"),
        "started": said.get("started"), "code": {"commit": said.get("commit"), **said.get("versions", {})},
        "data": said.get("data", {}), "starting_weights": said.get("weights", {}),
        "sha256": {str(file.relative_to(run)): sha256_of(file) for file in weights},
    }  # fmt: skip


def write_comparison(folder: Path, entries: Sequence[Mapping[str, Any]], changes: Sequence[pd.DataFrame]) -> None:
    """Write comparison.json, comparison.csv and changes.csv into `folder`, and print a verdict per pair."""
    rows = []
    for one in entries:
        test = one["mcnemar"]
        rows += [
            {"run": one["run"], "versus": one["versus"], "figure": figure, "difference": entry["value"],
             "low": entry["low"], "high": entry["high"], "answer": entry["answer"], "n": one["n"],
             "only_run_right": test["only_second"], "only_versus_right": test["only_first"],
             "mcnemar_exact": test["exact"], "mcnemar_mid_p": test["mid_p"]}
            for figure, entry in one["differences"].items()
        ]  # fmt: skip
        right = f"{one['run']} is right on {counted(test['only_second'], 'image')}, only {one['versus']} on"
        say(f"{one['verdict']}: {one['sentence']}")
        say(f"only {right} {test['only_first']} (McNemar mid-p {test['mid_p']:.3g})")
        said = [f"changed: the grade of {counted(one['changed']['grades'], 'photograph')}"]
        for name, people in list(one["changed"].items())[1:]:
            ill = f"{people['with_disease']} of them with referable disease"
            said.append(f"{name.replace('_', ' ')}: {counted(people['patients'], 'patient')}, {ill}")
        say("; ".join(said))
    write_json(folder / FILE, json_ready(list(entries)))
    write_table((folder / FILE).with_suffix(".csv"), pd.DataFrame(rows))
    write_table(folder / "changes.csv", pd.concat(changes)[["versus", *SHOWN]])
    say(f"comparison: {folder / FILE}; every change: {folder / 'changes.csv'}")
