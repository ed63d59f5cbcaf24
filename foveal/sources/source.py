"""The result of every source, for `prepare`: a table of images with their labels, and what the labels mean."""

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import ClassVar, Generic, TypeVar

import numpy as np
import pandas as pd

from foveal.console import say, warn
from foveal.errors import FovealError
from foveal.fundus.header import ENDINGS, KNOWN, START, is_picture
from foveal.sources.cards import CARDS, Card
from foveal.sources.names import HIDDEN

Found = TypeVar("Found")
SPLITS = ("train", "val", "test", "unlabelled")
PICTURES = ENDINGS
SHEETS = (".xls", ".xlsx", ".xlsm", ".ods")
TABLES = (".csv", ".tsv", ".txt", *SHEETS)
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")
UNREAD = (".json", ".jsonl", ".xml", ".parquet", ".pkl", ".mat", ".yaml", ".yml")  # what else labels are kept in
READ = f"labels are read from {', '.join(TABLES)}, with a row per picture and the columns image and label"
ADVICE = {**dict.fromkeys(ARCHIVES, "unpack it first"), **dict.fromkeys(UNREAD, READ)}
ADVICE[".zip"] += ", or give it by itself, as in foveal prepare FILE.zip --out DATA or foveal predict RUN FILE.zip"
KEPT = "column "  # prefix of the names of columns that are copied unchanged to columns.csv


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """Options that a source may need besides its path."""

    image_column: str | None = None  # columns of a table that does not use the usual names
    label_column: str | None = None
    group_column: str | None = None
    split_column: str | None = None
    scale: str = "auto"  # of the labels of folders and tables
    unlabelled: int = 0  # -1: folders and tables give no labels
    size: int = 0  # side of drawn images in pixels; 0 = the source decides
    seed: int = 0  # of drawn images


@dataclass(frozen=True, kw_only=True)
class Source:
    """Images of one data set before any of them is decoded.

    table: columns id, file, label (nullable integer), split ("" = not decided yet), group, eye, flags (words such as
    `ungradable`), and other columns of the source as "column NAME". images: uint8 [n, H, W, C] in row order where the
    source holds arrays; None if `file` names pictures in `root`.
    """

    root: Path
    table: pd.DataFrame
    classes: tuple[str, ...]
    images: np.ndarray | None = None
    scale: str | None = None  # None: as the card says
    task: str | None = None
    notes: tuple[str, ...] = ()
    given: frozenset[str] = frozenset()  # which of group and eye are from a column, not from names
    pool: int = 0  # rows at the end of pictures that no table names
    numbered: bool = False  # whether the labels are numbers, not words, whose scale nobody has told


class Layout(ABC, Generic[Found]):
    """A way in which pictures and labels are published or kept; each has a card of its name.

    `_find` looks for the files that `_read` needs: nothing (None, or something empty) where `root` is laid out in
    another way. `_fits` looks into them, where the names of files alone do not identify a data set.
    """

    name: ClassVar[str]

    def __init_subclass__(cls, *, name: str) -> None:
        super().__init_subclass__()
        cls.name = name

    def recognise(self, root: Path) -> bool:
        """Whether `root` is laid out like this, for `--dataset auto`."""
        found = self._find(root)
        return found is not None and bool(found) and self._fits(found)

    def load(self, root: Path, options: SourceOptions) -> Source:
        """The images at `root`; FovealError if it is not laid out like this."""
        if not (found := self._find(root)):
            what = f"{root} is not laid out as {self.name} ({CARDS[self.name].title})"
            raise FovealError("source.layout", what, expected=CARDS[self.name].layout)
        return self._read(root, found, options)

    @abstractmethod
    def _find(self, root: Path) -> Found | None: ...

    def _fits(self, found: Found) -> bool:
        return True

    @abstractmethod
    def _read(self, root: Path, found: Found, options: SourceOptions) -> Source: ...


def make_table(
    ids: Sequence[str], files: Sequence[str], labels: Sequence[int | None] | None = None, *,
    split: str | Sequence[str] = "", group: str | Sequence[str] = "", eye: str | Sequence[str] = "",
    flags: str | Sequence[str] = "",
) -> pd.DataFrame:  # fmt: skip
    """The table of a source. A single text applies to all rows; without `labels`, all labels are missing."""
    columns = {"id": ids, "file": files, "split": split, "group": group, "eye": eye, "flags": flags}
    table = pd.DataFrame(columns, index=range(len(ids))).astype("object")
    table.insert(2, "label", pd.Series([None] * len(ids) if labels is None else list(labels), dtype="Int64"))
    return table


def locate(root: Path, pattern: str) -> Path | None:
    """The first path, not hidden, that matches `pattern` in `root`, one folder below it, or two; None without any."""
    for depth in ("", "*/", "*/*/"):
        if found := sorted(path for path in root.glob(depth + pattern) if path.name[0] != "."):  # ._NAME is of a Mac
            return found[0]
    return None


def list_pictures(root: Path) -> list[Path]:
    """The pictures of `list_files`; the tables are left out, too."""
    pictures, tables = list_files(root)
    say_left_out(root, (file.relative_to(root).as_posix() for file in tables))
    return pictures


def list_files(root: Path) -> tuple[list[Path], list[Path]]:
    """All files below `root` that end or begin like a picture, and all tables, sorted; FovealError without pictures.

    Hidden files and folders do not count. What else is left out is printed. Links are followed, each folder read once.
    """
    if not root.is_dir():
        raise FovealError("source.missing", f"there is no folder {root}")
    found, tables, seen, others = list[Path](), list[Path](), set(), list[str]()
    closed = "{0.filename} cannot be opened ({0.strerror}): its files are left out".format
    for folder, below, names in os.walk(root, onerror=lambda error: warn(closed(error)), followlinks=True):
        real = os.path.realpath(folder)
        hidden = [name for name in below if HIDDEN.search(f"{name}/") and real not in seen]
        others += [f"{Path(folder, name).relative_to(root).as_posix()}/" for name in hidden]
        below[:] = [] if real in seen else sorted({*below}.difference(hidden))  # where to walk next
        for file in (Path(folder, name) for name in names if real not in seen):
            if not HIDDEN.search(file.name) and (file.suffix.lower() in PICTURES or _begins_like_picture(file)):
                found.append(file)
            elif not HIDDEN.search(file.name) and file.suffix.lower() in TABLES:
                tables.append(file)
            else:
                others.append(file.relative_to(root).as_posix())
        seen.add(real)
    if not found:
        left = _left_out([*others, *(file.relative_to(root).as_posix() for file in tables)])
        what = f"{root} contains no pictures" + f"; it has {', '.join(left.values())}" * bool(left)
        fix = "; ".join(dict.fromkeys(ADVICE[kind] for kind in left if kind in ADVICE))
        raise FovealError("source.no_pictures", what, expected=f"{KNOWN} files", fix=fix)
    say_left_out(root, others)
    return sorted(found), sorted(tables)


def say_left_out(place: Path, names: Iterable[str]) -> None:
    """Print which files of a folder or an archive are not pictures: a line for each ending and one for hidden ones."""
    for kind, found in _left_out(names).items():
        say(f"  not a picture, left out of {place}: {found}" + f"; {ADVICE.get(kind)}" * (kind in ADVICE))


def _left_out(names: Iterable[str]) -> dict[str, str]:
    """Ending, or hidden -> the number of files and three names."""
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        kind = "hidden" if HIDDEN.search(name) else PurePosixPath(name).suffix.lower() or "without ending"
        found.setdefault(kind, []).append(name)
    some = {kind: ", ".join(names[:3]) + ", …" * (len(names) > 3) for kind, names in sorted(found.items())}
    return {kind: f"{len(found[kind]):,} {kind} ({listed})" for kind, listed in some.items()}


def _begins_like_picture(file: Path) -> bool:
    with suppress(OSError):
        if file.is_file():  # pipes and devices are not opened
            with file.open("rb") as stream:
                return is_picture(stream.read(START))
    return False


def picture_ids(files: list[Path], root: Path) -> list[str]:
    """Ids: the path below `root` without its ending, or with it where files differ only in their ending."""
    full = [path.relative_to(root).as_posix() for path in files]
    short = [name.removesuffix(Path(name).suffix) if Path(name).suffix.lower() in PICTURES else name for name in full]
    counts = Counter(short)
    return [name if counts[name] == 1 else path for name, path in zip(short, full, strict=True)]


def without_ending(name: str) -> str:
    """The name of a picture, or the path to it, without its ending; backslashes become slashes."""
    path = PurePosixPath(name.replace("\\", "/"))
    return (path.with_suffix("") if path.suffix.lower() in PICTURES else path).as_posix()


def merge_classes(source: Source, card: Card, text: str) -> Source:
    """Order and merge classes by a map such as "0,1,2,3+4" or "none+mild,rest", of class numbers or names.

    The scale becomes "icdr 0,1,2,3+4". FovealError for a class that is unknown, named twice or left out though in use.
    """
    names = source.classes
    number_of = {str(n): n for n in range(len(names))} | {name: n for n, name in enumerate(names)}
    items = [[item.strip() for item in part.split("+")] for part in text.split(",")]
    if unknown := [item for part in items for item in part if item not in number_of]:
        has = ", ".join(names) or "no class, since the source has no labels"
        raise FovealError("option.value", f"--classes {text}: there is no class '{unknown[0]}'", expected=has)
    merged = [[number_of[item] for item in part] for part in items]
    counts = Counter(old for olds in merged for old in olds)
    if twice := [names[old] for old, count in counts.items() if count > 1]:
        raise FovealError("option.value", f"--classes {text} names the class {twice[0]} twice")
    if left := [names[old] for old in sorted(set(source.table["label"].dropna()) - set(counts))]:
        raise FovealError("option.value", f"--classes {text} leaves out {', '.join(left)}, which some images have")
    classes = tuple(" + ".join(names[old] for old in olds) for olds in merged)
    if classes == names:
        return source
    new_of = {old: new for new, olds in enumerate(merged) for old in olds}
    table = source.table.assign(label=source.table["label"].map(new_of, na_action="ignore").astype("Int64"))
    name, _, before = (source.scale or card.scale).partition(" ")
    original = before.split(",") if before else [str(number) for number in range(len(names))]
    plan = ",".join("+".join(original[old] for old in olds) for olds in merged)
    return replace(source, table=table, classes=classes, scale="none" if name == "none" else f"{name} {plan}")
