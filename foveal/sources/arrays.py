"""Sources that hold arrays: MNIST, CIFAR-10, MedMNIST with RetinaMNIST, and drawn phantoms."""

import gzip
import pickle
import re
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foveal.console import progress_bar
from foveal.errors import FovealError
from foveal.page.words import counted
from foveal.sources.cards import CARDS, ICDR
from foveal.sources.phantom import draw_patients
from foveal.sources.source import Layout, Source, SourceOptions, make_table

MEDMNIST_PARTS = ("train", "val", "test")
MEDMNIST_ARRAYS = [f"{part}_{kind}" for part in MEDMNIST_PARTS for kind in ("images", "labels")]
PICKLED = {("numpy", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """FovealError if a library cannot read `file`, within the block."""
    try:
        yield
    except FovealError:
        raise
    except Exception as error:  # of a truncated file, or one of another kind: almost any
        what = f"{file} cannot be read: it may be truncated or damaged ({error})"
        raise FovealError("source.damaged", what) from error


def array_source(
    root: Path, parts: Mapping[str, tuple[str, np.ndarray, np.ndarray]], classes: tuple[str, ...]
) -> Source:
    """A source of arrays; parts: split -> where it is, images [n, H, W] or [n, H, W, C], and labels [n] or [n, 1].

    Ids are `train/17`, or `17` for ""; where: prefix in `file`. Labels may be -1 or NaN. classes: () for "0", "1" …
    """
    tables, pictures = list[pd.DataFrame](), list[np.ndarray]()
    for split, (place, array, labels) in parts.items():
        where = f"{root}/{place}" if place else str(root)
        images = array[..., None] if array.ndim == 3 else array
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[3] not in (1, 3):
            found = f"{where} contains images {array.dtype} {array.shape}"
            raise FovealError("source.arrays", found, expected="uint8 [n, h, w], or [n, h, w, 3]")
        if labels.size != len(images):
            counts = f"{where} has {counted(labels.size, 'label')} for {counted(len(images), 'image')}"
            raise FovealError("source.arrays", counts, expected="one label per image")
        if pictures and images.shape[1:] != pictures[0].shape[1:]:
            what = f"{where} contains images {images.shape[1:]}, but another part of them {pictures[0].shape[1:]}"
            raise FovealError("source.arrays", what, expected="images of one size, all grey or all in colour")
        numbers = class_numbers(labels, where)
        for number, label in enumerate(numbers):
            if label is not None and (label < 0 or (classes and label >= len(classes))):
                expected = f"0 to {len(classes) - 1}, or -1" if classes else "0 or more, or -1"
                raise FovealError("label.value", f"the label of {root}/{place}{number} is {label}", expected=expected)
        prefixes = f"{split}/" if split else "", place
        ids, files = ([f"{prefix}{number}" for number in range(len(images))] for prefix in prefixes)
        tables.append(make_table(ids, files, numbers, split=split))
        pictures.append(images)
    table = pd.concat(tables, ignore_index=True)
    classes = classes or tuple(map(str, range(max(table["label"].dropna(), default=-1) + 1)))
    return Source(root=root, table=table, classes=classes, images=np.concatenate(pictures))


def class_numbers(labels: np.ndarray, where: str) -> list[int | None]:
    """The labels as integers, None for -1 and NaN; FovealError for text, objects, fractions and infinite values."""
    flat = labels.reshape(-1)
    numbers = flat.astype(float) if flat.dtype.kind in "biuf" else np.full(len(flat), 0.5)
    wrong = ~np.isnan(numbers) & ((numbers != np.floor(numbers)) | np.isinf(numbers))
    if wrong.any():
        what = f"a label of {where} is {flat[wrong][0]}, which is not a whole number"
        expected = "the number of a class for each image, from 0, and -1 or NaN for images without a grade"
        raise FovealError("label.value", what, expected=expected)
    return [None if np.isnan(number) or number == -1 else int(number) for number in numbers]


def read_arrays(file: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The named arrays of an .npz file; FovealError if one is missing, or holds Python objects: never unpickled."""
    found = {}
    with reading(file), file.open("rb") as stream, np.load(stream) as arrays:  # numpy leaves a damaged file open
        if missing := [name for name in names if name not in arrays]:
            what = f"{file} has no arrays {', '.join(missing)}; it has {', '.join(arrays.files)}"
            raise FovealError("source.arrays", what)
        for name in names:
            try:
                found[name] = arrays[name]
            except ValueError as error:
                if "allow_pickle" not in str(error):
                    raise
                what = f"{file}: {name} contains Python objects (dtype object), which could run code when they are read"
                expected = "numbers; labels may be -1 or NaN where an image has no grade"
                fix = f"save {name} again with {name}.astype(float), which makes None a NaN"
                raise FovealError("source.arrays", what, expected=expected, fix=fix) from error
    return found


class Mnist(Layout[Path], name="mnist"):
    """MNIST in the official idx format, plain or gzipped."""

    def _find(self, root: Path) -> Path | None:
        return self._file(root, "train-images-idx3-ubyte")

    def _read(self, root: Path, found: Path, options: SourceOptions) -> Source:
        parts = {}
        for part, start in (("train", "train"), ("test", "t10k")):
            images, labels = f"{start}-images-idx3-ubyte", f"{start}-labels-idx1-ubyte"
            parts[part] = (f"{images}#", self._array(root, images), self._array(root, labels))
        return array_source(root, parts, CARDS[self.name].classes)

    @staticmethod
    def _file(root: Path, name: str) -> Path | None:
        candidates = (root / name, root / f"{name}.gz", root / name.replace("-idx", ".idx"))
        return next((path for path in candidates if path.is_file()), None)

    def _array(self, root: Path, name: str) -> np.ndarray:
        """An array in idx format: 0 0 8 d, then d sizes of four bytes (big-endian), then the values, a byte each."""
        if not (file := self._file(root, name)):
            raise FovealError("source.missing_file", f"{root} has no file {name} or {name}.gz")
        with reading(file):
            data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
            if data[:3] != b"\0\0\x08":
                raise FovealError("source.damaged", f"{file} is not an idx file of unsigned bytes")
            start = 4 + 4 * data[3]
            return np.frombuffer(data, np.uint8, offset=start).reshape(struct.unpack(f">{data[3]}I", data[4:start]))


class Cifar10(Layout[Path], name="cifar10"):
    """CIFAR-10: the official python batches (directly or in cifar-10-batches-py), or cifar10.npz with x_train, …"""

    def _find(self, root: Path) -> Path | None:
        file = root / "cifar10.npz" if root.is_dir() else root
        if file.is_file() and file.name == "cifar10.npz":
            return file
        return next((f for f in (root, root / "cifar-10-batches-py") if (f / "data_batch_1").is_file()), None)

    def _read(self, root: Path, found: Path, options: SourceOptions) -> Source:
        if found.is_file():
            arrays = read_arrays(found, ("x_train", "y_train", "x_test", "y_test"))
            train, test = ((arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test"))
        else:
            batches = [self._batch(found / f"data_batch_{number}") for number in range(1, 6)]
            images, labels = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
            train, test = (images, labels), self._batch(found / "test_batch")
        parts = {"train": ("cifar10#train/", *train), "test": ("cifar10#test/", *test)}
        return array_source(root, parts, CARDS[self.name].classes)

    @staticmethod
    def _batch(file: Path) -> tuple[np.ndarray, np.ndarray]:
        """uint8 [n, 32, 32, 3] and labels [n]; the file holds each image as 3 planes of 1,024 bytes."""
        with reading(file), file.open("rb") as stream:
            batch = _ArraysOnly(stream, encoding="bytes").load()
            planes = np.asarray(batch[b"data"], np.uint8).reshape(-1, 3, 32, 32)
            return planes.transpose(0, 2, 3, 1), np.asarray(batch[b"labels"]).reshape(-1)


class _ArraysOnly(pickle.Unpickler):
    """Unpickles only the four names that the published batches need; anything else is refused before it can run."""

    def find_class(self, module: str, name: str) -> Any:
        if (module.split(".", maxsplit=1)[0], name) not in PICKLED:
            strange = f"a CIFAR-10 batch contains {module}.{name}, which the published ones do not"
            raise FovealError("source.unsafe", strange)
        return super().find_class(module, name)


class MedMnist(Layout[Path], name="medmnist"):
    """Any 2-D set of MedMNIST (v2 and its larger sizes) with one label per image, in the official split."""

    files = "*.npz"
    classes: tuple[str, ...] = ()

    def _find(self, root: Path) -> Path | None:
        found = [root] if root.is_file() and root.match(self.files) else sorted(root.glob(self.files))
        return found[0] if len(found) == 1 else None

    def _fits(self, found: Path) -> bool:
        if not zipfile.is_zipfile(found):
            return False
        with reading(found), zipfile.ZipFile(found) as archive:
            return {f"{name}.npy" for name in MEDMNIST_ARRAYS} <= set(archive.namelist())

    def _read(self, root: Path, found: Path, options: SourceOptions) -> Source:
        arrays = read_arrays(found, MEDMNIST_ARRAYS)
        parts = {part: (f"{found.name}#{part}/", arrays[f"{part}_images"], arrays[f"{part}_labels"])
                 for part in MEDMNIST_PARTS}  # fmt: skip
        return array_source(found.parent, parts, self.classes)


class RetinaMnist(MedMnist, name="retinamnist"):
    """RetinaMNIST: the set of MedMNIST with ICDR grades, retinamnist.npz and its 64, 128 and 224 px siblings."""

    files = "retinamnist*.npz"
    classes = ICDR

    def _fits(self, found: Path) -> bool:
        return True  # by its name


class Phantoms(Layout[re.Match[str]], name="phantom"):
    """Phantom photographs, drawn: `phantom:600` gives 600 of them, two eyes for each of 300 patients."""

    def _find(self, root: Path) -> re.Match[str] | None:
        return re.fullmatch(r"phantom(?::(\d+))?", str(root))

    def _read(self, root: Path, found: re.Match[str], options: SourceOptions) -> Source:
        if (count := int(found[1] or 600)) < 2:
            raise FovealError("source.phantom", f"{root} cannot be drawn", expected="phantom:COUNT, with 2 or more")
        drawn = []
        with progress_bar("draw", count) as bar:
            for photograph in islice(draw_patients((count + 1) // 2, options.size or 96, options.seed), count):
                drawn.append(photograph)
                bar.advance()
        names, patients, phantoms = zip(*drawn, strict=True)
        grades, eyes = [phantom.grade for phantom in phantoms], [phantom.eye for phantom in phantoms]
        table = make_table(names, [f"{root}#{name}" for name in names], grades, group=patients, eye=eyes)
        return Source(root=root, table=table, classes=ICDR, images=np.stack([phantom.image for phantom in phantoms]))
