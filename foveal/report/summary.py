"""The summary in plain words: what the run is, how good it is, where it fails, and whether it can be trusted.

Fixed rules derive every answer from the figures on the page. No sentence claims more than its interval supports.
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
    """Answers about one run, or a comparison of several, and the verdicts; relabelled: the sentences of `agree`."""
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
        ("What is it compared with?", [_against_what(finding)]),
        ("Where does it fail?", _where_it_fails(finding)),
        ("Can it be trusted?", [_trust(finding)]),
    ]


def _shared_lines(runs: Sequence[Evidence], findings: Sequence[Finding]) -> list[str]:
    """What the runs are; their figures are in tables."""
    lines = [words.what_was_trained(run) for run in runs]
    if len(findings) > 1:
        judged = words.what_was_judged(findings[0])
        names = listed([finding.name for finding in findings])
        lines = [f"{names} were {judged}. All were judged on the same images.", *lines]
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
    text = f"With the labels of “{title}”. The figures measure agreement with these labels and nothing else."
    return f"{text} {_inter_rater(finding) or 'How well experts agree with each other on these images is not known.'}"


def _inter_rater(finding: Finding) -> str:
    """How well experts agree, as given to the evaluation or measured by it; empty if unknown."""
    told = finding.result["about"].get("inter_rater")
    if told is None or "quadratic_kappa" not in finding.metrics:
        return ""
    level = f"{number(told)} (the value given to the evaluation)"
    if isinstance(told, dict):
        images = counted(told["n"], "image")
        level = f"{value_with_interval(told)}, measured on {images} with a second grade in {told['column']}"
    own = value_with_interval(finding.metrics["quadratic_kappa"])
    return f"Two human graders agree with a quadratic kappa of {level}; this grader has {own}."


def _where_it_fails(finding: Finding) -> list[str]:
    worst = (finding.result.get("harm") or {}).get("worst")
    lines = [_missed(finding), f"The worst kind of error: {worst}." if worst else "", _weak_group(finding)]
    return list(filter(None, lines)) or ["No class stands out; see the table by class."]


def _missed(finding: Finding) -> str:
    """The classes with low recall, those with too few images, and the most common error."""
    low, few = [], []
    for name, row in zip(finding.evidence.classes, finding.result["confusion"], strict=True):
        recall = finding.metrics[f"recall of {name}"]
        if 0 < sum(row) < SMALL_CLASS:
            few.append(f"{name} ({sum(row)} images)")
        elif recall["value"] is not None and recall["value"] < MISSED_OFTEN:
            low.append(f"{name}, {percent_with_interval(recall)} of {sum(row):,}")
    lines = [f"Fewer than half of the images were graded correctly for these classes: {listed(low)}."] if low else []
    lines += [f"Too few images to judge {listed(few)}."] if few else []
    return " ".join([*lines, _most_common(finding)]).strip()


def _most_common(finding: Finding) -> str:
    """The most common confusion; empty if there are no errors."""
    counts = np.array(finding.result["confusion"])
    wrong = counts - np.diag(np.diag(counts))
    if not wrong.any():
        return ""
    true, given = np.unravel_index(wrong.argmax(), wrong.shape)
    names = finding.evidence.classes
    return (
        f"The most common error: {wrong[true, given]:,} of {counts[true].sum():,} images of {names[true]} were graded "
        f"{names[given]}."
    )


def _weak_group(finding: Finding) -> str:
    weakest = lowest_group(finding)
    if weakest is None:
        return ""
    column, value, figure = weakest
    name = words.SPOKEN[words.headline_names(finding.evidence)[0]]
    return f"Among groups that are large enough, the worst is {column} = {value}: {name} {number(figure)}."


def _trust(finding: Finding) -> str:
    """Whether the figures can be trusted: as a research result at most, never for patient care."""
    doubts = _doubts(finding)
    if doubts:
        return f"Not yet, not even as a research result: {listed(doubts)}. Do not use it in patient care."
    text = "Yes, as a research result, for images like these and within the intervals given."
    return f"{text} Do not use it in patient care: it was tested on one data set only, and not in a clinic."


def _doubts(finding: Finding) -> list[str]:
    """Reasons not to rely on the figures at all."""
    run, groups = finding.evidence, finding.result["about"]["groups"]
    first = finding.against_constant.get(words.headline_names(run)[0])
    no_interval = any(part(point, "sensitivity")["low"] is None for point in points_of(finding.result, "referable"))
    doubts = {
        "it may have learned from images that it was judged on":
            bool(leaked_ids(run)) or bool(run.options.get("allow_leaks")),
        "it is not shown to beat a constant answer":
            finding.one_answer or (first is not None and first["answer"] != "better"),
        f"its figures come from only {counted(groups, 'group')} of images": groups < FEW_GROUPS,
        "its sensitivity has no interval": no_interval,
    }  # fmt: skip
    return [doubt for doubt, holds in doubts.items() if holds]
