"""How the run was made: data, training, pre-training and provenance."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from foveal.page.parts import (
    SPLITS,
    Bullets,
    Cell,
    Charts,
    Columns,
    Details,
    Facts,
    Heading,
    Note,
    Part,
    Section,
    Table,
    Verdict,
    cells,
    muted,
    section_by_run,
)  # fmt: skip
from foveal.page.words import counted
from foveal.report import verdicts, words
from foveal.report.evidence import Evidence
from foveal.report.leaks import leak_lines
from foveal.report.panels import pretraining_panels, training_panels
from foveal.sets.corrections import FILE as CORRECTIONS
from foveal.sets.corrections import read_corrections

CORRECTIONS_SHOWN = 20


def data(runs: Sequence[Evidence], before: Mapping[Path, Sequence[Evidence]]) -> Section:
    """Each prepared set, the training images of each encoder, and leaks; before: run -> its starting runs."""
    graders = [run for run in runs if run.verb == "train"]
    by_hash = {run.card["content_hash"]: run for run in graders if run.card}  # runs of one set share its card
    parts = [part for run in by_hash.values() for part in _card(run)]
    for run in runs:
        if run.verb == "pretrain":
            parts += [Heading(f"Training images of {run.name}"), _pool(run)]
    leaks = [line for run in graders if run.result for line in leak_lines(run, before[run.path])]
    if leaks:
        parts.append(Heading("Leaks"))
    parts += [Note(text, "checked") if tone == "good" else Verdict(tone=tone, text=text) for tone, text in leaks]
    return Section(name="data", title="Data", parts=parts)


def _card(run: Evidence) -> list[Part]:
    corrections = _corrections(run)
    columns = Columns([[_class_counts(run.card)], [Facts(_card_facts(run.card))]])
    return [Heading(run.card["title"], run.card["name"]), columns, *([] if corrections is None else [corrections])]


def _class_counts(card: Mapping[str, Any]) -> Table:
    """Images per class and part, with totals and groups."""
    counts = {split: card["counts"][split] for split in SPLITS if split in card["counts"]}
    rows = []
    for name in card["classes"]:
        rows.append([Cell(text=name), *(_count(part["per_class"].get(name)) for part in counts.values())])
    rows.append([Cell(text="all images"), *(_count(part["images"]) for part in counts.values())])
    if any(part["groups"] for part in counts.values()):
        rows.append([Cell(text="groups"), *(_count(part["groups"] or None) for part in counts.values())])
    columns = ["class", *(SPLITS[split] for split in counts)]
    return Table(caption="Images by class and part", columns=columns, rows=rows)


def _count(value: int | None) -> Cell:
    return muted("–") if value is None else Cell(text=f"{value:,}")


def _corrections(run: Evidence) -> Table | None:
    """The corrections of labels, newest first; None if there are none."""
    if not (run.path / CORRECTIONS).is_file():
        return None
    made = read_corrections(run.path / CORRECTIONS).iloc[::-1]
    rows = [
        [*cells(row["id"], f"{_label(row['old'], run)} → {_label(row['new'], run)}", row["who"], row["when"]),
         Cell(text=row["why"], tone="words")]
        for row in made.head(CORRECTIONS_SHOWN).to_dict("records")
    ]  # fmt: skip
    notes = [f"{len(rows)} of {len(made)} are shown; all are in {CORRECTIONS} in the run."]
    return Table(caption="Corrected labels", columns=["image", "label", "who", "when", "why"], rows=rows,
                 notes=notes if len(made) > len(rows) else [])  # fmt: skip


def _label(text: str, run: Evidence) -> str:
    return "no label" if text == "none" else run.class_name(text)


def _card_facts(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is known of the data."""
    scales = {"icdr": "ICDR, 0 to 4", "none": "none: the classes have no order of severity"}
    options = card["options"]
    crop = {"disc": "cropped to the retinal disc", "none": "whole frame"}.get(options["crop"], options["crop"])
    facts = {
        "Scale": scales.get(card["scale"], card["scale"]),
        "Prepared as": f"{options['size']} × {options['size']} px, {crop}",
        "Corrected": counted(card["corrections"], "label") if card.get("corrections") else "",
        "Rejected": f"{card['rejected']:,} files that could not be used" if card["rejected"] else "no file",
        "Licence": card["licence"],
        "Reference": card["reference"],
        "Content hash": card["content_hash"][:16],
    }
    return [(name, value) for name, value in facts.items() if value]


def _pool(run: Evidence) -> Table:
    """How many images an encoder learned from in each prepared set, and the content hash of the set if known."""
    hashes = run.provenance.get("data", {})
    counts = {} if run.seen is None else run.seen["set"].value_counts(sort=False).to_dict()
    rows = [cells(str(name), f"{count:,}", str(hashes.get(name, "–"))[:16]) for name, count in counts.items()]
    columns = ["prepared set", "images", "content hash"]
    return Table(caption="Images by prepared set", columns=columns, rows=rows)


def training(graders: Sequence[Evidence]) -> Section | None:
    """Curves of every training, and the epoch that was kept."""

    def parts(run: Evidence) -> list[Part]:
        return [words.which_epoch(run), Charts(training_panels(run))] if run.rows else []

    return section_by_run("training", "Training", [(run.name, parts(run)) for run in graders])


def pretraining(runs: Sequence[Evidence], *, introduced: Collection[Evidence]) -> Section | None:
    """Curves and verdict of every pre-training; introduced: runs whose verdict is already in the summary."""

    def parts(run: Evidence) -> list[Part]:
        said: list[Part] = [] if run in introduced else [words.what_was_trained(run), verdicts.without_judgement(run)]
        reasons = [Bullets(run.health["reasons"])] if run.health.get("reasons") else []
        return [*said, *reasons, Charts(pretraining_panels(run))]

    return section_by_run("pretraining", "Pre-training", [(run.name, parts(run)) for run in runs])


def provenance(runs: Sequence[Evidence]) -> Section:
    """Command, versions and all options of every run."""
    parts = [
        Details(run.name, [Facts(_origin(run), "wide"), Heading("Options"), Facts(_options(run), "many")], run.verb,
                open=len(runs) == 1)
        for run in runs
    ]  # fmt: skip
    return Section(name="provenance", title="Provenance", parts=parts)


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
    return [(f"--{key.replace('_', '-')}", _option(value)) for key, value in run.options.items()]


def _option(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
