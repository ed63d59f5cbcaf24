"""The end of the model card: intended use, and what the page cannot show."""

from __future__ import annotations

from collections.abc import Sequence

from foveal.evaluate.show import SMALL_CLASS
from foveal.page.parts import Bullets, Facts, Heading, Part, Section
from foveal.page.words import capital, counted, listed
from foveal.report.evidence import Evidence
from foveal.report.findings import FEW_GROUPS, Finding
from foveal.report.words import start_of

NOT_A_DEVICE = "Research use; not a medical device. Nothing here was tested in patient care."
GENERAL_LIMITS = (
    "One data set only: results with another camera, clinic or population are not known, and are often worse.",
    "The intervals cover only the random choice of test images. They do not cover the random seed, wrong labels, or "
    "different data.",
    "The reference is the label of the data set. Experts disagree, so the figures are only as good as these labels.",
    "Images that could not be read or graded are left out; some of the hardest are among them.",
)
NOT_FOR = (
    "Diagnosis, treatment, triage, or replacing an examination by a person. It does not look for other eye diseases, "
    "or "
    "for macular oedema unless one of its classes is macular oedema."
)
REFERENCE = "The labels of the data set, unchanged. A clinical trial would use a reading centre or a panel of experts."


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
    size = f" and scaled to {listed([str(one) for one in sizes])} pixels" if sizes else ""
    learned = counted(card.get("counts", {}).get("train", {}).get("images", 0), "image")
    return [
        ("Intended for", "Research: comparing training methods, finding wrong labels, studying errors of graders."),
        ("Intended users", "People who understand the figures on this page and can look at the images themselves."),
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
            lines.append(f"{run.name} started from {start_of(run)}. The folder of that run is gone, so its curves are "
                         "missing.")  # fmt: skip
    if any(run.card.get("name") == "phantom" for run in runs):
        lines.append(
            "The photographs are computer drawings. They show that the method works, but nothing about real eyes."
        )
    return lines


def _limits_of_figures(findings: Sequence[Finding]) -> list[str]:
    fewest = min(finding.result["about"]["groups"] for finding in findings)
    small = [name for name, row in zip(findings[0].evidence.classes, findings[0].result["confusion"], strict=True)
             if sum(row) < SMALL_CLASS]  # fmt: skip
    lines = {
        "The area under the curve needs no threshold. Choose and check a threshold for use on other images.":
            any("referable_auc" in finding.metrics for finding in findings),
        "The data set does not tell which images are of the same patient. If some are, the intervals are too narrow.":
            any(not finding.patients_known for finding in findings),
        f"There are only {fewest} groups of images, so the intervals are rough.": fewest < FEW_GROUPS,
        f"There are fewer than {SMALL_CLASS} judged images each of {listed(small)}: figures for these classes are "
        "unreliable.": bool(small),
        "The validation images were used both to choose the epoch and to evaluate: the figures are somewhat too good.":
            any(finding.result["about"]["split"] != "test" for finding in findings),
        f"{len(findings) - 1} comparisons without correction for multiple testing: a difference may be due to chance.":
            len(findings) > 2,
    }  # fmt: skip
    return [line for line, holds in lines.items() if holds]
