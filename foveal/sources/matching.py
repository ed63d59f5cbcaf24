"""The pictures that the names in a table mean, and what would match where they mean none."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from foveal.errors import FovealError
from foveal.sources.source import without_ending

# Why names may match nothing, and what makes both sides equal then.
_REPAIRS: dict[str, Callable[[str], str]] = {
    "if ids such as 17.0 were written as 17": lambda name: re.sub(r"\.0+$", "", name),
    "without the folder in front of them": lambda name: PurePosixPath(name).name,
    "with another ending": lambda name: PurePosixPath(PurePosixPath(name).name).stem,
    "with leading zeros": lambda name: re.sub(r"0*(\d+)", r"\1", PurePosixPath(name).name),
    "with other signs between letters and digits": lambda name: re.sub(
        r"[\W_]", "", PurePosixPath(PurePosixPath(name).name).stem
    ),
}


class Matcher:
    """Finds pictures by what a table may call them.

    A name is a path below the folder or a file name, with or without its ending. Case, backslashes and a different
    ending on disk do not matter. A name with a folder in it matches only a picture in that folder. Absolute names may
    come from another machine or system: what they have in common is ignored as far as it is not here.
    """

    def __init__(self, pictures: Sequence[Path], folder: Path) -> None:
        self.folder = folder
        self.pictures = [path for path in pictures if path.is_relative_to(folder)]

    @cached_property
    def by_name(self) -> dict[str, list[Path]]:
        """In lower case: path or name, with or without ending -> pictures."""
        by_name: dict[str, list[Path]] = {}
        for path in self.pictures:
            relative = path.relative_to(self.folder).as_posix()
            for key in {relative, relative.removesuffix(path.suffix), path.name, path.stem}:
                by_name.setdefault(key.lower(), []).append(path)
        return by_name

    def relative(self, names: Sequence[str]) -> list[str]:
        """The names with slashes; absolute ones without their common folder, or with the last parts of it."""
        plain = [name.replace("\\", "/") for name in names]
        far = [name for name in plain if _is_absolute(name) and not is_file(Path(name))]
        if not far:
            return plain
        common = os.path.commonpath([PurePosixPath(name).parent for name in far]) if _one_root(far) else ""
        tails = {name: name[len(common) :].lstrip("/") for name in far}
        parts = PurePosixPath(common).parts
        options = ["/".join(parts[start:]) for start in range(len(parts) + 1)]  # longest first, "" last
        hits = [sum(bool(self.find(_join(option, tail))) for tail in tails.values()) for option in options]
        best = options[hits.index(max(hits))]
        return [_join(best, tails[name]) if name in tails else name for name in plain]

    def find(self, name: str) -> list[Path]:
        """The pictures that a name means; none where it is empty or names nothing here."""
        if not name:
            return []
        plain = PurePosixPath(name).as_posix().lower()
        hits = self.by_name.get(plain) or self.by_name.get(without_ending(name).lower())
        if hits:
            return hits
        return [self.folder / name] if is_file(self.folder / name) else []

    def check(self, names: Sequence[str], hits: Sequence[Sequence[Path]], table: Path, least: float = 0.9) -> None:
        """FovealError unless the share `least` of the names match: it shows names, files, and what would match."""
        matched = sum(map(bool, hits))
        if not names or (matched and (matched + 1 >= len(names) or matched >= least * len(names))):
            return  # one row without its picture is no pattern
        missing = [name for name, found in zip(names, hits, strict=True) if not found]
        there = [path.relative_to(self.folder).as_posix() for path in self.pictures]
        what = (
            f"{table}: {matched} of {len(names)} names match a picture in {self.folder}; names: "
            f"{', '.join(map(repr, missing[:3]))}; files: {', '.join(map(repr, there[:3]))}"
        )
        fix = "correct the names, or delete the rows without a picture"
        plain = {without_ending(name).lower() for name in there}
        wrong = [name for name in (without_ending(name).lower() for name in missing) if name not in plain]
        for how, repair in _REPAIRS.items():
            files = set(map(repair, plain))
            would = sum(repair(name) in files for name in wrong)
            if 2 * would > len(missing):
                fix = f"correct the names: {would} of the other {len(missing)} would match {how}"
                break
        raise FovealError("table.unmatched", what, fix=fix)


def is_file(path: Path) -> bool:
    """Whether there is such a file; False for a name that no file can have."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _is_absolute(name: str) -> bool:
    return bool(re.match(r"/|[A-Za-z]:/", name))


def _one_root(names: Sequence[str]) -> bool:
    return len({name[:2].lower() if name[1:2] == ":" else "/" for name in names}) == 1


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name
