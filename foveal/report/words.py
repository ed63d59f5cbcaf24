"""The names of metrics, of parts of a set and of kinds of runs; templates/sentences.html has the sentences."""

from datetime import datetime

from foveal.page.parts import SPLITS
from foveal.report.evidence import Evidence
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
