"""The summary in plain words: what the run is, how good it is, where it fails, and whether it can be trusted.

Fixed rules derive every answer and verdict from the figures. No sentence claims more than its interval supports.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from foveal.evaluate.show import FEW_GROUPS, SMALL_CLASS
from foveal.page.parts import TONES, Verdict
from foveal.page.render import told
from foveal.page.words import counted, listed, percent_with_interval
from foveal.predict.likeness import is_batch_unlike
from foveal.report.evidence import Evidence
from foveal.report.findings import SPOKEN, Finding
from foveal.report.making import leaked_ids
from foveal.report.operating import TARGETS, points_of
from foveal.report.quality import lowest_group

# Lower limits that the FDA asked of the first grader that decides alone (Abramoff et al., 2018), for referable disease.
ASKED = {"sensitivity": 0.85, "specificity": 0.825}
LEAST_PATIENTS = 100  # of a cohort
MISSED_OFTEN = 0.5  # recall of a class below which most of its images are missed


def summary(runs: Sequence[Evidence], findings: Sequence[Finding], cohort: bool = False) -> dict[str, Any]:
    """Answers about one run or several, and the verdicts; cohort: on images of a place where the grader is to work."""
    alone, found = len(runs) == 1 and bool(findings), {finding.name: doubts(finding) for finding in findings}
    doubted = {doubt: [name for name, own in found.items() if doubt in own] for doubt in chain(*found.values())}
    said = listed([f"{doubt} ({listed(names)})" for doubt, names in doubted.items()])
    return {"runs": runs, "findings": findings, "answers": _answers(findings[0]) if alone else None,
            "headline": headline(findings[0], cohort) if alone else None, "verdicts": verdicts(runs, findings),
            "lines": [f"Reasons not to rely on these figures: {said}."] if said else []}  # fmt: skip


def headline(finding: Finding, cohort: bool) -> dict[str, Any]:
    """What a reader with a minute needs: `level`, the facts behind its three reasons, and four figures.

    level: "not yet" if there are doubts; "here" if a cohort of at least `LEAST_PATIENTS` reaches `ASKED` with the lower
    limits; otherwise "research".
    """
    points = points_of(finding.result, "referable")[:1]
    first, groups = finding.evidence.headline_names[0], finding.result["about"]["groups"]
    patients = finding.result.get("patients") or {}  # whom the FDA counts
    known = [name for name in ASKED if points and points[0][name]["value"] is not None]
    measured = bool(patients) and all(patients[name]["low"] is not None for name in known)
    asked = patients if measured else points[0] if points else {}
    reached = bool(points) and all((asked[name]["low"] or 0) >= least for name, least in ASKED.items())
    ready = cohort and reached and groups >= LEAST_PATIENTS
    rates = [{"name": name, **asked[name], "against": ASKED[name]} for name in ASKED] if asked else []
    scores = [{"name": name, **entry, "against": entry["constant"]} for name, entry in finding.headline()]
    figures = [one for one in [*rates, *scores][:4] if one["value"] is not None and one["low"] is not None]
    found = finding.against_constant.get(first)
    return {"level": "not yet" if doubts(finding) else "here" if ready else "research", "doubts": doubts(finding)[:3],
            "reached": reached, "per_patient": asked is patients, "counted": asked,
            "points": points, "asked": ASKED, "figures": figures, "cohort": cohort, "groups": groups,
            "ungraded": finding.evidence.ungraded,
            "constant": found["answer"] if found and finding.rows["label"].nunique() > 1 else None,
            "other": finding.result["constant_answer"], "metric": SPOKEN[first],
            "abroad": [one for one in finding.result.get("sources") or [] if one["held_out"]]}  # fmt: skip


def _answers(finding: Finding) -> dict[str, Any]:
    """What the answers to the questions about one grader say; common, worst: the confusions to mention, if any."""
    points = {title: points_of(finding.result, target)[:1] for target, title in TARGETS.items()}
    counts, names = np.array(finding.result["confusion"]), finding.evidence.classes
    low, few = [], []
    for name, of in zip(names, counts.sum(1).tolist(), strict=True):
        recall = finding.metrics[f"recall of {name}"]
        if 0 < of < SMALL_CLASS:
            few.append(f"{name} ({counted(of, 'image')})")
        elif recall["value"] is not None and recall["value"] < MISSED_OFTEN:
            low.append(f"{name}, {percent_with_interval(recall)} of {of:,}")
    wrong = counts - np.diag(np.diag(counts))
    true, given = np.unravel_index(wrong.argmax(), wrong.shape)
    common = {"n": wrong[true, given], "of": counts[true].sum(), "true": names[true], "given": names[given]}
    cut = finding.result["about"]["referable_from"] or 1  # the worst: the highest class below it, or as the lowest
    worst = {"true": names[-1], "given": " or ".join(names[:cut]), "n": counts[-1, :cut].sum(), "of": counts[-1].sum()}
    return {"points": [(point, title.lower()) for title, own in points.items() for point in own],
            "labels": finding.evidence.card.get("title", "its data set"), "low": low, "few": few,
            "readers": finding.result["about"].get("inter_rater"), "kappa": finding.metrics.get("quadratic_kappa"),
            "common": common if wrong.any() else None,
            "worst": worst if finding.evidence.ordered and worst["of"] else None, "group": lowest_group(finding),
            "doubts": doubts(finding)}  # fmt: skip


def doubts(finding: Finding) -> list[str]:
    """Reasons not to rely on the figures at all, even as a research result."""
    run = finding.evidence
    unlike = int((run.judged["unlike"].fillna("") != "").sum()) if "unlike" in run.judged else 0
    said = told("doubts.txt", finding=finding, first=finding.against_constant.get(run.headline_names[0]), unlike=unlike,
                leaked=bool(leaked_ids(run)) or bool(run.options.get("allow_leaks")), few_groups=FEW_GROUPS,
                alone=finding.rows["label"].nunique() == 1, many_unlike=is_batch_unlike(unlike, len(run.judged)),
                points=points_of(finding.result, "referable"))  # fmt: skip
    return [doubt for (doubt,) in said]


def verdicts(runs: Sequence[Evidence], findings: Sequence[Finding]) -> list[Verdict]:
    """Each grader compared with the first and with a constant answer, then the runs that were not evaluated."""
    judged = [finding.evidence.path for finding in findings]
    return told("verdicts.txt", runs=runs, findings=findings, judged=judged, spoken=SPOKEN, tones=TONES)
