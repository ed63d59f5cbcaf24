"""Images that a Python program gives to `foveal.prepare` in place of a path: arrays, a list of pictures, a Dataset."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from foveal.errors import FovealError
from foveal.given import Given
from foveal.page.words import counted
from foveal.sources.arrays import array_source
from foveal.sources.cards import CLASSES, Card
from foveal.sources.folder import TASKS
from foveal.sources.names import is_nobody, plain_number
from foveal.sources.patients import names_note, patients_and_eyes
from foveal.sources.source import PICTURES, Source, without_ending

CARD = Card(title="images of a Python program", task="auto")
IMAGES = "uint8 [h, w, 3], uint8 [h, w], a PIL image, or a tensor [3 or 1, h, w] of uint8 or of float from 0 to 1"


def given_source(name: Given, scale: str) -> Source:
    """A source of the images of a program.

    name.given: (images, labels) or (images, labels, patients), or a sequence or torch Dataset of images, of (image,
    label) or of (image, label, patient). Images are those of IMAGES, of one size; a label is the number of a class, or
    -1, NaN or None; for patients see `_people`. Classes have the names in `classes` of a Dataset, or those of `scale`
    if it is icdr or messidor. FovealError for anything else.
    """
    several = isinstance(name.given, tuple) and len(name.given) in (2, 3)
    images, labels, patients = (*name.given, None)[:3] if several else (name.given, None, None)
    if isinstance(images, Mapping) or not hasattr(images, "__len__") or not hasattr(images, "__getitem__"):
        what = f"{name} does not give image 0, 1, … by its number"
        raise FovealError("source.arrays", what, expected="arrays, a list or a Dataset")
    if not (rows := [images[number] for number in range(len(images))]):
        raise FovealError("source.no_pictures", f"{name} contains no images")
    triples = [(*row, None, None)[:3] if isinstance(row, tuple | list) else (row, None, None) for row in rows]
    pictures = [_pixels(picture, f"image {number} of {name}") for number, (picture, *_) in enumerate(triples)]
    if len(sizes := sorted({picture.shape for picture in pictures})) > 1:
        what = f"{name} contains images of several sizes, such as {sizes[0]} and {sizes[-1]}"
        raise FovealError("source.arrays", what, fix="resize them in the program, or prepare a folder of files")
    numbers = [label for _, label, _ in triples] if labels is None else labels
    classes = CLASSES.get(scale, tuple(map(str, getattr(images, "classes", None) or ())))
    column = np.array([np.nan if number is None else number for number in numbers])
    source = array_source(Path(name), {"": ("", np.stack(pictures), column)}, classes)
    if len(set(classes)) < len(classes):
        raise FovealError("source.arrays", f"{name} has several classes of one name: {', '.join(classes)}")
    known = scale if scale in CLASSES else "none"
    people, told = _people([third for *_, third in triples] if patients is None else list(patients), name)
    if len(people.get("group", rows)) != len(rows):
        what = f"{name} has {counted(len(people['group']), 'patient')} for {counted(len(rows), 'image')}"
        raise FovealError("source.arrays", what, expected="one patient per image")
    note = f"{counted(len(rows), 'image')}, {source.table['label'].count():,} of them with a label; {told}"
    return replace(source, table=source.table.assign(**people), scale=known, task=TASKS[known], notes=(note,))


def _people(thirds: list[Any], name: str) -> tuple[dict[str, list[str]], str]:
    """Columns and a note from patients (text, whole numbers, None) or, if all end like pictures, file names: ids."""
    thirds = [third.item() if hasattr(third, "item") and np.ndim(third) == 0 else third for third in thirds]
    parts = [third for third in thirds if isinstance(third, float) and third % 1 > 0]
    if strange := parts + [third for third in thirds if not isinstance(third, str | int | float | None)]:
        what = f"{name} gives {strange[0]!r:.80} after image and label"
        raise FovealError("source.arrays", what, expected="a patient (text or a whole number) or a file name")
    texts = ["" if third is None or is_nobody(str(third)) else plain_number(str(third)) for third in thirds]
    if all(Path(text).suffix.lower() in PICTURES for text in texts):
        ids = [without_ending(text) for text in texts]
        if repeated := [each for each, count in Counter(ids).items() if count > 1]:
            raise FovealError("table.duplicate_image", f"{name} has several images {', '.join(repeated[:5])}")
        groups, eyes = patients_and_eyes(ids)
        return {"id": ids, "group": groups, "eye": eyes}, names_note(ids, groups, eyes) or "named, without patients"
    patients = set(texts) - {""}
    return {"group": texts}, counted(len(patients), "patient") if patients else "without patients"


def _pixels(image: Any, place: str) -> np.ndarray:
    """uint8 [h, w] or [h, w, 3]; FovealError for anything that is not an image."""
    if isinstance(image, Image.Image):
        return np.asarray(image if image.mode == "L" else image.convert("RGB"))
    array = np.asarray(image)
    if type(image).__module__.partition(".")[0] == "torch" and array.ndim == 3:
        array = np.moveaxis(array, 0, -1)
    if array.dtype.kind == "f" and array.size and 0 <= array.min() <= array.max() <= 1:
        array = np.rint(255 * array).astype(np.uint8)
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        found = f"{place} is {array.dtype} {list(array.shape)}"
        fix = "leave out the normalisation: Foveal adds it" if array.dtype.kind == "f" else ""
        if fix and array.size and array.min() >= 0 and 1 < array.max() <= 255:
            found, fix = f"{found} from {array.min():g} to {array.max():g}", "divide it by 255"
        elif array.dtype.kind in "OU":
            found = f"{place} is a {type(image).__name__}"
            fix = "give images, (image, label) or (image, label, patient)"
            if isinstance(image, str | PathLike):
                fix = "give the folder of the files; several sets are separate arguments"
        raise FovealError("source.arrays", found, expected=IMAGES, fix=fix)
    return array
