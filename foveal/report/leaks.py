"""Was a grader evaluated on images it had learned from? What its folder tells.

Training stops if it finds copies or the same patients on both sides (sets/leaks.py). seen.csv lists every image that
the weights were trained on, including those of the starting run.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from foveal.page.words import counted
from foveal.report.evidence import Evidence


def leak_lines(run: Evidence, before: Sequence[Evidence]) -> list[tuple[str, str]]:
    """(tone, sentence) about images used both for training and for evaluation; tones as in parts.Verdict."""
    lines = []
    for learner in (run, *before):
        if learner.options.get("allow_leaks"):
            lines.append(("bad", f"{learner.name} was run with --allow-leaks: it may have been evaluated on images "
                                 "that "
                                 "it learned from, so its figures may be too good."))  # fmt: skip
    if run.seen is None:
        return [*lines, ("bad", f"{run.name} has no seen.csv: the images that it learned from are not known.")]
    both = leaked_ids(run)
    if both:
        lines.append(("bad", f"seen.csv, the list of the images that {run.name} learned from, contains "
                             f"{counted(len(both), 'judged image')}: {', '.join(both[:5])}. Its figures are too "
                             "good."))  # fmt: skip
    if not lines:
        lines.append(("good", _no_leak(run)))
    if str(run.options.get("init")).endswith(".safetensors"):
        lines.append(("unsure", f"{run.name} starts from {run.options['init']}, a file that does not tell which images "
                                "its weights were trained on."))  # fmt: skip
    return lines


def _no_leak(run: Evidence) -> str:
    assert run.seen is not None
    judged, folds = 0 if run.predictions is None else len(run.predictions), run.options.get("folds")
    learned = f"{run.name} learned from {counted(len(run.seen), 'image')} (seen.csv)"
    if folds:
        return (
            f"{learned} in {folds} folds; each of the {judged:,} images was graded by a grader that did not learn from "
            "it. Training keeps all images of a patient, and copies of an image (also near and mirrored ones), in the "
            "same fold. This page checked the image ids again."
        )
    return (
        f"{learned}; none of its {judged:,} validation and test images is among them. Training stops if it finds "
        "copies "
        "(also near and mirrored ones) or images of the same patients. This page checked the image ids again."
    )


def leaked_ids(run: Evidence) -> list[str]:
    """Ids of graded images that seen.csv also lists, in the same prepared set.

    Out-of-fold predictions are compared with the images that the grader of that fold learned from.
    """
    if run.seen is None or run.predictions is None:
        return []
    folds = fold_numbers(run)
    found: set[str] = set()
    for number in folds.unique():
        file = run.path / f"fold{number}" / "seen.csv"
        seen = pd.read_csv(file, dtype=str, keep_default_na=False) if number and file.is_file() else run.seen
        own = seen.loc[seen["set"] == str(run.options.get("data")), "id"]
        found |= set(own) & set(run.predictions.loc[folds == number, "id"])
    return sorted(found)


def fold_numbers(run: Evidence) -> pd.Series:
    """The fold of each prediction; 0 if it was made by a grader without folds."""
    assert run.predictions is not None
    if "fold" not in run.predictions:
        return pd.Series(0, index=run.predictions.index)
    return pd.to_numeric(run.predictions["fold"], errors="coerce").fillna(0).astype(int)
