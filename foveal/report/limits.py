"""The end of the page: what is not there yet, intended use, and what the page cannot show."""

import shlex
from collections.abc import Sequence
from typing import Any

from foveal.evaluate.show import FEW_GROUPS, SMALL_CLASS
from foveal.page.render import told
from foveal.report.evidence import Evidence, is_run
from foveal.report.findings import Finding


def missing(findings: Sequence[Finding], graders: Sequence[Evidence]) -> list[dict[str, str]]:
    """What is not on the page yet (`what`), and the `command` that adds it."""

    def command(*parts: object) -> str:
        return f"foveal {shlex.join(map(str, parts))}"

    said = told("missing.txt", findings=findings, graders=graders, command=command)
    return [{"what": what, "command": line} for what, line in said]


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
