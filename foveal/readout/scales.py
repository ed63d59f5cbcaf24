"""What the classes of a grader mean: their names, their order, and from which class on an image is referred.

`referred` is the one place that decides whether an image is referred, for predict, serve, evaluate and report alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# The lowest grade above a cutoff, per scale.
REFERABLE_FROM = {"icdr": 2}  # moderate NPDR (Gulshan et al. 2016)
SIGHT_THREATENING_FROM = {"icdr": 3}  # severe NPDR and above; the macula is not graded (Wilkinson et al. 2003)


def referred(grades: np.ndarray, lowest: int) -> np.ndarray:
    """bool [n]: which images are referred, from grades int [n]: those with the class `lowest` or above.

    The grade decides, not a threshold of a probability, so that a table, the server and a printed page never disagree
    about an image. Operating points show what thresholds would do in its place.
    """
    return np.asarray(grades >= lowest)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Class names in label order, whether that order is one of severity, and the lowest classes above two cutoffs."""

    names: Sequence[str]
    ordered: bool
    referable_from: int | None = None
    sight_threatening_from: int | None = None

    @property
    def cuts(self) -> dict[str, int]:
        """target -> lowest class that is positive, for the cutoffs that divide these classes; {} without an order."""
        cuts = {"referable": self.referable_from, "sight_threatening": self.sight_threatening_from}
        return {name: cut for name, cut in cuts.items() if self.ordered and cut and cut < len(self.names)}


def referable_from(scale: str) -> int | None:
    """The lowest class that is referred, on a scale or a map of it; None where that is not known."""
    return class_that_starts_at(scale, REFERABLE_FROM)


def class_that_starts_at(scale: str, grades: dict[str, int]) -> int | None:
    """The class that begins at a grade of the original scale; None where that is not known.

    scale: as in model.json, "icdr" or, with merged classes, "icdr 0,1,2,3+4". grades: name of the scale -> grade.
    With {"icdr": 3}: "icdr" gives 3, "icdr 0,1,2,3+4" 3, "icdr 0+1+2,3+4" 1, and "icdr 0+1,2+3+4", which mixes, None.
    """
    name, _, plan = scale.partition(" ")
    first = grades.get(name)
    if first is None or not plan:
        return first
    members = [[int(grade) >= first for grade in part.split("+")] for part in plan.split(",")]
    whole = [all(part) for part in members]
    mixed = any(any(part) != all(part) for part in members)
    return None if mixed or whole != sorted(whole) or not any(whole) else whole.index(True)
