"""document: the facts of a run for a paper, a reviewer or a regulator, as Markdown to edit and HTML to read.

Model card, data sheet, flow diagram, and the checklists STARD 2015 with the topics of STARD-AI 2025, and CLAIM 2024.
The items of the checklists are paraphrased, under the numbers of the originals. Items that a run cannot answer say that
the authors must answer them.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from foveal.console import say
from foveal.errors import FovealError
from foveal.evaluate.evaluate import MANY_DOUBTS
from foveal.evaluate.judged import unlearned
from foveal.files import check_free, write_text
from foveal.page.render import markdown_page, render, told
from foveal.predict.cohort import folder_of
from foveal.report.evidence import Evidence, forebears, read_evidence
from foveal.report.findings import METRIC_NAMES, Finding, find
from foveal.report.making import limits
from foveal.report.operating import TARGETS, meaning, points_of
from foveal.report.summary import headline
from foveal.report.travel import read_cohort

DOCUMENTS = {"model-card": "Model card", "data-sheet": "Data sheet", "stard-ai": "Checklist", "claim": "Checklist"}
FOLDER, FIGURE = "documents", "flow.svg"
LINE, PAD, GAP, WIDTH, SIDE = 18, 10, 26, 330, 300  # px: of the boxes in the figure


@dataclass(frozen=True, kw_only=True)
class DocumentConfig:
    """Options of `foveal document`."""

    # Run folder of `foveal train` that has been evaluated.
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    # Describe the results on this cohort, from `foveal evaluate RUN --on`, instead of those of the run's test part.
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
        "run": own, "judged": judged, "result": result, "about": result["about"], "cohort": cohort,
        "part": finding.part, "before": forebears(own),
        "points": {title: found for title, found in points.items() if found},
        "meanings": {title: meaning(judged, result, target) for target, title in TARGETS.items()},
        "figures": [(METRIC_NAMES[name], result["metrics"][name]) for name in judged.headline_names
                    if name in result["metrics"]],
        "wrong_doubts": judged.doubts is not None and judged.predictions is not None
        and len(judged.doubts) > MANY_DOUBTS * len(unlearned(judged.predictions)),
        "first": judged.headline_names[0], "headline": headline(finding, cohort), "limits": limits([own], [finding]),
        "sources_of": lambda card: [Path(source).name for source in card["source"]],  # without folders of this machine
    }  # fmt: skip


def steps(own: Evidence, judged: Evidence) -> list[tuple[list[str], list[str]]]:
    """The boxes of the figure, from the photographs that were read to those that were judged, as lines of text. Each
    with the lines of the box beside it, of those that leave here; [] for none. judged: the run, or its cohort."""
    parts = judged.parts
    if judged is own:  # its predictions are of the other parts, or of all in folds
        learned = 0 if own.options.get("folds") else own.images("train")
        parts = parts + Counter({"train": learned, "unlabelled": own.images("unlabelled")})
    left = {part: count for part, count in parts.items() if part not in set(judged.judged["split"])}
    return told("flow.txt", judged=judged, there=parts.total(), left=left, is_cohort=judged is not own)


def draw(boxes: list[tuple[list[str], list[str]]]) -> str:
    """The SVG of the steps, from top to bottom; those that leave are to the right."""
    placed, top = [], 1
    for lines, leaving in boxes:
        height = max(len(lines), len(leaving)) * LINE + 2 * PAD
        placed.append({"lines": lines, "leaving": leaving, "y": top, "height": height})
        top += height + GAP
    size = {"width": WIDTH + GAP + SIDE + 2, "height": top - GAP + 2}
    return str(render("flow.svg", placed=placed, line=LINE, pad=PAD, gap=GAP, box_width=WIDTH, side=SIDE, **size))
