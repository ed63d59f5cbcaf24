"""The sentences of the page: what was trained, on what, what came out, and on which images it was judged."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from foveal.page.parts import SPLITS
from foveal.page.words import counted, listed, number, value_with_interval
from foveal.report.evidence import Evidence
from foveal.report.findings import Finding
from foveal.sets.splits import HELD_OUT

METRIC_NAMES = {
    "quadratic_kappa": "Quadratic kappa", "accuracy": "Accuracy",
    "referable_auc": "Referable: area under ROC",
    "referable_average_precision": "Referable: average precision",
    "sight_threatening_auc": "Sight-threatening: area under ROC",
    "sight_threatening_average_precision": "Sight-threatening: average precision",
    "balanced_accuracy": "Balanced accuracy", "macro_f1": "Macro F1", "weighted_f1": "Weighted F1",
    "linear_kappa": "Linear kappa", "unweighted_kappa": "Unweighted kappa",
    "mean_absolute_error": "Mean error in grades", "expected_calibration_error": "Calibration error (ECE)",
    "brier": "Brier score",
}  # fmt: skip
LOWER_IS_BETTER = ("mean_absolute_error", "expected_calibration_error", "brier")
SPOKEN = {
    "quadratic_kappa": "quadratic kappa", "accuracy": "accuracy", "macro_f1": "macro F1",
    "referable_auc": "area under the ROC curve for referable disease",
}  # fmt: skip
METHOD_NAMES = {
    "simclr": "SimCLR", "supcon": "SupCon, which learns from the labels,", "byol": "BYOL", "simsiam": "SimSiam",
    "mocov3": "MoCo v3", "barlow_twins": "Barlow Twins", "vicreg": "VICReg", "dino": "DINO",
}  # fmt: skip
PARTS = SPLITS | {"all": "labelled", HELD_OUT: "held-out"}


def day_of(run: Evidence) -> str:
    """The day on which the run started; empty if not known."""
    if "started" not in run.provenance:
        return ""
    day = datetime.fromisoformat(run.provenance["started"])
    return f"{day.day} {day:%B} {day.year}".replace(" ", "\N{NO-BREAK SPACE}")


def headline_names(run: Evidence) -> list[str]:
    """The headline metrics: kappa only if the classes are ordered."""
    return ["quadratic_kappa", "accuracy", "referable_auc"] if run.ordered else ["accuracy", "macro_f1"]


def kind_of(run: Evidence) -> str:
    """`linear probe of resnet18`, `pre-training of resnet18`, …"""
    kind = "training" if run.options.get("init") == "random" else "fine-tune"
    kind = "pre-training" if run.verb == "pretrain" else "linear probe" if run.options.get("freeze") else kind
    return f"{kind} of {run.options.get('encoder')}"


def start_of(run: Evidence) -> str:
    """The starting weights, in words."""
    init = str(run.options.get("init"))
    known = {"random": "random weights", "imagenet": "ImageNet weights"}
    return known.get(init) or f"the weights of {Path(init).name}"


def what_was_trained(run: Evidence) -> str:
    """The network, its starting weights, its data, and the epoch that was kept."""
    encoder = run.options.get("encoder")
    if run.verb == "pretrain":
        method, seen = str(run.options.get("method")), 0 if run.seen is None else len(run.seen)
        sets = ", ".join(Path(str(path)).name for path in run.options.get("data", []))
        how = f"pre-trained with {METHOD_NAMES.get(method, method)} on {counted(seen, 'image')} of {sets}, "
        how += f"for {counted(run.epochs_done, 'epoch')}{'' if method == 'supcon' else ' and without any grade'}."
        how += "" if run.finished else f" It is not finished; the plan was {counted(run.epochs, 'epoch')}."
        return f"{run.name} is {encoder}, starting from {start_of(run)} and {how}"
    learned = run.images("train") + (run.images("val") if run.options.get("folds") else 0)
    images = counted(learned, "graded photograph" if run.card.get("fundus") and run.ordered else "labelled image")
    if run.options.get("freeze"):
        kind = f"a linear layer on a frozen {encoder} with {start_of(run)}, trained"
    else:
        how = "trained" if run.options.get("init") == "random" else "fine-tuned"
        kind = f"{encoder}, starting from {start_of(run)} and {how}"
    return f"{run.name} is {kind} on {images} of “{run.card.get('title', 'an unknown set')}”. {which_epoch(run)}"


def which_epoch(run: Evidence) -> str:
    """The epoch that was kept and why, or how many epochs of an unfinished run are done."""
    if folds := run.options.get("folds"):
        return (
            f"It consists of {folds} graders, one per fold, each trained on the images outside its fold. All ran for "
            f"{counted(run.epochs, 'epoch')}; no epoch was chosen using the images that it is judged on."
        )
    if not run.finished:
        return f"It is not finished: {done_of(run)}."
    if not (validation := run.images("val")):
        return f"The last of {counted(run.epochs_done, 'epoch')} was kept, because there are no validation images."
    kept = run.model.get("best_epoch")
    return f"Epoch {kept} of {run.epochs} was kept, the best on {counted(validation, 'validation image')}."


def done_of(run: Evidence) -> str:
    """`1 of 3 epochs is done`."""
    return f"{run.epochs_done} of {counted(run.epochs, 'epoch')} {'is' if run.epochs_done == 1 else 'are'} done"


def what_was_judged(finding: Finding) -> str:
    """How many images, in how many groups, the figures come from."""
    about, folds = finding.result["about"], finding.evidence.options.get("folds")
    places = f"in {counted(about['groups'], 'group')}" if finding.patients_known else "(patients are not known)"
    text = f"judged on {counted(about['images'], PARTS[about['split']] + ' image')} {places}"
    if about["split"] == "test":
        return f"{text}, which were used neither for training nor to choose the epoch"
    return f"{text}, each graded by the one of {folds} graders that did not learn from it" if folds else text


def what_came_out(finding: Finding) -> str:
    """The headline figures with their intervals, and the score of the constant answer."""
    names = [name for name in headline_names(finding.evidence) if name in finding.metrics]
    entries = [finding.metrics[name] for name in names]
    figures = [f"{SPOKEN[name]} {value_with_interval(entry)}" for name, entry in zip(names, entries, strict=True)]
    if "no interval" not in figures[0]:
        figures[0] = figures[0].replace("(", "(95\N{NO-BREAK SPACE}% interval ")
    if names[0] == "quadratic_kappa":
        figures[0] = f"agreement with the labels beyond chance, {figures[0]}"
    return (
        f"It was {what_was_judged(finding)}: {listed(figures)}. "
        f"Always answering “{finding.result['constant_answer']}”, the most common class, would score "
        f"{listed([number(entry['constant']) for entry in entries])}."
    )
