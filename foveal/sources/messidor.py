"""Messidor-1 and Messidor-2 as published (see cards.toml); neither names patients, but file names tell examinations."""

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd

from foveal.sources.cards import MESSIDOR
from foveal.sources.labels import Labelled, check_cells, graded, label_rows
from foveal.sources.names import plain_number
from foveal.sources.source import Layout, Source, SourceOptions, locate
from foveal.sources.tables import find_table, has_columns, read_rows, read_table

PUBLISHED = ("Image name", "Retinopathy grade")
# Columns of a single table, and the pattern of its image names by which `auto` recognises Messidor-1.
SINGLE = {("image", "Retinopathy_grade"): re.compile(r"\d{8}_\d+_\d{4}_PP"),
          ("image_fname", "diagnosis"): re.compile(r"\d{8}_\d+_\d{4}_PP\.tif")}  # fmt: skip
ADJUDICATED = ("image_id", "adjudicated_dr_grade", "adjudicated_dme", "adjudicated_gradable")
REPACKED = {"id_code": "image_id", "diagnosis": "adjudicated_dr_grade"}  # names of columns in a pack on Kaggle
# Matches the name of a patient in a prepared set whose groups, joined by copies, include one of `group_of`.
COARSE = re.compile(r"(?:^|\+)messidor2?/(\d{8}|IM\d+xx)(?=\+|$)")


class Messidor1(Layout[dict[Path, tuple[str, str]]], name="messidor"):
    """Messidor-1: twelve published tables, or the single table of a re-pack, on a scale of its own."""

    def _find(self, root: Path) -> dict[Path, tuple[str, str]]:
        """Tables and their columns of image and grade: the twelve published ones, or the single one at the top."""
        tables = [file for depth in ("", "*/", "*/*/") for file in root.glob(f"{depth}Annotation?Base*")]
        tables = [file for file in tables if file.suffix.lower() in {".xls", ".xlsx", ".csv"}]
        # The corrected table of a base comes after the first one and replaces it.
        bases = {file.name[:17]: file for file in sorted(tables, key=lambda file: ("update" in file.name, file.name))}
        if bases:
            return {bases[base]: PUBLISHED for base in sorted(bases)}
        single = {file: columns for file in sorted(root.glob("*.csv")) for columns, pattern in SINGLE.items()
                  if has_columns(file, columns)
                  and all(map(pattern.fullmatch, read_rows(file)[columns[0]].head()))}  # fmt: skip
        return single if len(single) == 1 else {}

    def _read(self, root: Path, found: dict[Path, tuple[str, str]], options: SourceOptions) -> Source:
        parts = [self._part(file, columns, root) for file, columns in found.items()]
        names = [file.name for file in found]
        notes = ["the grades are on Messidor's own scale 0-3, which is not ICDR"]
        if old := [name for name in names if re.match("Annotation.Base1[13]", name) and "update" not in name]:
            notes.append(f"{', '.join(old)}: ADCIS has published corrections, which are not used here")
        if any(re.match("Annotation.Base33", name) for name in names):
            notes.append("Base33 contains 13 pairs of copies, two of them with different grades")
        return _by_examination(graded(root, parts, MESSIDOR, *notes), {})

    def _part(self, file: Path, columns: tuple[str, str], root: Path) -> Labelled:
        rows = read_table(file, columns)
        # The course's columns as words: quality 0 as `quality-0`, type _101 as `type_101`.
        blank = pd.Series([""] * len(rows))
        quality = rows.get("quality", blank).replace("(.+)", r"quality-\1", regex=True)
        kind = rows.get("type", blank).replace("(.+)", r"type\1", regex=True)
        flags = list((quality + " " + kind).str.strip())
        keep = rows.drop(columns=[*columns, "quality", "type"], errors="ignore")
        return label_rows(file, rows[columns[0]], rows[columns[1]], MESSIDOR, folder=root, flags=flags, keep=keep)


class Messidor2(Layout[Path], name="messidor2"):
    """Messidor-2: a folder of photographs and Google's adjudicated grades, `messidor_data.csv`."""

    def _find(self, root: Path) -> Path | None:
        found = locate(root, "messidor_data.csv")
        return found and find_table(found)

    def _read(self, root: Path, found: Path, options: SourceOptions) -> Source:
        columns = (*REPACKED, "adjudicated_gradable") if has_columns(found, REPACKED) else ADJUDICATED
        rows = read_table(found, columns).rename(columns=REPACKED)
        names, gradable = list(rows["image_id"]), rows["adjudicated_gradable"].map(plain_number)
        check_cells(found, "adjudicated_gradable", names, gradable, "[01]?", "0 or 1", "table.value")
        cells = rows["adjudicated_dr_grade"].mask(gradable == "0", "ungradable")
        keep = rows.drop(columns=["image_id", "adjudicated_dr_grade", "adjudicated_gradable"])
        part = label_rows(found, names, cells, folder=root, ungradable="ungradable", keep=keep)
        return _by_examination(graded(root, [part]), _pairs(locate(root, "messidor-2.csv")))


def _by_examination(source: Source, pairs: dict[str, str]) -> Source:
    """`source` with ids without folders, and groups: the examination in `pairs`, otherwise that of `group_of`."""
    stems = [Path(name).name for name in source.table["id"]]
    groups = [pairs.get(stem.lower()) or group_of(stem) for stem in stems]
    return replace(source, table=source.table.assign(id=stems, group=groups))


def _pairs(path: Path | None) -> dict[str, str]:
    """Name in lower case -> examination, from ADCIS's table of left;right."""
    if not (file := path and find_table(path)):
        return {}
    rows = read_table(file, ("left", "right"))
    stems = [rows[side].map(lambda name: Path(name).stem.lower()) for side in ("left", "right")]
    return {name: left for left, right in zip(*stems, strict=True) for name in (left, right)}


def is_coarse(name: str, group: str) -> bool:
    """Whether the group of an image, also in a joined set or joined by copies, is `group_of`: of several patients."""
    stem = name.rpartition("/")[2]
    return group_of(stem) != stem and group_of(stem) in re.split(r"[+/]", group)


def group_of(stem: str) -> str:
    """A group that certainly holds the whole examination: the date of `20051020_…_PP`, the hundred of `IM001234`."""
    if date := re.match(r"(\d{8})_", stem):
        return date[1]
    number = re.fullmatch(r"IM(\d+)", stem, re.IGNORECASE)
    return f"IM{int(number[1]) // 100:04d}xx" if number else stem
