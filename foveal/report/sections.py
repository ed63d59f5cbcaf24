"""What each section of the page shows, section by section; a part is empty where its data is not there."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from foveal.page.words import listed
from foveal.report import comparison, quality, tables, verdicts, words
from foveal.report.calibration import calibration_part
from foveal.report.doubts import MOST_DOUBTS, doubts_part
from foveal.report.evidence import Evidence
from foveal.report.explanations import explanations_part
from foveal.report.findings import Finding
from foveal.report.harm import harm_part
from foveal.report.maps import MOST_POINTS, map_part
from foveal.report.operating import YARDSTICK, target_parts
from foveal.report.panels import pretraining_panels, training_panels
from foveal.report.pictures import MOST_PICTURES, Gallery, gallery
from foveal.report.subgroups import subgroup_parts

MOST_RUNS_PICTURED = 4  # of more runs, each shows fewer pictures: the page stays small enough to send
Source = TypeVar("Source")
Part = TypeVar("Part")


def named(
    sources: Sequence[Source], names: Sequence[str], make: Callable[..., Part], *rest: Any
) -> list[tuple[str, Part]]:
    """(name of the run, part) for every source of which `make` makes one."""
    return [(name, part) for source, name in zip(sources, names, strict=True) if (part := make(source, *rest))]


def quality_sections(findings: Sequence[Finding]) -> dict[str, Any]:
    """Figures, curves and tables of the graders that were judged."""
    names = [finding.evidence.name for finding in findings]
    return {
        "tiles": quality.tiles(findings[0]) if len(findings) == 1 else [],
        "overall": quality.overall(findings) if findings else None,
        "operating": named(findings, names, target_parts),
        "confusions": [(finding.evidence.name, tables.confusion(finding)) for finding in findings],
        "per_class": quality.per_class(findings) if findings else None,
        "harms": named(findings, names, harm_part),
        "calibrations": named(findings, names, calibration_part),
        "subgroups": named(findings, names, subgroup_parts),
        "differences": comparison.differences(findings) if len(findings) > 1 else None,
        "mcnemar": comparison.mcnemar_lines(findings),
        "yardstick": YARDSTICK,
        "note": next(
            (str(one.result["operating_points_note"]) for one in findings if one.result.get("operating_points_note")),
            "",
        ),
    }


def picture_sections(graders: Sequence[Evidence]) -> dict[str, Any]:
    """What is shown of single images: the worst errors, the map, doubtful labels, and where the grader looked."""
    names = [run.name for run in graders]
    shares = max(1, len(graders) / MOST_RUNS_PICTURED)
    galleries = [shown for run in graders if (shown := gallery(run, int(MOST_PICTURES / shares) or 1)) is not None]
    return {
        "galleries": galleries,
        "maps": named(graders, names, map_part, int(MOST_POINTS / shares)),
        "doubts": named(graders, names, doubts_part, MOST_DOUBTS // max(1, len(graders))),
        "explanations": named(graders, names, lambda run: explanations_part(run, _pictured(galleries, run))),
    }


def _pictured(galleries: Sequence[Gallery], run: Evidence) -> set[str]:
    """Images whose overlay stands in the gallery already."""
    return {shown.id for one in galleries if one.run == run.name for shown in one.pictures if shown.overlay}


def missing(findings: Sequence[Finding], graders: Sequence[Evidence]) -> list[tuple[str, str]]:
    """(what is not on the page, the command that adds it), a line each."""
    found = [line for finding in findings for line in _unmeasured(finding)]
    for run in graders:
        have, folder, data = run.companions, str(run.path), str(run.options.get("data", "DATA"))
        if have.doubts is None and run.result:
            found.append((f"{run.name}: labels that may be wrong", _command("evaluate", folder)))
        if have.maps is None:
            words_of = ("cluster", data, "--run", folder, "--out", str(run.path / "cluster"))
            found.append((f"{run.name}: embedding map and similar images", _command(*words_of)))
        if not have.explained:
            found.append((f"{run.name}: where the grader looked", _command("explain", folder, data)))
    return found


def _unmeasured(finding: Finding) -> list[tuple[str, str]]:
    """What an evaluation could add: the parts that an older one did not write, and subgroups, which need a column."""
    result, run = finding.result, finding.evidence
    wanted = {"curves": "operating points", "reliability": "reliability"}
    wanted |= {"harm": "errors by harm"} if run.ordered else {}
    gone = [text for key, text in wanted.items() if key not in result]
    lines = [(f"{run.name}: {listed(gone)}", _command("evaluate", str(run.path)))] if gone else []
    if not result.get("subgroups") and not result["about"].get("measured_again"):
        records = ("--records", str(run.options.get("data", "DATA")))
        command = _command("evaluate", str(run.path), "--by", "flags", *records)
        lines.append((f"{run.name}: subgroups, here by quality flag", command))
    return lines


def _command(*parts: str) -> str:
    return f"foveal {shlex.join(parts)}"


def cards(graders: Sequence[Evidence]) -> list[dict[str, Any]]:
    """A data card per prepared set: runs that share one share its place on the page."""
    by_hash = {run.card["content_hash"]: run for run in graders if run.card}
    return [
        {"card": run.card, "facts": tables.card_facts(run.card), "counts": tables.class_counts(run.card),
         "corrections": tables.corrections(run)}
        for run in by_hash.values()
    ]  # fmt: skip


def training(run: Evidence) -> dict[str, Any]:
    """Curves of one training, and the epoch that was kept."""
    return {"run": run, "charts": training_panels(run), "kept": words.which_epoch(run)}


def pretraining(run: Evidence, *, introduced: bool) -> dict[str, Any]:
    """The curves with their reasons; sentence and verdict only where the summary has not said them."""
    return {
        "run": run,
        "sentence": None if introduced else words.what_was_trained(run),
        "verdict": None if introduced else verdicts.without_judgement(run),
        "reasons": run.health.get("reasons", []),
        "charts": pretraining_panels(run),
    }
