"""Several graders on the same images: the table of paired differences, and McNemar's test in words."""

from __future__ import annotations

from collections.abc import Sequence

from foveal.page.parts import Cell, Table, difference_cell, muted, value_cell
from foveal.page.words import counted, number
from foveal.report.findings import Finding
from foveal.report.words import METRIC_NAMES, headline_names

SURE = 0.05  # of a p-value, by custom


def differences(findings: Sequence[Finding]) -> Table:
    """Graders side by side: their first figures, and the paired difference to the first grader."""
    names = [name for name in headline_names(findings[0].evidence) if name in findings[0].metrics]
    paired = [name for name in names if all(name in one.against_first for one in findings[1:] if one.against_first)]
    rows = []
    for finding in findings:
        row = [Cell(text=finding.evidence.name), *(value_cell(finding.metrics[name]) for name in names)]
        if finding.against_first is None:
            row += [muted("reference")] * len(paired)
        else:
            row += [difference_cell(finding.against_first[name]) for name in paired]
        rows.append(row)
    short = [METRIC_NAMES[name] for name in names]
    return Table(
        groups=[("", 1), ("on the shared images", len(names)), (f"minus {findings[0].evidence.name}", len(paired))],
        columns=["grader", *short, *(METRIC_NAMES[name] for name in paired)],
        rows=rows,
        notes=["Every difference is paired: both graders meet the same resampled groups, so what is hard for both "
               "cancels. Better and worse are said only where the 95 % interval leaves out zero."],
    )  # fmt: skip


def mcnemar_lines(findings: Sequence[Finding]) -> list[str]:
    """A sentence for each grader after the first: which of the two is right where the other is not; a caveat last."""
    tested = [finding for finding in findings[1:] if finding.against_first and "mcnemar" in finding.against_first]
    caveats = {f"{finding.against_first['mcnemar']['caveat']}." for finding in tested if finding.against_first}
    return [*(_line(finding, findings[0]) for finding in tested), *caveats]


def _line(finding: Finding, first: Finding) -> str:
    assert finding.against_first is not None
    test, name = finding.against_first["mcnemar"], finding.evidence.name
    if not test["only_second"] + test["only_first"]:
        return f"{name} and {first.evidence.name} are right on the same images."
    odds = float(test["mid_p"])
    more = name if test["only_second"] > test["only_first"] else first.evidence.name
    told = f"{more} is right more often than luck explains" if odds < SURE else "luck can explain that"
    shown = "below 0.001" if odds < 0.001 else number(odds, 3)
    return (
        f"{counted(test['only_second'], 'image')} only {name} grades rightly, {test['only_first']:,} only "
        f"{first.evidence.name}; {told} (McNemar's test, mid-p {shown})."
    )
