"""The end of the model card: what the grader is for, what it is not for, and what the page cannot show."""

from __future__ import annotations

from collections.abc import Sequence

from foveal.evaluate.show import SMALL_CLASS
from foveal.page.parts import Bullets, Facts, Heading, Part, Section
from foveal.page.words import capital, counted, listed
from foveal.report.evidence import Evidence
from foveal.report.findings import FEW_GROUPS, Finding
from foveal.report.words import start_of

NOT_A_DEVICE = "Research use; not a medical device. Nothing here has been tried in care."
GENERAL_LIMITS = (
    "One data set: how well the grader does with another camera, clinic or population is not known and is often worse.",
    "The intervals cover the chance in which images were drawn for the test. They do not cover the choice of the seed, "
    "mistakes in the labels, or a shift of the data.",
    "The reference is the label of the data set. Experts differ among themselves, and no figure here is better than "
    "the reference that it is measured by.",
    "Pictures that could not be read or graded are left out, and with them some of the hardest.",
)
NOT_FOR = (
    "Diagnosis, treatment, triage, or sparing anyone an examination by a person. It does not look for other eye "
    "disease, nor for macular oedema unless a class says so."
)
REFERENCE = "The labels of the data set, taken as they are. A clinical trial would use a reading centre or a panel."


def use_and_limits(runs: Sequence[Evidence], findings: Sequence[Finding]) -> Section:
    """Intended use, from the card of the data, and what the page cannot show."""
    intended = _intended(runs)
    facts: list[Part] = [Facts(intended, "wide")] if intended else []
    parts = [*facts, Heading("What this page cannot show"), Bullets(limits(runs, findings))]
    return Section(name="limits", title="Intended use and limits", short="Use and limits", parts=parts)


def _intended(runs: Sequence[Evidence]) -> list[tuple[str, str]]:
    """Use, users and limits of use; empty without a grader."""
    graders = [run for run in runs if run.verb == "train" and run.card]
    if not graders:
        return []
    card = graders[0].card
    images = "colour photographs of the back of the eye" if card.get("fundus") else "images"
    sizes = sorted({int(run.model["image_size"]) for run in graders if "image_size" in run.model})
    size = f", which it sees at {listed([str(one) for one in sizes])} pixels" if sizes else ""
    learned = counted(card.get("counts", {}).get("train", {}).get("images", 0), "image")
    return [
        ("Intended for", "Research: comparing ways of training, finding doubtful labels, studying where graders fail."),
        ("Intended users", "People who can read the figures on this page and see the images themselves."),
        ("Not intended for", NOT_FOR),
        ("Input", f"{capital(images)} like those of “{card['title']}”, prepared in the same way{size}."),
        ("Output", f"A probability for each of {listed([str(name) for name in card['classes']])}, and a grade."),
        ("Learned from", f"{learned} of “{card['title']}”; licence of the data: {card['licence'] or 'not stated'}."),
        ("Reference", REFERENCE),
    ]


def limits(runs: Sequence[Evidence], findings: Sequence[Finding]) -> list[str]:
    """What the page cannot show: the general limits first, then those of these runs."""
    if not findings:
        return [NOT_A_DEVICE]
    lines = [NOT_A_DEVICE, *GENERAL_LIMITS, *_limits_of_figures(findings)]
    for run in runs:
        if run.starting_run is not None and run.starting_folder is None:
            lines.append(f"{run.name} started from {start_of(run)}. The folder of that run is gone: its curves are "
                         "missing.")  # fmt: skip
    if any(run.card.get("name") == "phantom" for run in runs):
        lines.append("The photographs are drawings. They show that the method works, and nothing about eyes.")
    return lines


def _limits_of_figures(findings: Sequence[Finding]) -> list[str]:
    fewest = min(finding.result["about"]["groups"] for finding in findings)
    small = [name for name, row in zip(findings[0].evidence.classes, findings[0].result["confusion"], strict=True)
             if sum(row) < SMALL_CLASS]  # fmt: skip
    lines = {
        "The referable figure needs no threshold; one for use must be chosen, and checked, on other images.":
            any("referable_auc" in finding.metrics for finding in findings),
        "The source does not say which images are of one patient. If some are, the intervals are too narrow.":
            any(not finding.patients_known for finding in findings),
        f"There are only {fewest} groups to draw from; intervals from so few are rough.": fewest < FEW_GROUPS,
        f"There are fewer than {SMALL_CLASS} judged images of {listed(small)} (each): what the page says of them is "
        "little more than an anecdote.": bool(small),
        "The images of the validation part chose the epoch and are judged, too: the figures are somewhat too good.":
            any(finding.result["about"]["split"] != "test" for finding in findings),
        f"{len(findings) - 1} comparisons stand side by side, none corrected for the others: one may differ by chance.":
            len(findings) > 2,
    }  # fmt: skip
    return [line for line, holds in lines.items() if holds]
