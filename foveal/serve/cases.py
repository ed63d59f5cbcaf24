"""Cases: graded images whose features are similar to those of a photograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foveal.console import progress_bar, say
from foveal.errors import FovealError
from foveal.page.pictures import embedded
from foveal.predict.answers import joined
from foveal.predict.model import Model
from foveal.sets.records import PreparedSet, open_prepared

SHOWN = 4
MOST = 4000  # most images to search: their features are computed when the server starts
SIDE = 224  # px of a thumbnail


@dataclass(frozen=True)
class Cases:
    """Graded training images of a prepared set and their normalised features float32 [n, D]."""

    prepared: PreparedSet
    records: pd.DataFrame
    directions: np.ndarray
    classes: Sequence[str]

    def nearest(self, features: np.ndarray) -> list[dict[str, Any]]:
        """The images most similar to features float32 [D], by cosine: id, grade, similarity, picture."""
        cosines = self.directions @ (features / max(float(np.linalg.norm(features)), 1e-12))
        order = np.argsort(-cosines, kind="stable")[:SHOWN]
        chosen = self.records.iloc[order]
        found = []
        for row, cosine, pixels in zip(
            chosen.to_dict("records"), cosines[order], self.prepared.pixels(chosen), strict=True
        ):
            grade = int(row["label"])
            found.append({"id": str(row["id"]), "grade": grade, "grade_name": self.classes[grade],
                          "similarity": round(float(cosine), 4), "picture": embedded(pixels, SIDE)})  # fmt: skip
        return found


def open_cases(path: Path, model: Model) -> Cases:
    """The graded training images of a set, with their features; FovealError if set and model do not match."""
    prepared = open_prepared(path)
    if (prepared.classes, prepared.card["scale"]) != (model.classes, model.scale):
        what = f"--cases {path} has different classes or a different scale than {model.name}"
        raise FovealError("option.conflict", what, fix="give a set with the grader's scale")
    records = prepared.records[(prepared.records["split"] == "train") & prepared.records["label"].notna()]
    if not len(records):
        raise FovealError("set.no_labels", f"--cases {path} has no graded training images")
    if len(records) > MOST:
        places = np.linspace(0, len(records) - 1, MOST).astype(int)
        say(f"similar cases come from {MOST:,} of the {len(records):,} graded images, evenly spaced")
        records = records.iloc[places]
    if not model.has_features:
        what = f"--cases: {model.name} gives no features to compare images: it is an ensemble or an older export"
        raise FovealError("option.conflict", what, fix="serve one grader, or export it again")
    parts = []
    with progress_bar("features of cases", len(records)) as bar:
        for part, images in model.images_of(prepared, records):
            parts.append(model.answer(images, ("features",)))
            bar.advance(len(part))
    features = joined(parts).features
    assert features is not None
    lengths = np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
    return Cases(prepared, records, features / lengths, model.classes)
