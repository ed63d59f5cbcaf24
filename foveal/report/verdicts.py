"""Verdicts in plain words, each with its grounds; a sentence claims no more than its interval does."""

from __future__ import annotations

from typing import Any

from foveal.page.parts import TONES, Verdict
from foveal.page.words import counted, difference_with_interval
from foveal.report.evidence import Evidence
from foveal.report.findings import Finding
from foveal.report.words import SPOKEN

CLEARLY = "Clearly better than a constant answer."
UNTOLD = "Cannot be told from a constant answer."
ORDERS = "Orders the grades better than a constant answer, but"
# The answers in quadratic kappa and accuracy, or in accuracy alone where classes have no order; all others are worse.
AGAINST_CONSTANT = {
    ("better",): ("good", CLEARLY),
    ("cannot tell",): ("unsure", UNTOLD),
    ("better", "better"): ("good", CLEARLY),
    ("better", "cannot tell"): ("unsure", f"{ORDERS} is not shown to be right more often."),
    ("better", "worse"): ("unsure", f"{ORDERS} is right less often."),
    ("cannot tell", "better"): (
        "unsure",
        "Right more often than a constant answer, but not shown to order the grades.",
    ),
    ("cannot tell", "cannot tell"): ("unsure", UNTOLD),
}


def against_constant(finding: Finding) -> Verdict:
    """A grader against always giving the most common class."""
    if finding.one_answer:
        return Verdict(
            tone="bad",
            text="Its grades say nothing.",
            grounds="Every image was given the same class; the areas under curves tell what its probabilities know.",
        )
    compared = {name: finding.against_constant[name] for name in _names(finding)}
    answers = tuple(entry["answer"] for entry in compared.values())
    tone, text = AGAINST_CONSTANT.get(answers, ("bad", "Worse than a constant answer."))
    always = f"always answering “{finding.result['constant_answer']}”, which depends on the images drawn as well"
    return Verdict(tone=tone, text=text, grounds=f"Paired difference to {always}: {_figures(compared)}.")


def against_first(finding: Finding, first: Finding) -> Verdict:
    """A grader against the first one, on the same images."""
    assert finding.against_first is not None
    compared = {name: finding.against_first[name] for name in _names(finding)}
    (head, entry), *others = compared.items()
    said = {"better": "is better than", "worse": "is worse than", "cannot tell": "cannot be told from"}
    text = f"{finding.evidence.name} {said[entry['answer']]} {first.evidence.name} in {SPOKEN[head]}"
    for name, other in others:
        again = {"better": "it is better", "worse": "it is worse", "cannot tell": "no difference can be told"}
        same = other["answer"] == entry["answer"]
        text += f" and in {SPOKEN[name]}" if same else f"; in {SPOKEN[name]} {again[other['answer']]}"
    images = counted(finding.against_first["n"], "image")
    if (finding.rows["grade"].to_numpy() == first.rows["grade"].to_numpy()).all():
        text = f"{first.evidence.name} and {finding.evidence.name} gave every image the same grade"
    grounds = f"Paired difference on the same {images}: {_figures(compared)}."
    return Verdict(tone=TONES[entry["answer"]], text=f"{text}.", grounds=grounds)


def without_judgement(run: Evidence) -> Verdict:
    """A run without judged images: an unfinished one, an encoder, or a grader that nothing was kept back for."""
    if not run.finished:
        grounds = f"{run.epochs_done} of {counted(run.options.get('epochs', 0), 'epoch')} are done."
        return Verdict(tone="unsure", text=f"{run.name} is not finished.", grounds=grounds)
    if run.verb == "pretrain":
        healthy = run.health.get("verdict") == "healthy"
        text = f"The pre-training {run.name} {'looks healthy' if healthy else 'is doubtful'}."
        grounds = "What its features are worth shows only in a grader that is trained on them."
        return Verdict(tone="good" if healthy else "bad", text=text, grounds=grounds)
    grounds = "Its prepared set has no validation or test images, and training figures say nothing about new ones."
    return Verdict(tone="unsure", text=f"Nothing is known of the quality of {run.name}.", grounds=grounds)


def _names(finding: Finding) -> list[str]:
    return ["quadratic_kappa", "accuracy"] if finding.evidence.ordered else ["accuracy"]


def _figures(compared: dict[str, dict[str, Any]]) -> str:
    """`accuracy +0.04 (0.01 to 0.07), better; …`."""
    return "; ".join(
        f"{SPOKEN[name]} {difference_with_interval(entry)}, {entry['answer']}" for name, entry in compared.items()
    )
