"""The flow of photographs through a study, as an SVG: how many there were, and why some were left out."""

from dataclasses import dataclass

import pandas as pd

from foveal.page.parts import SPLITS
from foveal.page.render import render
from foveal.page.words import counted
from foveal.readout.predictions import read_ungraded
from foveal.report.evidence import Evidence

LINE, PAD, GAP, WIDTH, SIDE = 18, 10, 26, 330, 300  # px: of the boxes


@dataclass(frozen=True, kw_only=True)
class Step:
    """A box of the flow, as lines of text, and the box beside it of those that leave here; [] for none."""

    lines: list[str]
    leaving: list[str]


def steps(own: Evidence, judged: Evidence) -> list[Step]:
    """From the photographs that were read to those that were judged; judged: the run itself, or its cohort."""
    assert judged.result is not None
    card, counts, about = judged.card, judged.card.get("counts", {}), judged.result["about"]
    rejected, there = int(card.get("rejected", 0)), sum(part["images"] for part in counts.values())
    rows, part = judged.predictions, about["split"]
    assert rows is not None
    found = [
        Step(
            lines=[f"{counted(there + rejected, 'photograph')} read", *([card["title"]] if card else [])],
            leaving=[f"{counted(rejected, 'file')} left out:", "not readable"] if rejected else [],
        )
    ]
    if judged is own:
        others = [f"{counted(one['images'], 'photograph')} for {words}" if name != "unlabelled" else
                  f"{counted(one['images'], 'photograph')} without a label"
                  for name, words in SPLITS.items() if name != part and (one := counts.get(name))]  # fmt: skip
        found.append(Step(lines=[f"{counted(there, 'photograph')} prepared"], leaving=others))
    else:
        learned, unlabelled = ((rows["split"] == name).sum() for name in ("train", "unlabelled"))
        others = [f"{counted(int(learned), 'photograph')} that shaped the grader"] * bool(learned)
        others += [f"{counted(int(unlabelled), 'photograph')} without a label"] * bool(unlabelled)
        found.append(Step(lines=[f"{counted(there, 'photograph')} prepared"], leaving=others))
    patients = judged.result.get("patients", {})
    lost = int(patients.get("insufficient", 0))
    leaving = [f"{counted(lost, 'patient')} without a", "gradable photograph"] if lost else []
    groups = f"of {counted(about['groups'], 'patient')}" if _patients_known(judged) else "patients not known"
    leaving += [f"{counted(lacking, 'photograph')} without a grade"] if (lacking := _ungraded(judged)) else []
    found.append(Step(lines=[f"{counted(about['images'], 'photograph')} judged", groups], leaving=leaving))
    found.append(Step(lines=_outcome(judged), leaving=[]))
    return found


def _ungraded(judged: Evidence) -> int:
    """How many labelled photographs of the judged part have no grade: ungradable or unreadable ones."""
    rows = read_ungraded(judged.path / "predictions.csv")
    assert judged.result is not None
    return int((rows["split"] == judged.result["about"]["split"]).sum())


def _patients_known(judged: Evidence) -> bool:
    rows: pd.DataFrame = judged.judged
    return bool((rows["group"] != "").any())


def _outcome(judged: Evidence) -> list[str]:
    """How many photographs of each class there were by the reference standard, and how many were graded right."""
    assert judged.result is not None
    confusion, names = judged.result["confusion"], judged.classes
    lines = [f"{name}: {sum(row):,}, of them {row[number]:,} graded so" for number, (name, row) in
             enumerate(zip(names, confusion, strict=True))]  # fmt: skip
    return ["By the reference standard", *lines]


def draw(boxes: list[Step]) -> str:
    """The SVG of the steps, from top to bottom; those that leave are to the right."""
    placed, top = [], 1
    for step in boxes:
        height = max(len(step.lines), len(step.leaving)) * LINE + 2 * PAD
        placed.append({"step": step, "y": top, "height": height})
        top += height + GAP
    size = {"width": WIDTH + GAP + SIDE + 2, "height": top - GAP + 2}
    return str(render("flow.svg", placed=placed, line=LINE, pad=PAD, gap=GAP, box_width=WIDTH, side=SIDE, **size))
