"""The end of the page: what is not there yet, intended use, and what the page cannot show."""

import shlex
from collections.abc import Sequence
from typing import Any

from foveal.evaluate.show import FEW_GROUPS, SMALL_CLASS
from foveal.page.words import listed
from foveal.report.evidence import Evidence, is_run
from foveal.report.findings import Finding


def missing(findings: Sequence[Finding], graders: Sequence[Evidence]) -> list[dict[str, str]]:
    """What is not on the page yet (`what`), and the `command` that adds it."""
    found = []
    for finding in findings:
        result, run = finding.result, finding.evidence
        wanted = {"curves": "operating points", "reliability": "reliability"}
        wanted |= {"harm": "errors by harm"} if run.ordered else {}
        if gone := [text for key, text in wanted.items() if key not in result]:
            found.append((run, listed(gone), ["evaluate", run.path]))
        again = result["about"].get("measured_again")
        if not result.get("subgroups") and not again:
            by = ["--by", "flags", "--records", run.options.get("data", "DATA")]
            found.append((run, "subgroups, here by quality flag", ["evaluate", run.path, *by]))
        if "stress" not in result and not again:
            found.append((run, "how far image quality may fall", ["evaluate", run.path, "--stress"]))
    for run in graders:
        data = run.options.get("data", "DATA")
        if run.doubts is None and run.result:
            found.append((run, "labels that may be wrong", ["evaluate", run.path]))
        if run.maps is None:
            command = ["cluster", data, "--run", run.path, "--out", run.path / "cluster"]
            found.append((run, "embedding map and similar images", command))
        if not run.explained:
            found.append((run, "where the grader looked", ["explain", run.path, data]))
    return [{"what": f"{run.name}: {what}", "command": f"foveal {shlex.join(map(str, command))}"}
            for run, what, command in found]  # fmt: skip


def limits(runs: Sequence[Evidence], findings: Sequence[Finding]) -> dict[str, Any]:
    """Intended use, from the card of the data, and what the page cannot show."""
    graders = [run for run in runs if run.verb == "train" and run.card]
    sizes = {run.model["image_size"] for run in graders if "image_size" in run.model}
    groups = min((finding.result["about"]["groups"] for finding in findings), default=0)
    counts = zip(findings[0].evidence.classes, findings[0].result["confusion"], strict=True) if findings else []
    return {
        "card": graders[0].card if graders else None, "learned": graders[0].images("train") if graders else 0,
        "sizes": [str(size) for size in sorted(sizes)],
        "graders": len(findings), "areas": any("referable_auc" in finding.metrics for finding in findings),
        "patients_unknown": any(not finding.patients_known for finding in findings),
        "groups": groups if groups < FEW_GROUPS else 0,
        "small": [name for name, row in counts if sum(row) < SMALL_CLASS], "small_class": SMALL_CLASS,
        "not_test": any(finding.result["about"]["split"] != "test" for finding in findings),
        "gone": [run for run in runs if run.starting_run and not is_run(run.starting_run)],
        "drawn": any(run.card.get("name") == "phantom" for run in runs),
    }  # fmt: skip
