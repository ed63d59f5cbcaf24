"""Answers: the row of `foveal predict` for one photograph as JSON, with pictures and similar cases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from foveal.errors import FovealError
from foveal.fundus.decode import decode
from foveal.fundus.overlay import heat_layer, retina_of, to_jpeg
from foveal.fundus.preparation import Prepared, locate
from foveal.fundus.quality import FLAGS
from foveal.page.pictures import data_address
from foveal.predict.model import Model
from foveal.serve.batching import Judged
from foveal.serve.intake import Sent

PICTURE_SIDE = 1600  # px: longest side of a picture that is sent back


@dataclass(frozen=True)
class Wanted:
    """What an answer contains besides the grade."""

    pictures: bool = False
    similar: bool = False

    @property
    def looks(self) -> bool:
        """Whether maps and features are needed."""
        return self.pictures or self.similar


def answer_of(model: Model, sent: Sent, prepared: Prepared, judged: Judged) -> dict[str, Any]:
    """The answer for a readable photograph; the same values as its row of predictions.csv."""
    row, classes = judged.row, model.classes
    grade = None if row["grade"] is None else int(row["grade"])
    referable = None if row["referable"] is None else bool(row["referable"])
    members = str(row.get("set") or "").split()
    flags = [{"name": word, "meaning": FLAGS.get(word, word)} for word in prepared.flags]
    answer = {
        "name": sent.name, "sha256": sent.sha256, "answer": row["answer"], "reason": row["reason"],
        "grade": grade, "grade_name": None if grade is None else classes[grade],
        "probabilities": [row[f"p{number}"] for number in range(len(classes))], "referable": referable,
        "set": [int(member) for member in members] or None,
        "coverage": model.readout.coverage if members else None,
        "flags": flags, "width": prepared.width, "height": prepared.height,
    }  # fmt: skip
    if model.second is not None:
        name, values = model.second
        answer["second"] = {"name": name, "probabilities": {value: row[f"{name}={value}"] for value in values}}
    return answer


def unreadable_answer(sent: Sent, error: FovealError) -> dict[str, Any]:
    """The answer for a photograph that could not be read."""
    nothing = dict.fromkeys(("grade", "grade_name", "probabilities", "referable", "set", "coverage", "width", "height"))
    found = {"answer": "unreadable", "reason": error.what, "code": error.code}
    return {"name": sent.name, "sha256": sent.sha256, **found, "flags": [], **nothing}


def pictures_of(
    model: Model, sent: Sent, prepared: Prepared, judged: Judged, most_pixels: int
) -> dict[str, str | None]:  # fmt: skip
    """The photograph and its heat map layer as data: URLs; heat is None if the model has no maps."""
    decoded = decode(sent.data, PICTURE_SIDE, name=sent.name, most_pixels=most_pixels)
    frame, square = locate(decoded.pixels, model.preparation)
    picture = {"picture": data_address(to_jpeg(_shrunk(decoded.pixels)), "jpeg")}
    if judged.places is None:
        return {**picture, "heat": None}
    layer = _shrunk(heat_layer(frame.shape, square, judged.places, retina_of(prepared.square)))
    encoded = cv2.imencode(".png", cv2.cvtColor(layer, cv2.COLOR_RGBA2BGRA))[1].tobytes()
    return {**picture, "heat": data_address(encoded, "png")}


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    """The picture with its longest side at most `PICTURE_SIDE`."""
    factor = PICTURE_SIDE / max(pixels.shape[:2])
    if factor >= 1:
        return pixels
    return cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
