"""How the run was made: its data, leaks from training into evaluation, and provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from foveal.page.parts import SPLITS, Cell, muted
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
        "leaks": [line for run in graders if run.result for line in leak_lines(run, before[run.path])],
    }


def _set(run: Evidence) -> dict[str, Any]:
    """What is known of a prepared set: images per class and part, facts, and corrected labels."""
    card, options = run.card, run.card["options"]
    splits = [split for split in SPLITS if split in card["counts"]]
    facts = {
        "Scale": SCALES.get(card["scale"], card["scale"]),
        "Prepared as": f"{options['size']} × {options['size']} px, {CROPS.get(options['crop'], options['crop'])}",
        "Corrected": counted(card["corrections"], "label") if card.get("corrections") else "",
        "Rejected": f"{counted(card['rejected'], 'file')} that could not be used" if card["rejected"] else "no file",
        "Licence": card["licence"],
        "Reference": card["reference"],
        "Content hash": card["content_hash"][:16],
    }
    return {
        "title": card["title"], "name": card["name"], "rows": _counts(card, splits), "corrections": _corrections(run),
        "columns": ["class", *(SPLITS[split] for split in splits)], "facts": [(k, v) for k, v in facts.items() if v],
    }  # fmt: skip


def _counts(card: Mapping[str, Any], splits: Sequence[str]) -> list[list[Cell | str]]:
    """Table rows: images per class and part, with totals and groups."""
    counts = [card["counts"][split] for split in splits]
    rows = {name: [part["per_class"].get(name) for part in counts] for name in card["classes"]}
    rows["all images"] = [part["images"] for part in counts]
    if any(part["groups"] for part in counts):
        rows["groups"] = [part["groups"] or None for part in counts]
    return [[name, *(muted("–") if count is None else f"{count:,}" for count in row)] for name, row in rows.items()]


def _corrections(run: Evidence) -> dict[str, Any] | None:
    """The corrections of labels, newest first; None if there are none."""
    if not (run.path / CORRECTIONS).is_file():
        return None
    made = read_corrections(run.path / CORRECTIONS).iloc[::-1]
    rows = [
        [row["id"], f"{_label(run, row['old'])} → {_label(run, row['new'])}", row["who"], row["when"],
         Cell(text=row["why"], tone="words")]
        for row in made.head(CORRECTIONS_SHOWN).to_dict("records")
    ]  # fmt: skip
    return {"rows": rows, "all": len(made), "file": CORRECTIONS}


def _label(run: Evidence, text: str) -> str:
    return "no label" if text == "none" else run.class_name(text)


def _pool(run: Evidence) -> list[list[str]]:
    """How many images an encoder learned from in each prepared set, and the content hash of the set if known."""
    hashes = run.provenance.get("data", {})
    counts = {} if run.seen is None else run.seen["set"].value_counts(sort=False).to_dict()
    return [[str(name), f"{count:,}", str(hashes.get(name, "–"))[:16]] for name, count in counts.items()]


def leak_lines(run: Evidence, before: Sequence[Evidence]) -> list[tuple[str, str]]:
    """(tone, sentence) about images used both for training and for evaluation; tones as in parts.Verdict.

    Training stops if it finds copies or the same patients on both sides (sets/leaks.py). seen.csv lists every image
    that the weights were trained on, including those of the starting run.
    """
    lines = [("bad", f"{learner.name} was run with --allow-leaks: it may have been evaluated on images that it learned "
              "from, so its figures may be too good.") for learner in (run, *before)
             if learner.options.get("allow_leaks")]  # fmt: skip
    if run.seen is None:
        return [*lines, ("bad", f"{run.name} has no seen.csv: the images that it learned from are not known.")]
    if both := leaked_ids(run):
        lines.append(("bad", f"seen.csv, the list of the images that {run.name} learned from, contains "
                      f"{counted(len(both), 'judged image')}: {', '.join(both[:5])}. Its figures are too "
                      "good."))  # fmt: skip
    if not lines:
        lines.append(("good", _no_leak(run, len(run.seen))))
    if str(run.options.get("init")).endswith(WEIGHT_FILES):
        lines.append(("unsure", f"{run.name} starts from {run.options['init']}, a file that does not tell which images "
                      "its weights were trained on."))  # fmt: skip
    return lines


def _no_leak(run: Evidence, seen: int) -> str:
    judged, folds = 0 if run.predictions is None else len(run.predictions), run.options.get("folds")
    learned = f"{run.name} learned from {counted(seen, 'image')} (seen.csv)"
    again = "This page checked the image ids again."
    if folds:
        return (
            f"{learned} in {folds} folds; each of the {judged:,} images was graded by a grader that did not learn from "
            "it. Training keeps all images of a patient, and copies of an image (also near, mirrored, turned and "
            f"cropped ones), in the same fold. {again}"
        )
    return (
        f"{learned}; none of its {judged:,} validation and test images is among them. Training stops if it finds "
        f"copies (also near, mirrored, turned and cropped ones) or images of the same patients. {again}"
    )


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


def provenance(runs: Sequence[Evidence]) -> dict[str, Any]:
    """Command, versions and all options of every run."""
    made = [{"name": run.name, "verb": run.verb, "origin": _origin(run), "options": _options(run)} for run in runs]
    return {"runs": made}


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
    sets = [(f"Data: {path}", digest) for path, digest in facts.get("data", {}).items()]
    return [(name, str(value)) for name, value in rows.items() if value not in (None, "")] + sets


def _options(run: Evidence) -> list[tuple[str, str]]:
    """Every resolved option of the run, as (flag, value)."""
    shown = []
    for key, value in run.options.items():
        if isinstance(value, bool):
            text = "yes" if value else "no"
        else:
            text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        shown.append((f"--{key.replace('_', '-')}", text))
    return shown
