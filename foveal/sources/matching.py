"""The pictures that the names in a table mean, and what would match if they mean none."""

import os
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from foveal.console import say
from foveal.errors import FovealError
from foveal.page.words import counted
from foveal.sources.names import AS_TEXT, ROUNDED, WRAPPERS, eye_of, part_of
from foveal.sources.source import without_ending

_ADDED = re.compile(rf"[\W_]+(?:{'|'.join(WRAPPERS)}|\d+x\d+|\d+px)(?![^\W_])")
_ABOVE = re.compile(r".*/")
# Why names may match nothing, and what makes both sides equal then.
_REPAIRS: dict[str, Callable[[str], str]] = {
    "without the folder in front of them": lambda name: _ABOVE.sub("", name),
    "with another ending": lambda name: PurePosixPath(name).stem,
    "with leading zeros, and without .0": lambda name: re.sub(
        r"0*(\d+)", r"\1", re.sub(r"[.,]0+$", "", _ABOVE.sub("", name))
    ),
    "with other signs between letters and digits": lambda name: re.sub(r"[\W_]", "", PurePosixPath(name).stem),
    "with or without words such as resized": lambda name: _ADDED.sub("", _ABOVE.sub("", name)),
}


class Matcher:
    """Finds pictures by what a table may call them: by path or name, with or without an ending.

    Case, backslashes, another ending on disk and folders above do not matter. A name with a folder matches only a
    picture in such a folder. Absolute names may come from another machine: what they have in common is ignored as far
    as it is not here. So it is in other names if none of them fits.
    """

    def __init__(self, pictures: Sequence[Path], folder: Path) -> None:
        self.folder = folder
        self.pictures = [path for path in pictures if path.is_relative_to(folder)]

    @cached_property
    def by_name(self) -> dict[str, list[Path]]:
        """In lower case: end of a path, from any folder on, with or without ending -> pictures."""
        by_name: dict[str, list[Path]] = {}
        for path in self.pictures:
            parts = path.relative_to(self.folder).parts
            for end in ("/".join(parts[start:]) for start in range(len(parts))):
                for key in {end, end.removesuffix(path.suffix)}:
                    by_name.setdefault(_folded(key), []).append(path)
        return by_name

    def relative(self, names: Sequence[str]) -> list[str]:
        """The names with slashes, relative to the folder; those of another machine as `Matcher` says."""
        here = f"{self.folder.absolute().as_posix()}/"
        single = [re.sub(r"^\w+:(?=//)|(?<=/)/+", "", name.replace("\\", "/")) for name in names]  # //server, https://
        plain = [name.removeprefix(here) for name in single]
        far = [name for name in plain if re.match(r"/|[A-Za-z]:/", name) and not is_file(Path(name))]
        inside = [name for name in plain if "/" in name and name not in far]
        if not far and not any(map(self.find, inside)):
            folders = {part for name in inside for part in PurePosixPath(name).parts[:-1]}
            far = [] if any(part_of(part) or eye_of(part) for part in folders) else inside
        if not far:
            return plain
        one_root = len({name.startswith("/") for name in far}) == 1
        common = os.path.commonpath([PurePosixPath(name).parent for name in far]) if one_root else ""
        tails = {name: name[len(common) :].lstrip("/") for name in far}
        parts = PurePosixPath(common).parts
        starts = range(len(parts) + 1)  # longest first
        options = ["".join(f"{part.strip('/')}/" for part in parts[start:]) for start in starts]
        hits = [sum(bool(self.find(option + tail)) for tail in tails.values()) for option in options]
        best = options[hits.index(max(hits))]
        if max(hits) and far is inside:
            say(f"  {far[0]!r} and the like are read as {(best + tails[far[0]])!r}, since there is no such folder")
        return [best + tails[name] if name in tails else name for name in plain]

    def find(self, name: str) -> list[Path]:
        """The pictures that a name means; none if it is empty or names nothing here."""
        if not name:
            return []
        path, bare = PurePosixPath(name).as_posix(), without_ending(name)
        hits = self.by_name.get(_folded(path)) or self.by_name.get(_folded(bare)) or []
        if len(hits) < 2:
            return hits or [file for file in [self.folder / name] if is_file(file)]
        there = {file: file.relative_to(self.folder).as_posix() for file in hits}
        alike = [file for file in hits if there[file].endswith((path, bare + file.suffix))]  # in the same case
        exact = [file for file in alike or hits if _folded(there[file]) == _folded(path)]
        return exact or alike or hits

    def match(
        self, names: Sequence[str], table: Path, *, least: float | None = 0.9, first_row: int | None = None
    ) -> list[Path | None]:
        """The picture that each name in `table` means, or None; FovealError if one has several, or few match."""
        hits = self._with_zeros([self.find(name) for name in self.relative(names)], names, table)
        if least is not None:
            self._check(names, hits, table, least)
        for place, (name, paths) in enumerate(zip(names, hits, strict=True)):
            if len(paths) > 1:
                row = "" if first_row is None else f", row {first_row + place}"
                what = f"{table}{row}: '{name}' matches several pictures: {', '.join(map(str, paths[:3]))}"
                raise FovealError("table.ambiguous_image", what, fix="write the path of the picture into the table")
        return [next(iter(paths), None) for paths in hits]

    def _with_zeros(self, hits: list[list[Path]], names: Sequence[str], table: Path) -> list[list[Path]]:
        """The hits, and for a number without any the only picture of that number, such as 0007.png for 7 or 7.0."""
        number = re.compile(r"(\d+)([.,]0+)?")
        bare = {name for name, paths in zip(names, hits, strict=True) if not paths and number.fullmatch(name)}
        numbered: dict[int, list[Path]] = {}
        for path in (path for path in self.pictures if bare and path.stem.isdecimal()):
            numbered.setdefault(int(path.stem), []).append(path)
        found = {name: numbered.get(int(re.split("[.,]", name)[0]), []) for name in bare}
        if alone := min((name for name in bare if len(found[name]) == 1), default=""):
            say(f"  {table}: numbers without a picture may have lost zeros: {alone} is read as {found[alone][0].name}")
        return [paths or found.get(name, []) for name, paths in zip(names, hits, strict=True)]

    def _check(self, names: Sequence[str], hits: Sequence[Sequence[Path]], table: Path, least: float) -> None:
        """FovealError unless enough names match: it shows names, files, and what would match."""
        matched = sum(map(bool, hits))
        if not names or (matched and (matched + 1 >= len(names) or matched >= least * len(names))):
            return  # one row without its picture is no pattern
        missing = [name for name, found in zip(names, hits, strict=True) if not found]
        there = [path.relative_to(self.folder).as_posix() for path in self.pictures]
        plain = {without_ending(name).lower() for name in there}
        wrong = [name for name in (without_ending(name).lower() for name in missing) if name not in plain]
        what = f"{table}: {matched} of {counted(len(names), 'name')} match a picture in {self.folder}; names: "
        what += f"{', '.join(map(repr, missing[:3]))}; files: {', '.join(map(repr, there[:3]))}"
        fix = "correct the names, or delete the rows without a picture"
        for how, repair in _REPAIRS.items():
            files = set(map(repair, plain))
            would = sum(repair(name) in files for name in wrong)
            if 2 * would > len(missing):
                fix = f"correct the names: {would} of the other {len(missing)} would match {how}"
                break
        if any(map(ROUNDED.fullmatch, missing)):
            fix = AS_TEXT
        raise FovealError("table.unmatched", what, fix=fix)


def _folded(name: str) -> str:
    """In lower case, with accents as one sign: a Mac writes them as two."""
    return unicodedata.normalize("NFC", name).lower()


def is_file(path: Path) -> bool:
    """Whether there is such a file; False for a name that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
