"""How the run was made: its data, leaks from training into evaluation, and provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from foveal.page.parts import SPLITS, Cell, Shown
from foveal.page.words import counted
from foveal.report.evidence import Evidence
from foveal.runs import WEIGHT_FILES
from foveal.sets.corrections import FILE as CORRECTIONS
from foveal.sets.corrections import read_corrections

CORRECTIONS_SHOWN = 20
SCALES = {"icdr": "ICDR, 0 to 4", "none": "none: the classes have no order of severity"}
CROPS = {
    "ellipse": "cropped to the retinal disc, made round where squeezed",
    "disc": "cropped to the retinal disc if round",
    "none": "whole frame",
}


def data(runs: Sequence[Evidence], before: Mapping[Path, Sequence[Evidence]]) -> dict[str, Any]:
    """Each prepared set, the training images of each encoder, and leaks; before: run -> its starting runs."""
    graders = [run for run in runs if run.verb == "train"]
    by_hash = {run.card["content_hash"]: run for run in graders if run.card}  # runs of one set share its card
    return {
        "sets": [_set(run) for run in by_hash.values()],
        "pools": [{"name": run.name, "rows": _pool(run)} for run in runs if run.verb == "pretrain"],
        "leaks": [leaks(run, before[run.path]) for run in graders if run.result],
    }


def _set(run: Evidence) -> dict[str, Any]:
    """What is known of a prepared set: images per class and part, facts, and corrected labels."""
    card, options = run.card, run.card["options"]
    counts = {words: card["counts"][split] for split, words in SPLITS.items() if split in card["counts"]}
    rows: list[list[Shown]] = [[name, *(part["per_class"].get(name) for part in counts.values())]
                               for name in card["classes"]]  # fmt: skip
    rows.append(["all images", *(part["images"] for part in counts.values())])
    if any(part["groups"] for part in counts.values()):
        rows.append(["groups", *(part["groups"] or None for part in counts.values())])
    facts = {
        "Scale": SCALES.get(card["scale"], card["scale"]),
        "Prepared as": f"{options['size']} × {options['size']} px, {CROPS.get(options['crop'], options['crop'])}",
        "Corrected": counted(card["corrections"], "label") if card.get("corrections") else "",
        "Rejected": f"{counted(card['rejected'], 'file')} that could not be used" if card["rejected"] else "no file",
        "Licence": card["licence"],
        "Reference": card["reference"],
        "Content hash": card["content_hash"][:16],
    }
    return {"title": card["title"], "name": card["name"], "columns": ["class", *counts], "rows": rows,
            "facts": [(k, v) for k, v in facts.items() if v], "corrections": _corrections(run)}  # fmt: skip


def _corrections(run: Evidence) -> dict[str, Any] | None:
    """The corrections of labels, newest first; None if there are none."""
    if not (run.path / CORRECTIONS).is_file():
        return None
    made, rows = read_corrections(run.path / CORRECTIONS).iloc[::-1], []
    for row in made.head(CORRECTIONS_SHOWN).to_dict("records"):
        old, new = ("no label" if row[side] == "none" else run.class_name(row[side]) for side in ("old", "new"))
        rows.append([row["id"], f"{old} → {new}", row["who"], row["when"], Cell(text=row["why"], tone="words")])
    return {"rows": rows, "all": len(made), "file": CORRECTIONS}


def _pool(run: Evidence) -> list[list[Shown]]:
    """How many images an encoder learned from in each prepared set, and the content hash of the set if known."""
    hashes = run.provenance.get("data", {})
    counts = {} if run.seen is None else run.seen["set"].value_counts(sort=False).to_dict()
    return [[str(name), count, str(hashes.get(name, "–"))[:16]] for name, count in counts.items()]


def leaks(run: Evidence, before: Sequence[Evidence]) -> dict[str, Any]:
    """What tells whether images were used both for training and for evaluation; seen: None where that is not known.

    Training stops if it finds copies or the same patients on both sides (sets/leaks.py). seen.csv lists every image
    that the weights were trained on, including those of the starting run.
    """
    init = str(run.options.get("init"))
    return {
        "name": run.name, "allowed": [learner.name for learner in (run, *before) if learner.options.get("allow_leaks")],
        "seen": None if run.seen is None else len(run.seen), "both": leaked_ids(run),
        "judged": 0 if run.predictions is None else len(run.predictions), "folds": run.options.get("folds"),
        "untold": init if init.endswith(WEIGHT_FILES) else "",
    }  # fmt: skip


def leaked_ids(run: Evidence) -> list[str]:
    """Ids of graded images that seen.csv also lists, in the same prepared set.

    Out-of-fold predictions are compared with the images that the grader of that fold learned from.
    """
    if run.seen is None or run.predictions is None:
        return []
    folds, found = pd.Series(0, index=run.predictions.index), set()
    if "fold" in run.predictions:
        folds = pd.to_numeric(run.predictions["fold"], errors="coerce").fillna(0).astype(int)
    for number in folds.unique():  # 0 for a prediction of a grader without folds
        file = run.path / f"fold{number}" / "seen.csv"
        seen = pd.read_csv(file, dtype=str, keep_default_na=False) if number and file.is_file() else run.seen
        own = seen.loc[seen["set"] == str(run.options.get("data")), "id"]
        found |= set(own) & set(run.predictions.loc[folds == number, "id"])
    return sorted(found)


def provenance(runs: Sequence[Evidence]) -> list[dict[str, Any]]:
    """Command, versions and all options of every run."""
    return [{"name": run.name, "verb": run.verb, "origin": _origin(run), "options": _options(run)} for run in runs]


def _origin(run: Evidence) -> list[tuple[str, str]]:
    """Command, commit, hardware, seed and versions."""
    facts = run.provenance
    hardware = facts.get("hardware", {})
    machine = [f"{hardware.get('system')} {hardware.get('machine')}", f"{hardware.get('cpu_cores')} CPU cores",
               f"{hardware.get('torch_threads')} threads", hardware.get("gpu") or "no GPU"]  # fmt: skip
    rows = {
        "Command": facts.get("command"),
        "Started": str(facts.get("started", "")).replace("T", " ").replace("+00:00", " UTC"),
        "Seed": facts.get("seed"),
        "Commit": facts.get("commit") or "unknown: not run from a git checkout",
        "Hardware": ", ".join(machine) if hardware else None,
        "Versions": ", ".join(f"{name} {version}" for name, version in facts.get("versions", {}).items() if version),
    }
    rows |= {f"Data: {path}": digest for path, digest in facts.get("data", {}).items()}
    return [(name, str(value)) for name, value in rows.items() if value not in (None, "")]


def _options(run: Evidence) -> list[tuple[str, str]]:
    """Every resolved option of the run, as (flag, value)."""
    words = {
        key: ("yes" if value else "no") if isinstance(value, bool)
        else ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        for key, value in run.options.items()
    }  # fmt: skip
    return [(f"--{key.replace('_', '-')}", text) for key, text in words.items()]
