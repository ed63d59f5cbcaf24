"""A folder of images: a folder per class, parts, patients, or a pool."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import pandas as pd

from foveal.errors import FovealError
from foveal.page.words import counted
from foveal.sources import names as words
from foveal.sources.cards import CLASSES
from foveal.sources.classes import name_classes, spellings
from foveal.sources.labels import check_grades, without_masks
from foveal.sources.patients import names_note, patients_and_eyes
from foveal.sources.source import Layout, Source, SourceOptions, list_files, make_table, picture_ids
from foveal.sources.tables import known_table

TASKS = {"icdr": "grading", "messidor": "grading", "none": "classification"}  # of classes on these scales
MOST_OF_ONE = 20  # photographs that one patient may have
MOST_NUMBERED = 8  # classes with so few photographs that are only numbers


class Folder(Layout[Path], name="folder"):
    """A folder per class, {train,val,test}/class, or a flat, unlabelled pool; any folder will do, so it comes last."""

    def _find(self, root: Path) -> Path | None:
        return root if root.is_dir() else None

    def _read(self, root: Path, found: Path, options: SourceOptions) -> Source:
        everything, unread = list_files(root)
        files = without_masks(root, everything)
        paths, ids = [path.relative_to(root) for path in files], picture_ids(files, root)
        patients, eyes = patients_and_eyes(ids)
        told = names_note(ids, patients, eyes)
        splits, names = read_levels([path.parts[:-1] for path in paths], options.scale)
        flags = ["ungradable" if words.UNGRADABLE.search(name) else "" for name in names]
        names = ["" if flag or words.is_missing(name) else name for name, flag in zip(names, flags, strict=True)]
        names = list(map(spellings(names).__getitem__, names))
        table = make_table(ids, [path.as_posix() for path in paths], group=patients, eye=eyes, flags=flags)
        tables = [path.relative_to(root).as_posix() for path in unread]
        listed = ", ".join(tables[:5]) + (", …" if len(tables) > 5 else "")
        known = next(filter(None, map(known_table, unread[:5])), "")
        unused = f"not used: {listed}{known and f' ({known})'}; to take labels from a table, give it as the source"
        unused = unused if tables else ""
        counts = Counter(filter(None, names))
        if len(counts) < 2 - (options.scale in CLASSES) or options.unlabelled < 0:
            pool = f"an unlabelled pool of {counted(len(files), 'picture')}"
            return Source(root=root, table=table, classes=(), task="none", notes=(pool, told, unused))
        check_grades([name for name in names if name], root, options.scale)
        numbers, classes, scale, note = name_classes(set(counts), options.scale)
        if scale == "none" and options.scale != "none":
            check_shape(root, counts)
        labels = pd.Series([numbers[name] if name else None for name in names], dtype="Int64")
        table = table.assign(label=labels, split=splits)
        outside = names.count("") - flags.count("ungradable")
        listed = ", ".join(f"{name} ({counts[name]})" for name in sorted(counts, key=lambda name: numbers[name]))
        notes = (f"a folder per class, in this order: {listed}; --unlabelled ignores the folders", note,
                 f"{counted(outside, 'picture')} outside the class folders: an unlabelled pool" if outside else "",
                 f"{counted(flags.count('ungradable'), 'picture')} in a folder of ungradable ones" * any(flags),
                 parts_note(splits), told, unused)  # fmt: skip
        return Source(root=root, table=table, classes=classes, scale=scale, task=TASKS[scale], notes=notes,
                      numbered=all(map(str.isdecimal, counts)))  # fmt: skip


def read_levels(folders: Sequence[tuple[str, ...]], scale: str) -> tuple[list[str], list[str]]:
    """The split and the class of each picture, from the folders it is in; "" if they do not say.

    A level of folders that are all named like parts is the split. The class is the level whose names are grades, or
    else the first one with several names that is not of parts or eyes, but of two of these one with the name of a
    grade. FovealError if the same names are below several folders of a level, so that either may be the classes.
    """
    reached, depth = min(map(len, folders)), max(map(len, folders))  # levels that all, or some, pictures have
    levels = [sorted({parts[level] for parts in folders if len(parts) > level}) for level in range(depth)]
    part = next((n for n, names in enumerate(levels[:reached]) if all(map(words.part_of, names))), -1)
    graded = [n for n, names in enumerate(levels)
              if any(words.grade_of(name) is not None for name in names if not name.isdecimal())]  # fmt: skip
    least = {n: 1 if n in graded and scale in CLASSES else 2 for n in range(depth)}  # all may have one grade
    several = [n for n, names in enumerate(levels) if n != part and len(names) >= least[n]]
    plain = [n for n in several if not any(all(map(test, levels[n])) for test in (words.is_wrapper, words.eye_of))]
    worded = [n for n in plain if n in graded]
    level = next(iter([n for n in several if are_grades(levels[n], scale)] or worded or plain), -1)
    if level in plain and not worded and (lower := [n for n in plain if n > level and _repeats(folders, level, n)]):
        both = "; ".join(", ".join(levels[n][:5]) for n in (level, lower[0]))
        fix = "give the folder of one of the first, a table of labels, or --unlabelled to ignore the folders"
        raise FovealError("source.shape", f"two levels of folders may be the classes: {both}", fix=fix)
    splits = [words.part_of(parts[part]) if part >= 0 else "" for parts in folders]
    return splits, [words.plain_number(parts[level]) if 0 <= level < len(parts) else "" for parts in folders]


def _repeats(folders: Sequence[tuple[str, ...]], upper: int, lower: int) -> bool:
    """Whether all folders of a level have the same few names in a lower one, with several pictures in each."""
    found = Counter((parts[upper], parts[lower]) for parts in folders if len(parts) > lower)
    names = [{name for place, name in found if place == each} for each in {place for place, _ in found}]
    return len(names) > 1 and all(own == names[0] for own in names) and median(found.values()) > 2


def are_grades(names: Sequence[str], scale: str) -> bool:
    """Whether names of folders are on a scale of grades."""
    plain = map(words.plain_number, names)
    named = {name for name in plain if not words.is_missing(name) and not words.UNGRADABLE.search(name)}
    try:
        return name_classes(named, scale if scale in ("icdr", "messidor") else "auto")[2] != "none"
    except FovealError:
        return False


def check_shape(root: Path, counts: Counter[str]) -> None:
    """FovealError if the folders are hardly classes: patients, dates, parts, or one or two pictures in each."""
    kinds: dict[str, Callable[[str], object]] = {"patients": words.PATIENT.fullmatch, "dates or visits": words.is_date}
    kinds["parts"] = lambda name: words.part_of(name) or words.FOLD.fullmatch(name)
    kinds["folders of a camera or program"] = words.is_wrapper
    like = [kind for kind, test in kinds.items() if 2 * sum(map(bool, map(test, counts))) > len(counts)]
    if _are_numbers(counts):
        like.append("numbers of patients or days")
    if like or median(counts.values()) <= 2:
        reason = f"are named like {like[0]}" if like else "hold one or two pictures each"
        listed = ", ".join(f"{name} ({count})" for name, count in list(counts.items())[:5])
        what = f"{root} has {len(counts)} folders with pictures, which {reason}: {listed}"
        fix = "give --unlabelled to ignore the folders, --scale none if they are classes, or a table of labels"
        raise FovealError("source.shape", what, expected="a folder per class", fix=fix)


def _are_numbers(counts: Counter[str]) -> bool:
    """Whether folders, with this many pictures, are numbered like patients or days, as in 001, 002 or Eye 1, Eye 2."""
    found = [match for match in (re.fullmatch(r"(\D*?)[-_ ]*(\d+)", name) for name in counts) if match]
    heads = {match[1].lower() for match in found}
    if len(found) < len(counts) or len(heads) > 1 or heads <= words.COUNTERS or set(counts) <= words.ETDRS:
        return False
    numbers = [int(match[2]) for match in found]
    far = heads == {""} and median(numbers) >= 10 and max(numbers) > len(numbers)
    filled = any(match[2][0] == "0" and len(match[2]) > 2 for match in found)
    few = median(counts.values()) <= MOST_OF_ONE and min(numbers) > 0
    return far or filled or (few and len(numbers) > MOST_NUMBERED)


def parts_note(splits: Sequence[str]) -> str:
    """A note on the parts that the source has; empty if it has none."""
    counts = Counter(filter(None, splits))
    return f"parts of the source: {', '.join(f'{split} {n:,}' for split, n in counts.items())}" if counts else ""
