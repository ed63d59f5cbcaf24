"""The summary in plain words: what it is, how good, against what, where it fails, and what it may be trusted for.

Fixed rules make every answer from the figures on the page; no sentence claims more than its interval does.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foveal.evaluate.show import SMALL_CLASS
from foveal.page.parts import Answers, Bullets, Note, Part, Section
from foveal.page.words import counted, listed, number, percent_with_interval, value_with_interval
from foveal.report import words
from foveal.report.evidence import Evidence
from foveal.report.findings import FEW_GROUPS, Finding
from foveal.report.leaks import leaked_ids
from foveal.report.operating import part, points_of, sentence
from foveal.report.subgroups import lowest_group
from foveal.report.verdicts import verdicts

MISSED_OFTEN = 0.5  # recall of a class below which most of its images are missed


def summary(runs: Sequence[Evidence], findings: Sequence[Finding], relabelled: Sequence[str]) -> Section:
    """Answers about one run, or what several have in common, and the verdicts; relabelled: sentences of `agree`."""
    parts: list[Part] = []
    if len(runs) == 1:
        parts.append(Answers(answers(runs[0], findings[0] if findings else None)))
    else:
        first, *others = [*_shared_lines(runs, findings), *relabelled]
        parts += [Note(first, "lead"), Bullets(others)]
    device = Note("Research use; not a medical device.", "device")
    return Section(name="summary", title="Summary", parts=[*parts, *verdicts(runs, findings), device])


def answers(run: Evidence, finding: Finding | None) -> list[tuple[str, list[str]]]:
    """(question, answer as paragraphs) about one run."""
    found = [("What is it?", [words.what_was_trained(run)])]
    if finding is None:
        return found
    return [
        *found,
        ("How good is it?", _how_good(finding)),
        ("Measured against what?", [_against_what(finding)]),
        ("Where does it fail?", _where_it_fails(finding)),
        ("May it be trusted?", [_trust(finding)]),
    ]


def _shared_lines(runs: Sequence[Evidence], findings: Sequence[Finding]) -> list[str]:
    """What several runs are; their figures stand in tables."""
    lines = [words.what_was_trained(run) for run in runs]
    if len(findings) > 1:
        judged = words.what_was_judged(findings[0])
        names = listed([finding.name for finding in findings])
        lines = [f"{names} were {judged}. The images are the same for each of them.", *lines]
    doubted: dict[str, list[str]] = {}
    for finding in findings:
        for doubt in _doubts(finding):
            doubted.setdefault(doubt, []).append(finding.name)
    if doubted:
        said = [f"{doubt} ({listed(names)})" for doubt, names in doubted.items()]
        lines.append(f"Reasons not to rely on these figures: {listed(said)}.")
    return lines


def _how_good(finding: Finding) -> list[str]:
    lines = [words.what_came_out(finding)]
    for target in ("referable", "sight_threatening"):
        lines += [sentence(point, target) for point in points_of(finding.result, target)[:1]]
    return lines


def _against_what(finding: Finding) -> str:
    title = finding.evidence.card.get("title", "its data set")
    text = f"The labels that came with “{title}”. Agreement with them is all that is measured."
    return f"{text} {_inter_rater(finding) or 'How far experts agree among themselves on these images is not known.'}"


def _inter_rater(finding: Finding) -> str:
    """How far experts agree, as the evaluation was told or has measured; empty where it was not."""
    told = finding.result["about"].get("inter_rater")
    if told is None or "quadratic_kappa" not in finding.metrics:
        return ""
    level = f"{number(told)}, as the evaluation was told"
    if isinstance(told, dict):
        level = f"{value_with_interval(told)}, measured on {counted(told['n'], 'image')} by {told['column']}"
    own = value_with_interval(finding.metrics["quadratic_kappa"])
    return f"Two readers of such images agree with a quadratic kappa of {level}; the grader has {own}."


def _where_it_fails(finding: Finding) -> list[str]:
    worst = (finding.result.get("harm") or {}).get("worst")
    lines = [_missed(finding), f"The worst kind of error: {worst}." if worst else "", _weak_group(finding)]
    return list(filter(None, lines)) or ["No class stands out; see the table by class."]


def _missed(finding: Finding) -> str:
    """The classes of which most images got another grade, those with too few to tell, and the most common error."""
    low, few = [], []
    for name, row in zip(finding.evidence.classes, finding.result["confusion"], strict=True):
        recall = finding.metrics[f"recall of {name}"]
        if 0 < sum(row) < SMALL_CLASS:
            few.append(f"{name} ({sum(row)} images)")
        elif recall["value"] is not None and recall["value"] < MISSED_OFTEN:
            low.append(f"{name}, {percent_with_interval(recall)} of {sum(row):,}")
    lines = [f"Fewer than half of the images got their grade of {listed(low)}."] if low else []
    lines += [f"Too few images to say anything of {listed(few)}."] if few else []
    return " ".join([*lines, _most_common(finding)]).strip()


def _most_common(finding: Finding) -> str:
    """The error that most images share; empty where there is none."""
    counts = np.array(finding.result["confusion"])
    wrong = counts - np.diag(np.diag(counts))
    if not wrong.any():
        return ""
    true, given = np.unravel_index(wrong.argmax(), wrong.shape)
    names = finding.evidence.classes
    return (
        f"The most common error: {wrong[true, given]:,} of {counts[true].sum():,} images of {names[true]} are called "
        f"{names[given]}."
    )


def _weak_group(finding: Finding) -> str:
    weakest = lowest_group(finding)
    if weakest is None:
        return ""
    column, value, figure = weakest
    name = words.SPOKEN[words.headline_names(finding.evidence)[0]]
    return f"Of the groups that are large enough, it does worst where {column} is {value}: {name} {number(figure)}."


def _trust(finding: Finding) -> str:
    """For research where nothing speaks against it, and never for care."""
    doubts = _doubts(finding)
    if doubts:
        return f"Not yet, not even as a result: {listed(doubts)}. Not for care."
    text = "As a result of research, for images like these and within the intervals given."
    return f"{text} Not for care: it was tried on one data set, by no clinic, and no patient was followed."


def _doubts(finding: Finding) -> list[str]:
    """Reasons not to rely on the figures at all."""
    run, groups = finding.evidence, finding.result["about"]["groups"]
    first = finding.against_constant.get(words.headline_names(run)[0])
    no_interval = any(part(point, "sensitivity")["low"] is None for point in points_of(finding.result, "referable"))
    doubts = {
        "images that it was judged on may have been learned from":
            bool(leaked_ids(run)) or bool(run.options.get("allow_leaks")),
        "it is not shown to beat a constant answer":
            finding.one_answer or (first is not None and first["answer"] != "better"),
        f"its figures rest on {counted(groups, 'group')} of images only": groups < FEW_GROUPS,
        "its sensitivity has no interval": no_interval,
    }  # fmt: skip
    return [doubt for doubt, holds in doubts.items() if holds]
