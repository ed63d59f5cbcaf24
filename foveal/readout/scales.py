"""The meaning of a grader's classes: their names, their order, and the lowest class that is referred."""

from collections.abc import Sequence
from typing import NamedTuple

# The lowest grade above each cutoff, per scale.
REFERABLE_FROM = {"icdr": 2}  # moderate NPDR (Gulshan et al. 2016)
SIGHT_THREATENING_FROM = {"icdr": 3}  # severe NPDR and above; the macula is not graded (Wilkinson et al. 2003)


class Scale(NamedTuple):
    """Class names in label order, whether they are `ordered` by severity, and the lowest classes above two cutoffs."""

    names: Sequence[str]
    ordered: bool
    referable_from: int | None = None
    sight_threatening_from: int | None = None

    @property
    def cuts(self) -> dict[str, int]:
        """target -> lowest positive class, for each cutoff that applies to these classes; {} without an order."""
        cuts = {"referable": self.referable_from, "sight_threatening": self.sight_threatening_from}
        return {name: cut for name, cut in cuts.items() if self.ordered and cut and cut < len(self.names)}


def referable_from(scale: str) -> int | None:
    """The lowest class that is referred, on a scale or with merged grades; None if unknown."""
    return class_that_starts_at(scale, REFERABLE_FROM)


def class_that_starts_at(scale: str, grades: dict[str, int]) -> int | None:
    """The class that starts at a grade of the original scale; None if unknown.

    scale: as in model.json, "icdr" or, with merged classes, "icdr 0,1,2,3+4". grades: name of the scale -> grade.
    {"icdr": 3} is class 1 of "icdr 0+1+2,3+4", and no class of "icdr 0+1,2+3+4", which merges both sides of 3.
    """
    name, _, plan = scale.partition(" ")
    first = grades.get(name)
    if first is None or not plan:
        return first
    members = [[int(grade) >= first for grade in part.split("+")] for part in plan.split(",")]
    whole = [all(part) for part in members]
    mixed = any(any(part) != all(part) for part in members)
    return None if mixed or whole != sorted(whole) or not any(whole) else whole.index(True)
