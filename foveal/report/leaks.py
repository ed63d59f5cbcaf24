"""Has a grader been judged on images that it had learned from? What its folder can tell, in words.

Training looks for copies and for the same patients, and refuses them (sets/leaks.py); seen.csv lists the images that
shaped the weights, those of the starting run included.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from foveal.page.words import counted
from foveal.report.evidence import Evidence


def leak_lines(run: Evidence, before: Sequence[Evidence]) -> list[tuple[str, str]]:
    """(tone, sentence) about images that were both learned from and judged on; tones as in parts.Verdict."""
    lines = []
    for learner in (run, *before):
        if learner.options.get("allow_leaks"):
            lines.append(("bad", f"{learner.name} was run with --allow-leaks: it may be judged on images that it has "
                                 "learned from, and its figures are too good."))  # fmt: skip
    if run.seen is None:
        return [*lines, ("bad", f"{run.name} has no seen.csv: the images that shaped its weights are not known.")]
    both = leaked_ids(run)
    if both:
        lines.append(("bad", f"seen.csv, the list of what {run.name} has learned from, holds "
                             f"{counted(len(both), 'judged image')}: {', '.join(both[:5])}. Its figures are too "
                             "good."))  # fmt: skip
    if not lines:
        lines.append(("good", _no_leak(run)))
    if str(run.options.get("init")).endswith(".safetensors"):
        lines.append(("unsure", f"{run.name} starts from {run.options['init']}, a file that does not list the images "
                                "that its weights have learned from."))  # fmt: skip
    return lines


def _no_leak(run: Evidence) -> str:
    assert run.seen is not None
    judged, folds = 0 if run.predictions is None else len(run.predictions), run.options.get("folds")
    learned = f"{run.name} has learned from {counted(len(run.seen), 'image')} (seen.csv)"
    if folds:
        return (
            f"{learned} in {folds} folds; each of the {judged:,} images was graded by a grader that has not learned "
            "from it. Training keeps copies (near and mirrored ones, too) and images of one patient in one fold; this "
            "page has compared the names again."
        )
    return (
        f"{learned}, and none of its {judged:,} validation and test images is among them. Training refuses copies "
        "(near and mirrored ones, too) and images of the same patients; this page has compared the names again."
    )


def leaked_ids(run: Evidence) -> list[str]:
    """Ids that were graded although seen.csv lists them, in the same prepared set.

    Images that were graded out of fold are compared with what the grader of that fold has learned from.
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
    """The fold in which each prediction was made, 0 for those of the whole run."""
    assert run.predictions is not None
    if "fold" not in run.predictions:
        return pd.Series(0, index=run.predictions.index)
    return pd.to_numeric(run.predictions["fold"], errors="coerce").fillna(0).astype(int)
