"""Loaded: a grader for Python programs; it returns the rows that `foveal predict` writes.

    grader = foveal.load("runs/grader")
    table = grader.predict(["photographs/", Image.open("one.jpg"), array])

Images are original photographs: they are cropped to the retina and resized here, as in training.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pandas as pd
from PIL import Image

from foveal.errors import FovealError
from foveal.fundus.decode import pixels_of
from foveal.fundus.quality import UNGRADABLE, check_flags
from foveal.given import Given
from foveal.predict.inputs import Photograph, is_prepared, list_photographs, sort_inputs
from foveal.predict.model import Model, batches, set_ungradable
from foveal.predict.opened import open_model
from foveal.predict.predict import without_learned
from foveal.sets.records import open_prepared

if TYPE_CHECKING:
    import torch

Picture: TypeAlias = "str | Path | Image.Image | np.ndarray | torch.Tensor"
Item = Path | Image.Image | np.ndarray  # arrays are uint8 [h, w, 3 or 1] here
ARRAYS = "[h, w, 3] RGB, [h, w] grey, [n, h, w, 3] or [n, h, w]"
TENSORS = "[3, h, w] or [n, 3, h, w]"


def load(run: str | Path, *, device: str = "auto", tta: str = "auto", ungradable: Iterable[str] | None = None,
         encoder: torch.nn.Module | None = None) -> LoadedGrader:  # fmt: skip
    """Load a grader: a run folder of `foveal train`, or a file of `foveal export`.

    device: auto, cpu, cuda or mps. tta: auto (as in the run), none, flips or turns. ungradable: a photograph with one
    of these quality flags gets no grade; None uses the default of `foveal predict`, () no flags. encoder: the network
    that was given to `foveal.train`, if it was not a name; its weights are those of the run.
    """
    words = sorted(UNGRADABLE) if ungradable is None else list(ungradable)
    check_flags(words, "ungradable")
    given = "" if encoder is None else Given(encoder)
    return LoadedGrader(open_model(Path(run), device, tta, encoder=given), Path(run), words)


class LoadedGrader:
    """A grader in memory, created by `load`. Not thread-safe: use it from one thread at a time."""

    def __init__(self, model: Model, run: Path, ungradable: Sequence[str]) -> None:
        self._model, self._run, self._ungradable = model, run, tuple(ungradable)

    @property
    def name(self) -> str:
        """The name of the run or of the exported file."""
        return self._model.name

    @property
    def classes(self) -> list[str]:
        """Names of the grades: a value k in the column `grade` means classes[k]."""
        return list(self._model.classes)

    def predict(self, images: Picture | Iterable[Picture]) -> pd.DataFrame:
        """Grade photographs; returns one row each, in the same order, with the columns of predictions.csv.

        images: one of these, or an iterable of them (they can be mixed); pixels are uint8, or float from 0 to 1:

        - str, Path: file, folder, zip archive, list (.csv), pattern or prepared set, as for `foveal predict`; a file
          that is given twice gets one row
        - PIL.Image: any mode; rotated upright according to its EXIF data
        - numpy.ndarray: [h, w, 3] RGB, [h, w] grey, [n, h, w, 3], or [n, h, w] grey if n is not 3
        - torch.Tensor: [3, h, w] RGB, or [n, 3, h, w], on any device

        Pictures in memory are named "image 0", "image 1" and so on. They get the same result as a file with these
        pixels, except that large JPEG files are decoded at a reduced size, which can change probabilities slightly.
        The column `answer` is graded, ungradable or unreadable; `reason` explains why there is no grade.

        FovealError, before grading starts, if a path does not exist, or if pixels are neither uint8 nor from 0 to 1.
        """
        single = isinstance(images, str | bytes | dict | Image.Image | np.ndarray) or _is_tensor(images)
        given: Any = images if isinstance(images, Iterable) and not single else [images]
        items = [item for image in given for item in _one(image)]
        sort_inputs([item for item in items if isinstance(item, Path)])
        tables = [set_ungradable(table, self._ungradable) for table in self._tables(items)]
        return pd.concat(tables, ignore_index=True) if tables else self._model.table_of_photographs([])

    def _tables(self, items: list[Item]) -> Iterator[pd.DataFrame]:
        numbers, seen = count(), set[str]()
        for of_sets, group in groupby(items, lambda item: isinstance(item, Path) and is_prepared(item)):
            if of_sets:
                for path in group:
                    assert isinstance(path, Path)
                    prepared = open_prepared(path)
                    records = without_learned(prepared, prepared.records, self._run)
                    yield from self._model.tables_of_set(prepared, records)
            else:
                for batch in batches(self._model.read(_photographs(group, numbers, seen))):
                    yield self._model.table_of_photographs(batch)


def _photographs(items: Iterable[Item], numbers: Iterator[int], seen: set[str]) -> Iterator[Photograph]:
    """The photographs of the items, one by one. Pillow decodes in this thread, because an image may occur twice."""
    for item in items:
        if isinstance(item, Path):
            for photograph in list_photographs([item]):
                if photograph.id not in seen:
                    seen.add(photograph.id)
                    yield photograph
        else:
            name = f"image {next(numbers)}"
            yield Photograph(name, Path(name), pixels=_pixels(item))


def _pixels(item: Image.Image | np.ndarray) -> np.ndarray | FovealError:
    try:
        pixels = pixels_of(item) if isinstance(item, Image.Image) else item
        return pixels if pixels.size else FovealError("image.empty", "the picture has no pixels")
    except FovealError as error:
        return error


def _one(image: Any) -> list[Item]:
    """An input of `predict` as a path, a PIL image, or uint8 arrays [h, w, 3 or 1]."""
    if isinstance(image, str | Path):
        return [Path(image)]
    if isinstance(image, Image.Image):
        return [image]
    if isinstance(image, np.ndarray):
        return _of_array(image)
    if _is_tensor(image):
        array = image.detach().cpu().numpy()
        if array.ndim not in (3, 4) or array.shape[-3] != 3:
            raise FovealError("image.array", f"the tensor has the shape {list(array.shape)}", expected=TENSORS)
        return _of_array(np.moveaxis(array, -3, -1))
    expected = f"a path, a PIL image, an array {ARRAYS}, or a tensor {TENSORS}"
    raise FovealError("image.type", f"{type(image).__name__} is not a photograph", expected=expected)


def _is_tensor(value: Any) -> bool:
    """Whether it is a torch tensor; checked without importing torch."""
    return type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach")


def _of_array(array: np.ndarray) -> list[Item]:
    if array.dtype.kind == "f" and array.size and 0 <= array.min() <= array.max() <= 1:
        array = np.rint(255 * array).astype(np.uint8)
    if array.dtype != np.uint8:
        fix = "leave out the normalisation: Foveal adds it" if array.dtype.kind == "f" else "convert them to uint8"
        raise FovealError("image.array", f"the pixels are {array.dtype}", expected="uint8, or float 0 to 1", fix=fix)
    are_grey = array.ndim == 3 and array.shape[0] != 3 and array.shape[-1] > 4  # not [3, h, w] or RGBA
    array = array[..., None] if array.ndim == 2 or are_grey else array
    if array.ndim not in (3, 4) or array.shape[-1] not in (1, 3):
        raise FovealError("image.array", f"an array of shape {list(array.shape)} is not a photograph", expected=ARRAYS)
    return [array] if array.ndim == 3 else list(array)
