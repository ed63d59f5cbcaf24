"""report: run folders -> one page of evidence, a single HTML file that needs nothing else.

    foveal report RUN
    foveal report FIRST SECOND --out comparison.html

The page is made from the files of the runs alone: it needs neither the images, nor a GPU, nor torch. It opens without
a network, follows the reader's light or dark mode, and prints. The same folders give the same page, byte by byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import jinja2
import tyro

from foveal.console import say
from foveal.report import tables, verdicts, words
from foveal.report.evidence import Evidence, forebears, read_evidence
from foveal.report.figures import Panel, draw, pretraining_panels, training_panels
from foveal.report.findings import Finding, find
from foveal.report.leaks import leak_lines
from foveal.report.pictures import gallery, sheets
from foveal.report.verdicts import Verdict
from foveal.runs import write_text


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Options of `foveal report`."""

    # Run folders; several graders are compared with the first, on the images that all of them have graded.
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN…")]
    # Page to write; by default report.html in the last of the run folders.
    out: Path | None = None

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("report needs at least one run folder: foveal report RUN")
        folders = [run.resolve() for run in self.runs]
        for run, folder in zip(self.runs, folders, strict=True):
            if folders.count(folder) > 1:
                raise ValueError(f"{run} is given more than once; name every run folder once")


def report(config: ReportConfig) -> Path:
    """Write one HTML page about one or more runs; returns its path. ValueError where a folder is no run."""
    out = config.out or config.runs[-1] / "report.html"
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder; give the page's own path, as {out / 'report.html'}")
    page = render([read_evidence(run) for run in config.runs])
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page)
    say(f"report: {out}")
    return out


def render(runs: Sequence[Evidence]) -> str:
    """The page as HTML; every word that comes from a file is escaped."""
    loader = jinja2.PackageLoader("foveal.report")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("report.html").render(contents(runs))


def contents(runs: Sequence[Evidence]) -> dict[str, Any]:
    """What the template shows, in its order."""
    findings = find(runs)
    graders = [run for run in runs if run.verb == "train"]
    lineage = {run.path.resolve(): forebears(run) for run in runs}
    found = [run for own in runs for run in (own, *lineage[own.path.resolve()])]
    everyone = list({run.path.resolve(): run for run in (*found, *runs)}.values())
    pretrainings = [run for run in everyone if run.verb == "pretrain"]
    return {
        **_headings(runs),
        "verdicts": _verdicts(runs, findings),
        "summary": _summary(runs, findings),
        "tiles": _tiles(findings[0]) if len(findings) == 1 else [],
        "differences": tables.differences(findings) if len(findings) > 1 else None,
        "cards": _cards(graders),
        "pools": [(run.name, tables.pool(run)) for run in runs if run.verb == "pretrain"],
        "leaks": [line for run in graders if run.result for line in leak_lines(run, lineage[run.path.resolve()])],
        "overall": tables.overall(findings) if findings else None,
        "per_class": tables.per_class(findings) if findings else None,
        "confusions": [(finding.evidence.name, tables.confusion(finding)) for finding in findings],
        "trainings": [_training(run, number) for number, run in enumerate(graders) if run.rows],
        "pretrainings": [_pretraining(run, number, run in runs) for number, run in enumerate(pretrainings)],
        "sheets": sheets(everyone),
        "galleries": [shown for run in graders if (shown := gallery(run)) is not None],
        "origins": [(run, tables.origin(run), tables.options(run)) for run in everyone],
        "limits": words.limits(runs, findings),
    }


def _headings(runs: Sequence[Evidence]) -> dict[str, str]:
    titles = [str(run.card["title"]) for run in runs if run.card]
    kind = words.kind_of(runs[0]) if len(runs) == 1 else f"{len(runs)} runs side by side"
    about = " · ".join(filter(None, dict.fromkeys([*titles, *map(words.day_of, runs)])))
    return {"title": words.listed([run.name for run in runs]), "kind": kind, "about": about}


def _summary(runs: Sequence[Evidence], findings: Sequence[Finding]) -> list[str]:
    """What was done, and what came out; of several runs the figures stand in a table instead."""
    lines = [words.what_was_trained(run) for run in runs]
    if len(runs) == 1:
        return [" ".join([*lines, *map(words.what_came_out, findings)])]
    if len(findings) < 2:
        return lines
    names = words.listed([finding.evidence.name for finding in findings])
    shared = f"{names} were {words.what_was_judged(findings[0])}. The images are the same for each of them."
    return [shared, *lines]


def _verdicts(runs: Sequence[Evidence], findings: Sequence[Finding]) -> list[Verdict]:
    """The comparisons first; runs of which nothing can be said come last, and say why."""
    lines = [verdicts.against_first(finding, findings[0]) for finding in findings[1:]]
    for finding in findings:
        verdict = verdicts.against_constant(finding)
        named = f"{finding.evidence.name}: {verdict.text[0].lower()}{verdict.text[1:]}"
        lines.append(verdict if len(runs) == 1 else replace(verdict, text=named))
    judged = [finding.evidence.path for finding in findings]
    return lines + [verdicts.without_judgement(run) for run in runs if run.path not in judged]


def _tiles(finding: Finding) -> list[dict[str, Any]]:
    """The headline metrics of a single grader, with places on a strip from 0 to 1 where there is an interval."""
    tiles = []
    for name in words.headline_names(finding.evidence):
        if name in finding.metrics:
            entry = finding.metrics[name]
            said = {"value": words.number(entry["value"]), "constant": words.number(entry["constant"])}
            strip = {key: min(1.0, max(0.0, entry[key] or 0.0)) for key in ("value", "low", "high", "constant")}
            drawn = strip if entry["low"] is not None else None
            tiles.append({"name": words.METRIC_NAMES[name], "interval": words.interval(entry), "strip": drawn, **said})
    return tiles


def _cards(graders: Sequence[Evidence]) -> list[dict[str, Any]]:
    """A data card per prepared set: runs that share one share its place on the page."""
    by_hash = {run.card["content_hash"]: run.card for run in graders if run.card}
    return [
        {"card": card, "facts": tables.card_facts(card), "counts": tables.class_counts(card)}
        for card in by_hash.values()
    ]  # fmt: skip


def _charts(panels: Sequence[Panel]) -> list[dict[str, Any]]:
    """Drawings with their titles and legends; a single line that the title names needs none."""
    return [
        {"title": panel.title, "svg": draw(panel), "lines": panel.lines if len(panel.lines) > 1 else [],
         "levels": panel.levels, "best": panel.best}
        for panel in panels
    ]  # fmt: skip


def _training(run: Evidence, number: int) -> dict[str, Any]:
    return {"run": run, "charts": _charts(training_panels(run, f"training-{number}")), "kept": words.which_epoch(run)}


def _pretraining(run: Evidence, number: int, introduced: bool) -> dict[str, Any]:
    """The curves with their reasons; sentence and verdict only where the summary has not said them."""
    return {
        "run": run,
        "sentence": None if introduced else words.what_was_trained(run),
        "verdict": None if introduced else verdicts.without_judgement(run),
        "reasons": run.health.get("reasons", []),
        "charts": _charts(pretraining_panels(run, f"pretraining-{number}")),
    }
