"""report: run folders -> one page of evidence, a single HTML file that needs nothing else.

    foveal report RUN
    foveal report FIRST SECOND --out comparison.html
    foveal report RUN --image ID
    foveal report RUN --predictions predictions.csv

The page is made from the files of the runs alone: it needs neither the images, nor a GPU, nor torch. It opens without
a network, follows the reader's light or dark mode, and prints. The same folders give the same page, byte by byte.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from foveal.console import say
from foveal.files import write_text
from foveal.page.parts import Verdict
from foveal.page.render import render as render_page
from foveal.page.words import listed
from foveal.report import sections, summary, tables, verdicts, words
from foveal.report.agreement import agree
from foveal.report.evidence import Evidence, forebears, read_evidence
from foveal.report.findings import Finding, find
from foveal.report.image import render_images
from foveal.report.intended import intended, limits
from foveal.report.leaks import leak_lines
from foveal.report.pictures import sheets


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Options of `foveal report`."""

    # Run folders; several graders are compared with the first, on the images that all of them have graded.
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN…")]
    # Page to write; by default report.html in the last of the run folders.
    out: Path | None = None
    # Id of a graded image, as in predictions.csv: a sheet on it to print on A4, in place of the page; again for more.
    image: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    # Table of `foveal predict` whose images get a sheet each, or those of --image; by default the run's own table.
    predictions: Path | None = None

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("report needs at least one run folder: foveal report RUN")
        folders = [run.resolve() for run in self.runs]
        for run, folder in zip(self.runs, folders, strict=True):
            if folders.count(folder) > 1:
                raise ValueError(f"{run} is given more than once; name every run folder once")
        if (self.image or self.predictions) and len(self.runs) > 1:
            option, value = ("--image", "ID") if self.image else ("--predictions", "FILE")
            raise ValueError(f"{option} is for one run, got {len(self.runs)}: foveal report RUN {option} {value}")


def report(config: ReportConfig) -> Path:
    """Write one HTML page about one or more runs, or about single images of one; returns its path.

    ValueError where a folder is no run, or has not graded an image that is asked for.
    """
    folder = config.runs[-1] if config.predictions is None else config.predictions.parent
    sheets_only = bool(config.image or config.predictions)
    out = config.out or folder / (_default_name(config.image) if sheets_only else "report.html")
    if out.is_dir():
        raise ValueError(f"--out {out} is a folder; give the page's own path, as {out / 'report.html'}")
    runs = [read_evidence(run) for run in config.runs]
    page = render_images(runs[0], config.image, config.predictions) if sheets_only else render(runs)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page)
    say(f"report: {out}")
    return out


def _default_name(images: Sequence[str]) -> str:
    """images.html, or a name made of the one image's id without what could lead elsewhere."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", images[0]).strip(".-")[:80] if images else ""
    return f"image-{plain}.html" if len(images) == 1 and plain else "images.html"


def render(runs: Sequence[Evidence]) -> str:
    """The page as HTML; every word that comes from a file is escaped."""
    return render_page("report.html", **contents(runs))


def contents(runs: Sequence[Evidence]) -> dict[str, Any]:
    """What the template shows, in its order."""
    runs, relabelled = agree(runs)
    findings = find(runs)
    graders = [run for run in runs if run.verb == "train"]
    lineage = {run.path.resolve(): forebears(run) for run in runs}
    found = [run for own in runs for run in (own, *lineage[own.path.resolve()])]
    everyone = list({run.path.resolve(): run for run in (*found, *runs)}.values())
    pretrainings = [run for run in everyone if run.verb == "pretrain"]
    return {
        **_headings(runs),
        "verdicts": _verdicts(runs, findings),
        "answers": summary.answers(runs[0], findings[0] if findings else None) if len(runs) == 1 else [],
        "lines": [*summary.shared_lines(runs, findings), *relabelled] if len(runs) > 1 else [],
        **sections.quality_sections(findings),
        **sections.picture_sections(graders),
        "missing": sections.missing(findings, graders),
        "cards": sections.cards(graders),
        "pools": [(run.name, tables.pool(run)) for run in runs if run.verb == "pretrain"],
        "leaks": [line for run in graders if run.result for line in leak_lines(run, lineage[run.path.resolve()])],
        "trainings": [sections.training(run) for run in graders if run.rows],
        "pretrainings": [sections.pretraining(run, introduced=run in runs) for run in pretrainings],
        "sheets": sheets(everyone),
        "origins": [(run, tables.origin(run), tables.options(run)) for run in everyone],
        "intended": intended(runs),
        "limits": limits(runs, findings),
    }  # fmt: skip


def _headings(runs: Sequence[Evidence]) -> dict[str, str]:
    titles = [str(run.card["title"]) for run in runs if run.card]
    kind = words.kind_of(runs[0]) if len(runs) == 1 else f"{len(runs)} runs side by side"
    about = " · ".join(filter(None, dict.fromkeys([*titles, *map(words.day_of, runs)])))
    return {"title": listed([run.name for run in runs]), "kind": kind, "about": about}


def _verdicts(runs: Sequence[Evidence], findings: Sequence[Finding]) -> list[Verdict]:
    """The comparisons first; runs of which nothing can be said come last, and say why."""
    lines = [verdicts.against_first(finding, findings[0]) for finding in findings[1:]]
    for finding in findings:
        verdict = verdicts.against_constant(finding)
        named = f"{finding.evidence.name}: {verdict.text[0].lower()}{verdict.text[1:]}"
        lines.append(verdict if len(runs) == 1 else replace(verdict, text=named))
    judged = [finding.evidence.path for finding in findings]
    return lines + [verdicts.without_judgement(run) for run in runs if run.path not in judged]
