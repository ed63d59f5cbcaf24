"""What is not on the page yet, and the commands that add it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from markupsafe import Markup

from foveal.page.parts import Bullets, Section, code
from foveal.page.words import listed
from foveal.report.evidence import Evidence
from foveal.report.findings import Finding


def missing(findings: Sequence[Finding], graders: Sequence[Evidence]) -> Section | None:
    """A line for each part that another command could add; None if nothing is missing."""
    lines = [Markup("{}: {}").format(what, code(command)) for what, command in missing_parts(findings, graders)]
    return Section(name="missing", title="Not here yet", parts=[Bullets(lines)]) if lines else None


def missing_parts(findings: Sequence[Finding], graders: Sequence[Evidence]) -> list[tuple[str, str]]:
    """(what is not on the page, the command that adds it)."""
    found = [line for finding in findings for line in _unmeasured(finding)]
    for run in graders:
        have, folder, data = run.companions, str(run.path), str(run.options.get("data", "DATA"))
        if have.doubts is None and run.result:
            found.append((f"{run.name}: labels that may be wrong", _command("evaluate", folder)))
        if have.maps is None:
            command = _command("cluster", data, "--run", folder, "--out", str(run.path / "cluster"))
            found.append((f"{run.name}: embedding map and similar images", command))
        if not have.explained:
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
    return lines


def _command(*parts: str) -> str:
    return f"foveal {shlex.join(parts)}"
