"""select: which ungraded photographs to grade next, as a worklist.

The worklist has a row per photograph, in order: rank, id, why it was chosen, the answer of the grader, patient,
eye, camera, and where the photograph is. `foveal serve RUN --worklist worklist.csv` opens it on the page.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import tyro

from foveal.config import check
from foveal.console import progress_bar, say
from foveal.errors import FovealError
from foveal.files import check_file, write_table
from foveal.fundus.quality import UNGRADABLE
from foveal.page.render import print_template
from foveal.page.words import counted, listed
from foveal.predict.choose import choose, unsureness
from foveal.predict.cohort import cohort_set
from foveal.predict.likeness import diameters_of
from foveal.predict.model import Answers, Model, Want, joined
from foveal.predict.opened import open_model
from foveal.sets.records import PreparedSet

COLUMNS = ("rank", "id", "reason", "why", "grade", "probability", "second_grade", "second_probability", "third_grade",
           "third_probability", "unlike", "distance", "group", "eye", "camera", "source", "file", "set")  # fmt: skip
UNSURE = 0.5  # from which unsureness is named as a reason
SHOWN = 8


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """Options of `foveal select`."""

    # Prepared set, folder or table with the photographs; photographs that have a grade are not chosen.
    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    # Run folder of the grader that will learn from them.
    run: Path
    # Photographs to choose.
    number: int = 50
    # Worklist to write (.csv).
    out: Path = Path("worklist.csv")
    # Device: auto, cpu, cuda or mps.
    device: str = "auto"

    def __post_init__(self) -> None:
        check(self, "number", self.number >= 1, "at least 1")


def select(config: SelectConfig) -> pd.DataFrame:
    """Choose photographs to grade; writes and returns the worklist."""
    check_file(config.out)
    model = open_model(config.run, config.device, "auto")
    prepared = cohort_set(config.run, config.data, graded=False)
    poor = prepared.records["flags"].str.contains("|".join(UNGRADABLE))
    records = prepared.records[~poor]
    if lost := int((poor & prepared.records["label"].isna()).sum()):
        say(f"{counted(lost, 'photograph')} without a gradable retina {'is' if lost == 1 else 'are'} left out")
    graded, candidates = records[records["label"].notna()], records[records["label"].isna()]
    if candidates.empty:
        raise FovealError("label.all", f"{config.data} has no ungraded photographs", fix="give a set that has some")
    answers, unlike = _answers(model, prepared, candidates)
    shares, features = np.asarray(answers.probabilities), _features(answers)
    known = _features(_answers(model, prepared, graded)[0]) if len(graded) else features[:0]
    grades = model.readout.grades(shares)  # by the rule of the run: not always the most probable one
    patients = candidates["group"].where(candidates["group"] != "", candidates["id"])
    cells = candidates["source"] + "\n" + candidates["camera"] + "\n" + pd.Series(grades.astype(str), candidates.index)
    found, distance = choose(config.number, shares, features, known, cells.to_numpy(), patients.to_numpy())
    chosen = candidates.iloc[found].assign(unlike=[unlike[place] for place in found], distance=distance.round(4))
    table = _worklist(prepared, chosen, shares[found], grades[found], model.classes)
    write_table(config.out, table)
    rows = table.to_dict("records")
    print_template("worklist.txt", rows=rows, shown=SHOWN, candidates=len(candidates), config=config)
    return table


def _answers(model: Model, prepared: PreparedSet, records: pd.DataFrame) -> tuple[Answers, list[str]]:
    want: Want = ("probabilities", "features", "texture") if model.has_features else model.wanted
    parts, unlike = [], list[str]()
    with progress_bar("photographs", len(records)) as bar:
        for part, images in model.images_of(prepared, records):
            parts.append(model.answer(images, want))
            unlike += model.unlike(images, diameters_of(part, prepared.measures), parts[-1])
            bar.advance(len(part))
    return joined(parts), unlike


def _features(answers: Answers) -> np.ndarray:
    """[n, D]; of an ensemble, which has no features, the probabilities."""
    return np.asarray(answers.probabilities if answers.features is None else answers.features)


def _worklist(
    prepared: PreparedSet, chosen: pd.DataFrame, shares: np.ndarray, first: np.ndarray, classes: list[str]
) -> pd.DataFrame:
    """The worklist of chosen records, which have `unlike` and `distance`, their probabilities [n, K] and grades [n]."""
    across = np.arange(len(chosen))
    others = shares.copy()
    others[across, first], three = -1.0, shares.shape[1] > 2
    second, third = np.argsort(-others, axis=1, kind="stable")[:, :2].T  # the most probable of the others
    table = chosen.assign(
        rank=across + 1, set=str(prepared.path.absolute()), file=[_path_of(prepared, file) for file in chosen["file"]],
        grade=first, probability=shares[across, first].round(4),
        second_grade=second, second_probability=shares[across, second].round(4),
        third_grade=third if three else "", third_probability=shares[across, third].round(4) if three else "",
    )  # fmt: skip
    found = zip((unsureness(shares) >= UNSURE).tolist(), table["unlike"], strict=True)
    table["why"] = [" ".join(["unsure"] * unsure + ["unlike"] * bool(kinds)) or "even" for unsure, kinds in found]
    table["reason"] = [_reason(row, own, classes) for row, own in zip(table.itertuples(), shares, strict=True)]
    return table[list(COLUMNS)].reset_index(drop=True)


def _path_of(prepared: PreparedSet, file: str) -> str:
    """The photograph's file; "" if it is not there any more, or within an archive."""
    sources = map(Path, prepared.card.get("source", []))
    paths = ((source if source.is_dir() else source.parent) / file for source in sources)
    return next((str(path.absolute()) for path in paths if path.is_file()), "")


def _reason(row: Any, shares: np.ndarray, classes: list[str]) -> str:
    """The words in `why` of a photograph with probabilities [K] as a sentence; the page has its own."""
    said = [f"{name} ({share:.2f})" for name, share in zip(classes, shares, strict=True)]
    likely, other = np.argsort(-shares, kind="stable")[:2]
    given = "" if row.grade in (likely, other) else f", though graded {said[row.grade]}"
    sentences = {
        "unsure": f"unsure between {said[likely]} and {said[other]}{given}",
        "unlike": f"unlike the training photographs in {listed(row.unlike.split())}",
        "even": f"to cover cameras and grades evenly: {row.camera or row.source}, {classes[row.grade]}",
    }
    return "; ".join(sentences[word] for word in row.why.split())
