"""The tables of quality: all images, and every class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foveal.evaluate.show import SMALL_CLASS
from foveal.page.parts import Cell, Strip, Table, cells, muted, value_cell
from foveal.page.words import interval, number
from foveal.report.findings import Finding
from foveal.report.words import LOWER_IS_BETTER, METRIC_NAMES, headline_names

CLASS_FIGURES = {"precision": "precision", "recall": "recall", "f1": "F1", "auc": "area under ROC",
                 "average precision": "average precision"}  # fmt: skip
BESIDE = ("precision", "recall")  # those of several graders


def tiles(finding: Finding) -> list[dict[str, Any]]:
    """The headline metrics of a single grader, on a strip from 0 to 1 where there is an interval."""
    found = []
    for name in headline_names(finding.evidence):
        entry = finding.metrics.get(name)
        if entry is not None:
            drawn = entry["value"] is not None and entry["low"] is not None
            found.append({
                "name": METRIC_NAMES[name], "value": number(entry["value"]), "interval": interval(entry),
                "constant": number(entry["constant"]), "noise": _noise(entry), "n": f"{entry['n']:,}",
                "strip": Strip(low=entry["low"], high=entry["high"], value=entry["value"], against=entry["constant"])
                if drawn else None,
            })  # fmt: skip
    return found


def _noise(entry: Mapping[str, Any]) -> str:
    return "" if entry.get("noise") is None else number(entry["noise"], 3)


def overall(findings: Sequence[Finding]) -> Table:
    """The metrics of all images, a column per grader; what the constant answer reaches, n and noise stand last."""
    first = findings[0]
    names = [name for name in METRIC_NAMES if all(name in finding.metrics for finding in findings)]
    noisy = any(first.metrics[name].get("noise") is not None for name in names)
    rows = []
    for name in names:
        entry = first.metrics[name]
        values = [value_cell(finding.metrics[name]) for finding in findings]
        if len(findings) == 1:
            values = cells(values[0].text, values[0].small)
        mark = " ↓" if name in LOWER_IS_BETTER else ""
        row = [Cell(text=METRIC_NAMES[name] + mark), *values, muted(number(entry["constant"], 3))]
        rows.append(row + ([muted(_noise(entry) or "–")] if noisy else []) + [muted(f"{entry['n']:,}")])
    shown = ["value", "95 % interval"] if len(findings) == 1 else [finding.evidence.name for finding in findings]
    columns = ["metric", *shown, "constant", *(["noise"] if noisy else []), "n"]
    return Table(columns=columns, rows=rows, notes=_meanings(first, names, noisy=noisy))


def _meanings(finding: Finding, names: Sequence[str], *, noisy: bool) -> list[str]:
    """What the figures of all images mean."""
    about, classes = finding.result["about"], finding.evidence.classes
    notes = [f"Intervals are 95 %, from {about['resamples']:,} bootstrap resamples of whole groups. "
             f"Constant is what always answering “{finding.result['constant_answer']}” would reach; where "
             "probabilities count (areas, calibration, Brier), what giving the classes' shares would."]  # fmt: skip
    if noisy:
        notes.append(
            "Noise: differences below this are noise between two graders that were measured apart; on the very same "
            "images, a paired comparison can tell smaller ones."
        )
    if "quadratic_kappa" in names:
        notes.append("Quadratic kappa is the agreement with the labels beyond chance, 0 to 1, where an error counts by "
                     "its squared distance in grades.")  # fmt: skip
    if "referable_auc" in names:
        notes.append(f"Referable is {classes[about['referable_from']]} and above. The area under the ROC curve is how "
                     "often, of one image that is and one that is not, the first gets the higher score.")  # fmt: skip
    if any(name in LOWER_IS_BETTER for name in names):
        notes.append("Of figures marked ↓, lower is better.")
    return notes


def per_class(findings: Sequence[Finding]) -> Table:
    """The figures of every class: all that were measured for one grader, precision and recall for several."""
    classes, first = findings[0].evidence.classes, findings[0]
    alone = len(findings) == 1
    kinds = [kind for kind in CLASS_FIGURES if (alone or kind in BESIDE) and f"{kind} of {classes[0]}" in first.metrics]
    rows = []
    for name, counts in zip(classes, first.result["confusion"], strict=True):
        few = sum(counts) < SMALL_CLASS
        n = Cell(text=f"{sum(counts):,}", small="few" if few else "", tone="unsure" if few else "muted")
        figures = [value_cell(finding.metrics[f"{kind} of {name}"]) for finding in findings for kind in kinds]
        rows.append([Cell(text=name), n, *figures])
    notes = ["Precision: of the images given a class, the share that has it. Recall: of the images that have it (n), "
             "the share that was given it. A dash stands where there are too few to tell.",
             f"Classes with n below {SMALL_CLASS} are marked few: their figures say little."]  # fmt: skip
    return Table(
        groups=[] if alone else [("", 2), *((finding.evidence.name, len(kinds)) for finding in findings)],
        columns=["class", "n", *[CLASS_FIGURES[kind] for kind in kinds] * len(findings)], rows=rows, notes=notes,
    )  # fmt: skip
