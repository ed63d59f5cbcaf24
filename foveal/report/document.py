"""document: what a run knows for a paper, a reviewer or a regulator, as Markdown to edit and HTML to read.

    foveal document RUN
    foveal document RUN --on clinic/labels.csv

    FOLDER/model-card.md   what the grader is, instructions for use, warnings, figures
    FOLDER/data-sheet.md   the photographs that it learned from and was judged on
    FOLDER/stard-ai.md     checklist for studies of diagnostic accuracy: STARD 2015 with the topics of STARD-AI 2025
    FOLDER/claim.md        checklist for artificial intelligence in medical imaging: CLAIM 2024
    FOLDER/flow.svg        how many photographs were left out at each step, and what became of the others

Each .md has an .html beside it. The items of the checklists are in our own words, under the numbers of the originals.
What a run cannot know says that the authors must answer it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from foveal.console import say
from foveal.errors import FovealError
from foveal.files import check_free, write_text
from foveal.page.markdown import markdown_page
from foveal.page.render import render
from foveal.predict.cohort import folder_of
from foveal.report.evidence import Evidence, forebears, read_evidence
from foveal.report.findings import Finding, find
from foveal.report.flow import draw, steps
from foveal.report.limits import limits
from foveal.report.operating import TARGETS, meaning, points_of
from foveal.report.summary import headline
from foveal.report.travel import read_cohort
from foveal.report.words import METRIC_NAMES, PARTS, day_of, headline_names, kind_of

DOCUMENTS = {
    "model-card": "Model card", "data-sheet": "Data sheet", "stard-ai": "Checklist", "claim": "Checklist",
}  # fmt: skip
FOLDER, FIGURE = "documents", "flow.svg"
MOST_KNOWN = 0.5  # share of photographs with a group; without patients, only copies have one


@dataclass(frozen=True, kw_only=True)
class DocumentConfig:
    """Options of `foveal document`."""

    # Run folder of `foveal train`, evaluated.
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    # Cohort that `foveal evaluate RUN --on` has measured: the figures are those of its photographs.
    on: Path | None = None
    # Folder to write; by default RUN/documents, or documents in the folder of the cohort.
    out: Path | None = None


def document(config: DocumentConfig) -> Path:
    """Write the documents and return their folder; FovealError if the run has no results or the folder exists."""
    own = read_evidence(config.run)
    judged = read_cohort(own, config.on) if config.on else own
    found = find([judged])
    if not found:
        fix = f"train it to the end, then: foveal evaluate {config.run}"
        raise FovealError("run.not_evaluated", f"{config.run} has no results on labelled photographs", fix=fix)
    out = config.out or (folder_of(config.run, config.on) if config.on else config.run) / FOLDER
    check_free(out)
    out.mkdir(parents=True, exist_ok=True)
    known, figure = contents(own, found[0], cohort=config.on is not None), draw(steps(own, judged))
    write_text(out / FIGURE, figure)
    for name, kind in DOCUMENTS.items():
        text = str(render(f"{name}.md", **known))
        html = markdown_page(text, kind=kind, subtitle=own.name, figure=(FIGURE, figure), style="document.css")
        write_text(out / f"{name}.md", text)
        write_text(out / f"{name}.html", html)
    say(f"documents: {out}")
    return out


def contents(own: Evidence, finding: Finding, *, cohort: bool) -> dict[str, Any]:
    """What the templates of the documents use."""
    result, judged = finding.result, finding.evidence
    points = {title: points_of(result, target) for target, title in TARGETS.items()}
    return {
        "run": own, "judged": judged, "finding": finding, "result": result, "about": result["about"],
        "cohort": cohort, "part": PARTS[result["about"]["split"]], "kind": kind_of(own), "day": day_of(own),
        "before": forebears(own), "points": {title: found for title, found in points.items() if found},
        "meanings": {title: meaning(judged, result, target) for target, title in TARGETS.items()},
        "figures": [(METRIC_NAMES[name], result["metrics"][name]) for name in headline_names(judged)
                    if name in result["metrics"]],
        "patients_known": _patients_known(own), "first": headline_names(judged)[0],
        "headline": headline(finding, cohort), "limits": limits([own], [finding]),
    }  # fmt: skip


def _patients_known(own: Evidence) -> bool:
    """Whether the photographs that the run was trained with have patients, not only copies, as groups."""
    return own.predictions is not None and bool((own.predictions["group"] != "").mean() > MOST_KNOWN)
