"""The tables of the page as plain rows; the template draws them all with one macro.

A cell is text, with a smaller second line and a tone where needed. The first cell of a row is its heading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from foveal.evaluate.evaluate import SMALL_CLASS
from foveal.report.evidence import Evidence
from foveal.report.findings import Finding
from foveal.report.words import METRIC_NAMES, headline_names, interval, number, signed

SPLITS = {"train": "training", "val": "validation", "test": "test", "unlabelled": "unlabelled"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Text, a smaller second line, and a tone: "", "muted", "good", "unsure" or "bad"."""

    text: str
    small: str = ""
    tone: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table: `groups` are (label, columns) above the column names where those need a second line."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    groups: Sequence[tuple[str, int]] = field(default_factory=tuple)
    notes: Sequence[str] = field(default_factory=tuple)


def cells(*texts: str) -> list[Cell]:
    """A row of plain cells."""
    return [Cell(text=text) for text in texts]


def class_counts(card: Mapping[str, Any]) -> Table:
    """Images per class and part, with totals and groups."""
    counts = {split: card["counts"][split] for split in SPLITS if split in card["counts"]}
    rows = []
    for name in card["classes"]:
        rows.append([Cell(text=name), *(_count(part["per_class"].get(name)) for part in counts.values())])
    rows.append([Cell(text="all images"), *(_count(part["images"]) for part in counts.values())])
    if any(part["groups"] for part in counts.values()):
        rows.append([Cell(text="groups"), *(_count(part["groups"] or None) for part in counts.values())])
    return Table(columns=["class", *(SPLITS[split] for split in counts)], rows=rows)


def _count(value: int | None) -> Cell:
    return Cell(text="–", tone="muted") if value is None else Cell(text=f"{value:,}")


def card_facts(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is known of the data, as (name, value)."""
    scales = {"icdr": "ICDR, 0 to 4", "none": "none: classes are no severity scale"}
    options = card["options"]
    crop = {"disc": "cropped to the retinal disc", "none": "whole frame"}.get(options["crop"], options["crop"])
    facts = {
        "Scale": scales.get(card["scale"], card["scale"]),
        "Prepared as": f"{options['size']} × {options['size']} px, {crop}",
        "Rejected": f"{card['rejected']:,} files that could not be used" if card["rejected"] else "no file",
        "Licence": card["licence"],
        "Reference": card["reference"],
        "Content hash": card["content_hash"][:16],
    }
    return [(name, value) for name, value in facts.items() if value]


def overall(findings: Sequence[Finding]) -> Table:
    """The metrics of all images, a column per grader; what the constant answer reaches and n stand last."""
    first = findings[0]
    names = [name for name in METRIC_NAMES if name in first.metrics]
    rows = []
    for name in names:
        entry = first.metrics[name]
        values = [_value(finding.metrics[name]) for finding in findings]
        rows.append(
            [Cell(text=METRIC_NAMES[name]), *values, _muted(number(entry["constant"], 3)), _muted(f"{entry['n']:,}")]
        )
    shown = ["value"] if len(findings) == 1 else [finding.evidence.name for finding in findings]
    return Table(columns=["metric", *shown, "constant", "n"], rows=rows, notes=_meanings(first, names))


def _meanings(finding: Finding, names: Sequence[str]) -> list[str]:
    """What the figures of all images mean."""
    about, classes = finding.result["about"], finding.evidence.classes
    notes = [f"The small figures are 95 % intervals, from {about['resamples']:,} bootstrap resamples of whole groups. "
             f"Constant is what always answering “{finding.result['constant_answer']}” would reach."]  # fmt: skip
    if "quadratic_kappa" in names:
        notes.append("Quadratic kappa is the agreement with the labels beyond chance, 0 to 1, where an error counts by "
                     "its squared distance in grades.")  # fmt: skip
    if "referable_auc" in names:
        lowest = classes[about["referable_from"]]
        notes.append(f"Referable is {lowest} and above. The area under the ROC curve is how often, of one image that "
                     "is and one that is not, the first gets the higher score.")  # fmt: skip
    return notes


def per_class(findings: Sequence[Finding]) -> Table:
    """Precision and recall of every class, two columns per grader."""
    rows = []
    for name, counts in zip(findings[0].evidence.classes, findings[0].result["confusion"], strict=True):
        few = sum(counts) < SMALL_CLASS
        n = Cell(text=f"{sum(counts):,}", small="few" if few else "", tone="unsure" if few else "muted")
        row = [Cell(text=name), n]
        for finding in findings:
            row += [_value(finding.metrics[f"{what} of {name}"]) for what in ("precision", "recall")]
        rows.append(row)
    alone = len(findings) == 1
    return Table(
        groups=[] if alone else [("", 2), *((finding.evidence.name, 2) for finding in findings)],
        columns=["class", "n", *["precision", "recall"] * len(findings)],
        rows=rows,
        notes=[
            "Precision: of the images given a class, the share that has it. Recall: of the images that have it (n), "
            "the share that was given it. A dash stands where there are too few to tell.",
            f"Classes with n below {SMALL_CLASS} are marked few: their figures say little.",
        ],
    )


def _value(entry: Mapping[str, Any]) -> Cell:
    return Cell(text=number(entry["value"], 3), small=interval(dict(entry), 3))


def _muted(text: str) -> Cell:
    return Cell(text=text, tone="muted")


@dataclass(frozen=True, kw_only=True)
class ConfusionRow:
    """True class number `label`: its images by the class that they were given, as (count, share of the row)."""

    label: int
    name: str
    n: int
    given: Sequence[tuple[int, float]]


def confusion(finding: Finding) -> list[ConfusionRow]:
    """The confusion matrix with the share of every row."""
    classes = finding.evidence.classes
    return [
        ConfusionRow(label=k, name=name, n=sum(row), given=[(count, count / max(1, sum(row))) for count in row])
        for k, (name, row) in enumerate(zip(classes, finding.result["confusion"], strict=True))
    ]


def pool(run: Evidence) -> Table:
    """Images per prepared set that shaped an encoder, with the content hash of the set where it is known."""
    hashes = run.provenance.get("data", {})
    counts = {} if run.seen is None else run.seen["set"].value_counts(sort=False).to_dict()
    rows = [cells(str(name), f"{count:,}", str(hashes.get(name, "–"))[:16]) for name, count in counts.items()]
    return Table(columns=["prepared set", "images", "content hash"], rows=rows)


def differences(findings: Sequence[Finding]) -> Table:
    """Graders side by side: their first figures, and the paired difference to the first grader."""
    names = [name for name in headline_names(findings[0].evidence) if name in findings[0].metrics]
    paired = names[:1] if not findings[0].evidence.ordered else names[:2]
    rows = []
    for finding in findings:
        row = [Cell(text=finding.evidence.name), *(_value(finding.metrics[name]) for name in names)]
        if finding.against_first is None:
            row += [_muted("reference")] * len(paired)
        else:
            row += [_difference(finding.against_first[name]) for name in paired]
        rows.append(row)
    short = [METRIC_NAMES[name] for name in names]
    return Table(
        groups=[("", 1), ("on the shared images", len(names)), (f"minus {findings[0].evidence.name}", len(paired))],
        columns=["grader", *short, *(METRIC_NAMES[name] for name in paired)],
        rows=rows,
    )


def _difference(entry: Mapping[str, Any]) -> Cell:
    tone = {"better": "good", "worse": "bad", "cannot tell": "unsure"}[entry["answer"]]
    return Cell(text=f"{signed(entry['value'])} {entry['answer']}", small=interval(dict(entry), 3), tone=tone)


def origin(run: Evidence) -> list[tuple[str, str]]:
    """Command, commit, hardware, seed and versions, as (name, value)."""
    facts = run.provenance
    hardware = facts.get("hardware", {})
    machine = [f"{hardware.get('system')} {hardware.get('machine')}", f"{hardware.get('cpu_cores')} CPU cores",
               f"{hardware.get('torch_threads')} threads", hardware.get("gpu") or "no GPU"]  # fmt: skip
    rows = {
        "Command": facts.get("command"),
        "Started": str(facts.get("started", "")).replace("T", " ").replace("+00:00", " UTC"),
        "Seed": facts.get("seed"),
        "Commit": facts.get("commit") or "unknown: an installed package, or no checkout",
        "Hardware": ", ".join(machine) if hardware else None,
        "Versions": ", ".join(f"{name} {version}" for name, version in facts.get("versions", {}).items() if version),
    }
    data = [(f"Data: {path}", digest) for path, digest in facts.get("data", {}).items()]
    return [(name, str(value)) for name, value in rows.items() if value not in (None, "")] + data


def options(run: Evidence) -> list[tuple[str, str]]:
    """Every option of the run as it was resolved, as (flag, value)."""
    return [(f"--{key.replace('_', '-')}", _option(value)) for key, value in run.options.items()]


def _option(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
