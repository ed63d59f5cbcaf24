"""The end of the page: what is not there yet, intended use, and what the page cannot show."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

from foveal.evaluate.show import FEW_GROUPS, SMALL_CLASS
from foveal.page.words import listed
from foveal.report.evidence import Evidence
from foveal.report.findings import Finding
from foveal.report.words import start_of


def missing(findings: Sequence[Finding], graders: Sequence[Evidence]) -> dict[str, Any] | None:
    """What is not on the page yet, and the command that adds it; None if nothing is missing."""
    ways = missing_parts(findings, graders)
    return {"ways": ways} if ways else None


def missing_parts(findings: Sequence[Finding], graders: Sequence[Evidence]) -> list[tuple[str, str]]:
    """(what is not on the page, the command that adds it)."""
    found = [line for finding in findings for line in _unmeasured(finding)]
    for run in graders:
        folder, data = str(run.path), str(run.options.get("data", "DATA"))
        if run.doubts is None and run.result:
            found.append((f"{run.name}: labels that may be wrong", _command("evaluate", folder)))
        if run.maps is None:
            command = _command("cluster", data, "--run", folder, "--out", str(run.path / "cluster"))
            found.append((f"{run.name}: embedding map and similar images", command))
        if not run.explained:
            found.append((f"{run.name}: where the grader looked", _command("explain", folder, data)))
    return found


def _unmeasured(finding: Finding) -> list[tuple[str, str]]:
    """What a new evaluation could add: parts that an older version did not write, and subgroups."""
    result, run = finding.result, finding.evidence
    wanted = {"curves": "operating points", "reliability": "reliability"}
    wanted |= {"harm": "errors by harm"} if run.ordered else {}
    gone = [text for key, text in wanted.items() if key not in result]
    lines = [(f"{run.name}: {listed(gone)}", _command("evaluate", str(run.path)))] if gone else []
    if not result.get("subgroups") and not result["about"].get("measured_again"):
        records = ("--records", str(run.options.get("data", "DATA")))
        command = _command("evaluate", str(run.path), "--by", "flags", *records)
        lines.append((f"{run.name}: subgroups, here by quality flag", command))
    if "stress" not in result and not result["about"].get("measured_again"):
        lines.append((f"{run.name}: how far image quality may fall", _command("evaluate", str(run.path), "--stress")))
    return lines


def _command(*parts: str) -> str:
    return f"foveal {shlex.join(parts)}"


def limits(runs: Sequence[Evidence], findings: Sequence[Finding]) -> dict[str, Any]:
    """Intended use, from the card of the data, and what the page cannot show."""
    graders = [run for run in runs if run.verb == "train" and run.card]
    sizes = {run.model["image_size"] for run in graders if "image_size" in run.model}
    groups = [finding.result["about"]["groups"] for finding in findings]
    return {
        "card": graders[0].card if graders else None, "learned": graders[0].images("train") if graders else 0,
        "sizes": [str(size) for size in sorted(sizes)],
        "graders": len(findings), "areas": any("referable_auc" in finding.metrics for finding in findings),
        "patients_unknown": any(not finding.patients_known for finding in findings),
        "groups": min(groups) if groups and min(groups) < FEW_GROUPS else 0,
        "small": _small_classes(findings[0]) if findings else [], "small_class": SMALL_CLASS,
        "not_test": any(finding.result["about"]["split"] != "test" for finding in findings),
        "gone": [(run.name, start_of(run)) for run in runs if run.starting_run and run.starting_folder is None],
        "drawn": any(run.card.get("name") == "phantom" for run in runs),
    }  # fmt: skip


def _small_classes(finding: Finding) -> list[str]:
    rows = zip(finding.evidence.classes, finding.result["confusion"], strict=True)
    return [name for name, row in rows if sum(row) < SMALL_CLASS]
