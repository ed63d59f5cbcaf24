"""The model card's end: what the grader is for, what it is not for, and what the page cannot show."""

from __future__ import annotations

from collections.abc import Sequence

from foveal.evaluate.show import SMALL_CLASS
from foveal.page.words import counted, listed
from foveal.report.evidence import Evidence, starting_folder, starting_run
from foveal.report.findings import FEW_GROUPS, Finding
from foveal.report.words import start_of


def intended(runs: Sequence[Evidence]) -> list[tuple[str, str]]:
    """Use, users and limits of use as (name, text), from the card of the data; empty without a grader."""
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
        ("Input", f"{images[0].upper()}{images[1:]} like those of “{card['title']}”, prepared in the same way{size}."),
        ("Output", f"A probability for each of {listed([str(name) for name in card['classes']])}, and a grade."),
        ("Learned from", f"{learned} of “{card['title']}”; licence of the data: {card['licence'] or 'not stated'}."),
        ("Reference", REFERENCE),
    ]


NOT_FOR = (
    "Diagnosis, treatment, triage, or letting anyone go unseen by a person. It does not look for other eye disease, "
    "nor for macular oedema unless a class says so."
)
REFERENCE = "The labels of the data set, taken as they are. A clinical trial would use a reading centre or a panel."


def limits(runs: Sequence[Evidence], findings: Sequence[Finding]) -> list[str]:
    """What the page cannot show; the general first, then what these runs add."""
    if not findings:
        return [NOT_A_DEVICE]
    lines = [NOT_A_DEVICE, *GENERAL_LIMITS]
    if any("referable_auc" in finding.metrics for finding in findings):
        lines.append(
            "The referable figure needs no threshold; one for use must be chosen, and checked, on other images."
        )
    if any(not finding.patients_known for finding in findings):
        lines.append(
            "The source does not say which images are of one patient. If some are, the intervals are too narrow."
        )
    fewest = min(finding.result["about"]["groups"] for finding in findings)
    if fewest < FEW_GROUPS:
        lines.append(f"There are only {fewest} groups to draw from; intervals from so few are rough.")
    small = [name for name, row in zip(findings[0].evidence.classes, findings[0].result["confusion"], strict=True)
             if sum(row) < SMALL_CLASS]  # fmt: skip
    if small:
        lines.append(
            f"Fewer than {SMALL_CLASS} judged images each are {listed(small)}: what is said of them is little more "
            "than an anecdote."
        )
    if any(finding.result["about"]["split"] != "test" for finding in findings):
        lines.append(
            "Images of the validation part chose the epoch and are among the judged: figures are somewhat too good."
        )
    if len(findings) > 2:
        lines.append(
            f"{len(findings) - 1} comparisons stand side by side, none corrected for the others: one may differ by "
            "luck."
        )
    for run in runs:
        if starting_run(run) is not None and starting_folder(run) is None:
            lines.append(
                f"{run.name} started from {start_of(run)}. That run's folder is not there: its curves are missing."
            )
    if any(run.card.get("name") == "phantom" for run in runs):
        lines.append("The photographs are drawings. They show that the way works, and nothing about eyes.")
    return lines


NOT_A_DEVICE = "Research use; not a medical device. Nothing here has been tried in care."
GENERAL_LIMITS = (
    "One data set: how the grader does with another camera, clinic or population is not known, and is often worse.",
    "The intervals hold the chance in which images were drawn for the test. They do not hold the luck of the seed, "
    "mistakes in the labels, or a shift of the data.",
    "The reference is the label of the data set. Experts differ among themselves, and no figure here is better than "
    "the reference that it is measured by.",
    "Pictures that could not be read or graded are left out, and with them some of the hardest.",
)
