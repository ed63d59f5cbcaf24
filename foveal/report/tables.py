"""The tables of the page as plain rows; the template draws them all with one macro.

A cell is text, with a smaller second line and a tone where needed. The first cell of a row is its heading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from foveal.page.parts import SPLITS, Cell, Table, cells
from foveal.page.words import counted
from foveal.report.evidence import Evidence
from foveal.report.findings import Finding
from foveal.sets.corrections import FILE as CORRECTIONS
from foveal.sets.corrections import read_corrections

CORRECTIONS_SHOWN = 20


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


def corrections(run: Evidence) -> Table | None:
    """Who gave which image another label, when and why, the newest first; None where nobody did."""
    file = run.path / CORRECTIONS
    if not file.is_file():
        return None
    made = read_corrections(file).iloc[::-1]
    rows = [
        [*cells(row["id"], f"{_class_name(row['old'], run)} → {_class_name(row['new'], run)}", row["who"], row["when"]),
         Cell(text=row["why"], tone="words")]
        for row in made.head(CORRECTIONS_SHOWN).to_dict("records")
    ]  # fmt: skip
    notes = (
        [f"{len(rows)} of {len(made)} are shown; all are in {CORRECTIONS} in the run."] if len(made) > len(rows) else []
    )
    return Table(columns=["image", "label", "who", "when", "why"], rows=rows, notes=notes)


def _class_name(text: str, run: Evidence) -> str:
    if text in ("", "none"):
        return "no label"
    return run.classes[int(text)] if text.isdigit() and int(text) < len(run.classes) else text


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
        "Corrected": counted(card["corrections"], "second opinion") if card.get("corrections") else "",
        "Rejected": f"{card['rejected']:,} files that could not be used" if card["rejected"] else "no file",
        "Licence": card["licence"],
        "Reference": card["reference"],
        "Content hash": card["content_hash"][:16],
    }
    return [(name, value) for name, value in facts.items() if value]


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
