"""The sentences of the page: what was done, on what, what came out, and what that cannot show."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from foveal.page.words import counted, listed, number, value_with_interval
from foveal.report.evidence import Evidence, best_epoch
from foveal.report.findings import Finding

METRIC_NAMES = {
    "quadratic_kappa": "Quadratic kappa",
    "accuracy": "Accuracy",
    "referable_auc": "Referable: area under ROC",
    "referable_average_precision": "Referable: average precision",
    "sight_threatening_auc": "Sight-threatening: area under ROC",
    "sight_threatening_average_precision": "Sight-threatening: average precision",
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro F1",
    "weighted_f1": "Weighted F1",
    "linear_kappa": "Linear kappa",
    "unweighted_kappa": "Unweighted kappa",
    "mean_absolute_error": "Mean error in grades",
    "expected_calibration_error": "Calibration error (ECE)",
    "brier": "Brier score",
}
LOWER_IS_BETTER = ("mean_absolute_error", "expected_calibration_error", "brier")
SPOKEN = {
    "quadratic_kappa": "quadratic kappa",
    "accuracy": "accuracy",
    "macro_f1": "macro F1",
    "referable_auc": "area under the ROC curve for referable disease",
}
METHOD_NAMES = {
    "simclr": "SimCLR", "supcon": "SupCon, which learns from the labels,", "byol": "BYOL", "simsiam": "SimSiam",
    "mocov3": "MoCo v3", "barlow_twins": "Barlow Twins", "vicreg": "VICReg", "dino": "DINO",
}  # fmt: skip
PARTS = {"test": "test", "val": "validation", "train": "training", "all": "labelled"}


def day_of(run: Evidence) -> str:
    """The day on which the run was started; empty where that is not known."""
    if "started" not in run.provenance:
        return ""
    day = datetime.fromisoformat(run.provenance["started"])
    return f"{day.day} {day:%B} {day.year}".replace(" ", "\N{NO-BREAK SPACE}")


def headline_names(run: Evidence) -> list[str]:
    """The metrics that come first: kappa only where classes have an order."""
    if run.ordered:
        return ["quadratic_kappa", "accuracy", "referable_auc"]
    return ["accuracy", "macro_f1"]


def kind_of(run: Evidence) -> str:
    """`linear probe of resnet18`, `pre-training of resnet18`, …"""
    if run.verb == "pretrain":
        kind = "pre-training"
    elif run.options.get("freeze"):
        kind = "linear probe"
    else:
        kind = "training" if run.options.get("init") == "random" else "fine-tune"
    return f"{kind} of {run.options.get('encoder')}"


def start_of(run: Evidence) -> str:
    """The starting weights, in words."""
    init = str(run.options.get("init"))
    known = {"random": "random weights", "imagenet": "ImageNet weights"}
    return known.get(init) or f"the weights of {Path(init).name}"


def what_was_trained(run: Evidence) -> str:
    """The network, its start and its data, and what became of it."""
    if run.verb == "pretrain":
        return _what_was_pretrained(run)
    parts = ("train", "val") if run.options.get("folds") else ("train",)
    learned = sum(run.card.get("counts", {}).get(part, {}).get("images", 0) for part in parts)
    images = "graded photograph" if run.card.get("fundus") and run.ordered else "labelled image"
    trained = f"{'trained' if run.options.get('init') == 'random' else 'fine-tuned'} on"
    kind = f"{run.options.get('encoder')}, starting from {start_of(run)} and {trained}"
    if run.options.get("freeze"):
        frozen = f"{run.options.get('encoder')} with {start_of(run)}, which stayed as they were"
        kind = f"a linear layer on {frozen}, trained on"
    title = run.card.get("title", "an unknown set")
    return f"{run.name} is {kind} {counted(learned, images)} of “{title}”. {which_epoch(run)}"


def which_epoch(run: Evidence) -> str:
    """The epoch that was kept and why, or how far an unfinished run has come."""
    best, planned = best_epoch(run), run.options.get("epochs")
    if run.options.get("folds"):
        return (
            f"It is {run.options['folds']} graders, each of which has not learned from a part of them (folds) and ran "
            f"all {planned} epochs: the images that it is judged on chose nothing."
        )
    if not run.finished:
        return f"It has not come to its end: {run.epochs_done} of {planned} epochs are done."
    validation = run.card.get("counts", {}).get("val", {}).get("images", 0)
    if not validation:
        return f"The last of {counted(run.epochs_done, 'epoch')} was kept, as there is no validation part to choose by."
    return f"Epoch {best} of {planned} was kept, the best on {counted(validation, 'validation image')}."


def _what_was_pretrained(run: Evidence) -> str:
    method, images = str(run.options.get("method")), 0 if run.seen is None else len(run.seen)
    sets = ", ".join(Path(str(path)).name for path in run.options.get("data", []))
    text = (
        f"{run.name} is {run.options.get('encoder')}, starting from {start_of(run)} and pre-trained with "
        f"{METHOD_NAMES.get(method, method)} on {counted(images, 'image')} of {sets}, "
        f"for {counted(run.epochs_done, 'epoch')}{'' if method == 'supcon' else ' and without using any grade'}."
    )
    return text if run.finished else f"{text} It has not come to its end, which is {run.options.get('epochs')} epochs."


def what_was_judged(finding: Finding) -> str:
    """On how many images of how many patients the figures rest."""
    about = finding.result["about"]
    part = PARTS[about["split"]]
    places = f"in {counted(about['groups'], 'group')}" if finding.patients_known else "(patients are not known)"
    text = f"judged on {counted(about['images'], f'{part} image')} {places}"
    if finding.evidence.options.get("folds") and about["split"] != "test":
        return (
            f"{text}, each graded by the one grader of {finding.evidence.options['folds']} that had not learned from it"
        )
    return f"{text}, used neither for training nor to choose the epoch" if about["split"] == "test" else text


def what_came_out(finding: Finding) -> str:
    """The headline figures with their intervals, and what the constant answer would reach."""
    names = [name for name in headline_names(finding.evidence) if name in finding.metrics]
    entries = [finding.metrics[name] for name in names]
    figures = [f"{SPOKEN[name]} {value_with_interval(entry)}" for name, entry in zip(names, entries, strict=True)]
    figures[0] = figures[0].replace("(", "(95\N{NO-BREAK SPACE}% interval ")
    if names[0] == "quadratic_kappa":
        figures[0] = f"agreement with the labels beyond chance, {figures[0]}"
    constants = listed([number(entry["constant"]) for entry in entries])
    return (
        f"It was {what_was_judged(finding)}: {listed(figures)}. "
        f"Always answering “{finding.result['constant_answer']}”, the most common class, would reach {constants}."
    )
