"""Verdicts in plain words, each with its evidence. No sentence claims more than its interval supports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from foveal.page.parts import TONES, Verdict
from foveal.page.words import counted, difference_with_interval
from foveal.report.evidence import Evidence
from foveal.report.findings import Finding
from foveal.report.words import SPOKEN

CLEARLY = ("good", "Clearly better than a constant answer.")
NOT_SHOWN = ("unsure", "Not shown to be better than a constant answer.")
WORSE = ("bad", "Worse than a constant answer.")
ORDERS = "Better than a constant answer in quadratic kappa, but"
# The answers in quadratic kappa and accuracy, or in accuracy alone where classes have no order; all others are worse.
AGAINST_CONSTANT = {
    ("better",): CLEARLY,
    ("cannot tell",): NOT_SHOWN,
    ("better", "better"): CLEARLY,
    ("better", "cannot tell"): ("unsure", f"{ORDERS} not shown to be better in accuracy."),
    ("better", "worse"): ("unsure", f"{ORDERS} worse in accuracy."),
    ("cannot tell", "better"): (
        "unsure",
        "Better than a constant answer in accuracy, but not shown to be better in quadratic kappa.",
    ),
    ("cannot tell", "cannot tell"): NOT_SHOWN,
}


def verdicts(runs: Sequence[Evidence], findings: Sequence[Finding]) -> list[Verdict]:
    """Each grader compared with the first and with a constant answer, then the runs that were not evaluated."""
    found = [against_first(finding, findings[0]) for finding in findings[1:]]
    for finding in findings:
        verdict = against_constant(finding)
        named = f"{finding.name}: {verdict.text[0].lower()}{verdict.text[1:]}"
        found.append(verdict if len(runs) == 1 else replace(verdict, text=named))
    judged = [finding.evidence.path for finding in findings]
    return found + [without_judgement(run) for run in runs if run.path not in judged]


def against_constant(finding: Finding) -> Verdict:
    """A grader compared with always giving the most common class."""
    if finding.one_answer:
        return Verdict(
            tone="bad",
            text="Its grades are useless.",
            grounds="It gave every image the same class. Its probabilities may still be useful: see the areas under "
            "the "
            "curves.",
        )
    compared = {name: finding.against_constant[name] for name in _names(finding)}
    tone, text = AGAINST_CONSTANT.get(tuple(entry["answer"] for entry in compared.values()), WORSE)
    always = f"always answering “{finding.result['constant_answer']}”, the most common class"
    return Verdict(tone=tone, text=text, grounds=f"Paired difference from {always}: {_figures(compared)}.")


def against_first(finding: Finding, first: Finding) -> Verdict:
    """A grader compared with the first one, on the same images."""
    assert finding.against_first is not None
    compared = {name: finding.against_first[name] for name in _names(finding)}
    (head, entry), *others = compared.items()
    said = {"better": "is better than", "worse": "is worse than", "cannot tell": "is not shown to differ from"}
    text = f"{finding.name} {said[entry['answer']]} {first.name} in {SPOKEN[head]}"
    for name, other in others:
        again = {"better": "it is better", "worse": "it is worse", "cannot tell": "no difference is shown"}
        same = other["answer"] == entry["answer"]
        text += f" and in {SPOKEN[name]}" if same else f"; in {SPOKEN[name]} {again[other['answer']]}"
    images = counted(finding.against_first["n"], "image")
    if (finding.rows["grade"].to_numpy() == first.rows["grade"].to_numpy()).all():
        text = f"{first.name} and {finding.name} gave every image the same grade"
    grounds = f"Paired difference on the same {images}: {_figures(compared)}."
    return Verdict(tone=TONES[entry["answer"]], text=f"{text}.", grounds=grounds)


def without_judgement(run: Evidence) -> Verdict:
    """A run that was not evaluated: unfinished, an encoder, or a grader without validation and test images."""
    if not run.finished:
        grounds = f"{run.epochs_done} of {counted(run.options.get('epochs', 0), 'epoch')} are done."
        return Verdict(tone="unsure", text=f"{run.name} is not finished.", grounds=grounds)
    if run.verb == "pretrain":
        healthy = run.health.get("verdict") == "healthy"
        text = f"The pre-training {run.name} {'looks healthy' if healthy else 'is doubtful'}."
        grounds = "To see how useful its features are, train a grader on them."
        return Verdict(tone="good" if healthy else "bad", text=text, grounds=grounds)
    grounds = "Its prepared set has no validation or test images, and training figures say nothing about new images."
    return Verdict(tone="unsure", text=f"The quality of {run.name} is unknown.", grounds=grounds)


def _names(finding: Finding) -> list[str]:
    return ["quadratic_kappa", "accuracy"] if finding.evidence.ordered else ["accuracy"]


def _figures(compared: dict[str, dict[str, Any]]) -> str:
    """`accuracy +0.041 (+0.010 to +0.072), better; …`."""
    figures = (
        f"{SPOKEN[name]} {difference_with_interval(entry)}, {entry['answer']}" for name, entry in compared.items()
    )
    return "; ".join(figures)
