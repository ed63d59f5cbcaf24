"""How the run was made: its data, and leaks from training into evaluation; what is missing or cannot be shown."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from foveal.evaluate.show import FEW_GROUPS, SMALL_CLASS
from foveal.page.parts import SPLITS, Cell, Shown
from foveal.page.render import told
from foveal.report.evidence import Evidence, is_run, read_table
from foveal.report.findings import Finding
from foveal.runs import WEIGHT_FILES
from foveal.sets import corrections

CORRECTIONS_SHOWN = 20
# Corrections to no class, whatever the classes are called.
NO_GRADE = {"none": "no label", corrections.UNGRADABLE: corrections.UNGRADABLE}


def data(runs: Sequence[Evidence], before: Mapping[Path, Sequence[Evidence]]) -> dict[str, Any]:
    """Each prepared set, the training images of each encoder, and leaks; before: run -> its starting runs."""
    graders = [run for run in runs if run.verb == "train"]
    by_hash = {run.card["content_hash"]: run for run in graders if run.card}  # runs of one set share its card
    pools = []
    for run in (run for run in runs if run.verb == "pretrain"):  # images in each set, and its content hash if known
        hashes = run.provenance.get("data", {})
        counts = {} if run.seen is None else run.seen["set"].value_counts(sort=False).to_dict()
        rows = [[str(name), count, str(hashes.get(name, "–"))[:16]] for name, count in counts.items()]
        pools.append({"name": run.name, "rows": rows})
    return {"sets": [_set(run) for run in by_hash.values()], "pools": pools,
            "leaks": [leaks(run, before[run.path]) for run in graders if run.result]}  # fmt: skip


def _set(run: Evidence) -> dict[str, Any]:
    counts = {words: run.card["counts"][split] for split, words in SPLITS.items() if split in run.card["counts"]}
    rows: list[list[Shown]] = [[name, *(part["per_class"].get(name) for part in counts.values())]
                               for name in run.card["classes"]]  # fmt: skip
    rows.append(["all images", *(part["images"] for part in counts.values())])
    if any(part["groups"] for part in counts.values()):
        rows.append(["groups", *(part["groups"] or None for part in counts.values())])
    return {"card": run.card, "columns": ["class", *counts], "rows": rows, "corrections": _corrections(run)}


def _corrections(run: Evidence) -> dict[str, Any] | None:
    """The corrections of labels, newest first; None if there are none."""
    if not (run.path / corrections.FILE).is_file():
        return None
    made, rows = corrections.read_corrections(run.path / corrections.FILE).iloc[::-1], []
    for row in made.head(CORRECTIONS_SHOWN).to_dict("records"):
        old, new = (NO_GRADE.get(row[side]) or run.class_name(row[side]) for side in ("old", "new"))
        rows.append([row["id"], f"{old} → {new}", row["who"], row["when"], Cell(text=row["why"], tone="words")])
    return {"rows": rows, "all": len(made), "file": corrections.FILE}


def leaks(run: Evidence, before: Sequence[Evidence]) -> dict[str, Any]:
    """Facts on whether images were used for both training and evaluation; seen: None if that is not known."""
    init = str(run.options.get("init"))
    return {"name": run.name,
            "allowed": [learner.name for learner in (run, *before) if learner.options.get("allow_leaks")],
            "seen": None if run.seen is None else len(run.seen), "both": leaked_ids(run),
            "judged": 0 if run.predictions is None else len(run.predictions), "folds": run.options.get("folds"),
            "untold": init if init.endswith(WEIGHT_FILES) else ""}  # fmt: skip


def leaked_ids(run: Evidence) -> list[str]:
    """Ids of graded images that seen.csv also lists, in the same prepared set. Out-of-fold predictions are compared
    with the images that the grader of that fold learned from."""
    if run.seen is None or run.predictions is None:
        return []
    folds, found = pd.Series(0, index=run.predictions.index), set()
    if "fold" in run.predictions:
        folds = pd.to_numeric(run.predictions["fold"], errors="coerce").fillna(0).astype(int)
    for number in folds.unique():  # 0 for a prediction of a grader without folds
        seen = read_table(run.path / f"fold{number}" / "seen.csv")
        seen = run.seen if seen is None else seen
        own = seen.loc[seen["set"] == str(run.options.get("data")), "id"]
        found |= set(own) & set(run.predictions.loc[folds == number, "id"])
    return sorted(found)


def missing(findings: Sequence[Finding], graders: Sequence[Evidence]) -> list[dict[str, str]]:
    """What is not on the page yet (`what`), and the `command` that adds it."""
    said = told("missing.txt", findings=findings, graders=graders,
                command=lambda *parts: f"foveal {shlex.join(map(str, parts))}")  # fmt: skip
    return [{"what": what, "command": line} for what, line in said]


def limits(runs: Sequence[Evidence], findings: Sequence[Finding]) -> dict[str, Any]:
    """Intended use, from the card of the data, and what the page cannot show."""
    graders = [run for run in runs if run.verb == "train" and run.card]
    sizes = {run.model["image_size"] for run in graders if "image_size" in run.model}
    groups = min((finding.result["about"]["groups"] for finding in findings), default=0)
    counts = zip(findings[0].evidence.classes, findings[0].result["confusion"], strict=True) if findings else []
    return {"card": graders[0].card if graders else None, "learned": graders[0].images("train") if graders else 0,
            "sizes": [str(size) for size in sorted(sizes)],
            "graders": len(findings), "areas": any("referable_auc" in finding.metrics for finding in findings),
            "patients_unknown": any(not finding.evidence.patients_known for finding in findings),
            "groups": groups if groups < FEW_GROUPS else 0,
            "small": [name for name, row in counts if sum(row) < SMALL_CLASS], "small_class": SMALL_CLASS,
            "not_test": any(finding.result["about"]["split"] != "test" for finding in findings),
            "corrected": any(finding.result["about"].get("corrections") or finding.evidence.card.get("corrections")
                             for finding in findings),
            "unseen": any(one["held_out"] for finding in findings for one in finding.result.get("sources", ())),
            "gone": [run for run in runs if run.starting_run and not is_run(run.starting_run)],
            "drawn": any(run.card.get("name") == "phantom" for run in runs)}  # fmt: skip
