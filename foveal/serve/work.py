"""Work: from photographs to answers: the row of `foveal predict` as JSON, with pictures and similar cases.

Several threads decode, one thread runs the network.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
import numpy as np
import pandas as pd
from fastapi import Request

from foveal.console import progress_bar, say
from foveal.errors import FovealError
from foveal.fundus.decode import decode
from foveal.fundus.header import KNOWN
from foveal.fundus.overlay import ALARM, border_energy, heat_layer, retina_of, to_jpeg, top_of
from foveal.fundus.preparation import Prepared, locate, prepare_file
from foveal.fundus.quality import FLAGS
from foveal.page.pictures import data_address, embedded
from foveal.predict.choose import directions
from foveal.predict.model import UNREADABLE, Model, joined
from foveal.readout.referral import CLASSES, OEDEMA, is_oedema
from foveal.readout.scales import referable_from
from foveal.serve.batching import Batcher, Judged
from foveal.serve.guard import Counters
from foveal.serve.intake import Room, Sent, read_photographs, within
from foveal.serve.kept import Kept
from foveal.serve.options import Limits, ServeConfig
from foveal.serve.origin import origin_of, patient_in
from foveal.serve.second import Second
from foveal.sets.records import PreparedSet, open_prepared
from foveal.sets.shards import cores

HELD_REQUESTS = 8  # most requests of the largest size in memory at one time
PICTURE_SIDE = 1600  # px: longest side of a picture that is sent back
SIMILAR = 4  # similar cases in an answer
MOST_CASES = 4000  # to search: their features are computed when the server starts
CASE_SIDE = 224  # px of a thumbnail
NOT_READ = ("grade", "grade_name", "probabilities", "referable", "refers_by", "set", "coverage", "unlike", "width",
            "height")  # fmt: skip
READABLE = f"a file that other programs can open, in one of these formats: {KNOWN}"
Found = TypeVar("Found")


class Work:
    """A model, the threads that decode and the batcher that grades; `close` stops them."""

    def __init__(self, model: Model, config: ServeConfig, limits: Limits, cases: "Cases | None",
                 second: Model | None) -> None:  # fmt: skip
        self.model, self.config, self.limits, self.cases = model, config, limits, cases
        self.counters = Counters()
        self.kept = None if config.keep_images is None else Kept(config.keep_images, model.classes)
        self.batcher = Batcher(model, config.ungradable, limits, self.counters)
        self.counters.in_work.set_function(lambda: self.batcher.places.held)
        self.second = None if second is None else Second(second, config.ungradable, limits, self.counters)
        self.room = Room(HELD_REQUESTS * limits.megabytes * 10**6)
        self._threads = ThreadPoolExecutor(cores(), "decode")

    def close(self) -> None:
        """Finish the work in progress."""
        self._threads.shutdown(wait=True)
        self.batcher.close()
        if self.kept is not None:
            self.kept.close()

    @asynccontextmanager
    async def photographs(self, request: Request) -> AsyncIterator[list[Sent]]:
        """The photographs of a request, whose memory counts until the end of the block."""
        with self.room.request() as hold:
            with self.batcher.places.request(1):
                pass  # if the queue is full, refuse before reading the body
            # Hold no place while the body arrives, or slow clients would block all others. `hold` limits the memory.
            yield await read_photographs(request, self.limits, hold)

    async def grade(self, photographs: list[Sent], pictures: bool, similar: bool = False) -> list[dict[str, Any]]:
        """Answers in the order of the photographs; FovealError if it takes too long."""
        with self.batcher.places.request(len(photographs)):
            async with within(self.limits.timeout):
                # Wait for all, even if one fails: a place in the queue is free only when its work is done.
                tasks = [asyncio.ensure_future(self._answer(sent, pictures, similar)) for sent in photographs]
                await asyncio.gather(*tasks, return_exceptions=True)
        return [task.result() for task in tasks]

    async def _answer(self, sent: Sent, pictures: bool, similar: bool) -> dict[str, Any]:
        try:
            answer = await self._graded(sent, pictures, similar)
            # Only now: the header of a file that was refused may have been made to exhaust the memory.
            origin = await self._in_thread(origin_of, sent)
            if self.kept is not None:
                await self._in_thread(self.kept.wait, sent, origin["patient"], origin["eye"])
        except FovealError as error:
            if error.subject not in ("image", "package"):
                raise
            answer = {"name": sent.name, "sha256": sent.sha256, "answer": "unreadable", "reason": error.what}
            answer |= {"code": error.code, "flags": [], "advice": UNREADABLE} | dict.fromkeys(NOT_READ)
            origin = dict(zip(("patient", "eye"), patient_in(sent.name), strict=True)) | {"camera": ""}
        answer |= origin
        self.counters.count(answer)
        return answer

    async def _graded(self, sent: Sent, pictures: bool, similar: bool) -> dict[str, Any]:
        model, limit = self.model, {"name": sent.name, "most_pixels": self.limits.megapixels * 10**6}
        prepared = await self._in_thread(prepare_file, sent.data, model.preparation, model.fundus, **limit)
        judged = await asyncio.wrap_future(self.batcher.submit(prepared, pictures or similar))
        answer = answer_of(model, sent, prepared, judged)
        if pictures:
            decoded = await self._in_thread(decode, sent.data, PICTURE_SIDE, **limit)
            places = judged.places if answer["answer"] == "graded" else None  # a map is about a grade
            answer |= await self._in_thread(pictures_of, model, decoded.pixels, prepared, places)
        if similar and self.cases is not None and judged.features is not None:
            answer["similar"] = await self._in_thread(self.cases.nearest, judged.features)
        return answer

    async def _in_thread(self, function: Callable[..., Found], *given: Any, **options: Any) -> Found:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(function, *given, **options))


def refuse_unreadable(answers: list[dict[str, Any]]) -> None:
    """FovealError if a single photograph was sent and cannot be read."""
    if len(answers) == 1 and answers[0]["answer"] == "unreadable":
        what = f"the photograph cannot be read: {answers[0]['reason']}"
        raise FovealError(answers[0]["code"], what, expected=READABLE, fix=UNREADABLE)


def answer_of(model: Model, sent: Sent, prepared: Prepared, judged: Judged) -> dict[str, Any]:
    """The answer for a readable photograph; the same values as its row of predictions.csv."""
    row, classes = judged.row, model.classes
    grade, members = row["grade"], str(row.get("set") or "").split()
    answer = {
        "name": sent.name, "sha256": sent.sha256, **{name: row[name] for name in ("answer", "reason", "advice")},
        "grade": grade, "grade_name": None if grade is None else classes[grade],
        "probabilities": [row[f"p{number}"] for number in range(len(classes))],
        "referable": row["referable"], "refers_by": _refers_by(model, row),
        "set": [int(member) for member in members] or None,
        "coverage": model.readout.coverage if members else None,
        "flags": [{"name": word, "meaning": FLAGS[word], "sides": list(prepared.sides) if word == "cut-off" else []}
                  for word in prepared.flags],
        "unlike": None if model.likeness is None else row["unlike"].split(),
        "width": prepared.width, "height": prepared.height,
    }  # fmt: skip
    if model.second is not None:
        name, values = model.second
        answer["second"] = {"name": name, "probabilities": {value: row[f"{name}={value}"] for value in values}}
    return answer


def _refers_by(model: Model, row: dict[str, Any]) -> str | None:
    """What decides on referral: oedema if it is likely; else grade, or threshold where that differs from the grade."""
    lowest = referable_from(model.scale)
    if row["referable"] is None or lowest is None:
        return None
    learned = model.second is not None and is_oedema(*model.second)
    if learned and row[f"{OEDEMA}={CLASSES[1]}"] >= model.readout.oedema_from:
        return "oedema"
    return "grade" if row["referable"] == (row["grade"] >= lowest) else "threshold"


def pictures_of(model: Model, pixels: np.ndarray, prepared: Prepared, places: np.ndarray | None) -> dict[str, Any]:
    """The photograph and its heat map layer as data: URLs, and whether much of the map is on the border. heat is None
    if the model has no maps, or nothing in the retina raises the score."""
    heat, at_border, retina = None, False, retina_of(prepared.square)
    if places is not None and top_of(places, retina):
        frame, square = locate(pixels, model.preparation)
        layer = _shrunk(heat_layer(frame.shape, square, places, retina))
        heat = data_address(cv2.imencode(".png", cv2.cvtColor(layer, cv2.COLOR_RGBA2BGRA))[1].tobytes(), "png")
        at_border = border_energy(cv2.resize(places, retina.shape[::-1]), retina) >= ALARM
    return {"picture": data_address(to_jpeg(_shrunk(pixels)), "jpeg"), "heat": heat, "heat_at_border": at_border}


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    factor = PICTURE_SIDE / max(pixels.shape[:2])
    return pixels if factor >= 1 else cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


class Cases(NamedTuple):
    """Graded training images of a prepared set and their normalised features float32 [n, D]."""

    prepared: PreparedSet
    records: pd.DataFrame
    directions: np.ndarray

    def nearest(self, features: np.ndarray) -> list[dict[str, Any]]:
        """The images most similar to features float32 [D], by cosine: id, grade, similarity, picture."""
        cosines = self.directions @ directions(features)
        order = np.argsort(-cosines, kind="stable")[:SIMILAR]
        chosen = self.records.iloc[order]
        found = zip(chosen["id"], chosen["label"], cosines[order], self.prepared.pixels(chosen), strict=True)
        return [{"id": str(name), "grade": int(grade), "grade_name": self.prepared.classes[grade],
                 "similarity": round(float(cosine), 4), "picture": embedded(pixels, CASE_SIDE)}
                for name, grade, cosine, pixels in found]  # fmt: skip


def open_cases(path: Path, model: Model) -> Cases:
    """The graded training images of a set, with their features; FovealError if set and model do not match."""
    prepared = open_prepared(path)
    if (prepared.classes, prepared.card["scale"]) != (model.classes, model.scale):
        what = f"--cases {path} has different classes or a different scale than {model.name}"
        raise FovealError("option.conflict", what, fix="give a set with the grader's scale")
    records = prepared.records[(prepared.records["split"] == "train") & prepared.records["label"].notna()]
    if not len(records):
        raise FovealError("set.no_labels", f"--cases {path} has no graded training images")
    if not model.has_features:
        what = f"--cases: {model.name} gives no features to compare images: it is an ensemble or an older export"
        raise FovealError("option.conflict", what, fix="serve one grader, or export it again")
    if len(records) > MOST_CASES:
        say(f"similar cases come from {MOST_CASES:,} of the {len(records):,} graded images, evenly spaced")
        records = records.iloc[np.linspace(0, len(records) - 1, MOST_CASES).astype(int)]
    parts = []
    with progress_bar("features of cases", len(records)) as bar:
        for part, images in model.images_of(prepared, records):
            parts.append(model.answer(images, ("features",)))
            bar.advance(len(part))
    return Cases(prepared, records, directions(np.asarray(joined(parts).features)))
