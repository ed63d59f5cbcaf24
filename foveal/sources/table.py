"""A table of labels with a folder of images, as clinics have them."""

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from statistics import median

import pandas as pd

from foveal.console import warn
from foveal.errors import FovealError
from foveal.page.words import counted
from foveal.sources import names as words
from foveal.sources.cards import CLASSES
from foveal.sources.classes import name_classes, spellings
from foveal.sources.columns import row_per_picture, usual_columns
from foveal.sources.folder import TASKS, parts_note
from foveal.sources.labels import Labelled, add_pictures, pool_note, read_labels
from foveal.sources.matching import Matcher, is_file
from foveal.sources.patients import names_note, patients_and_eyes, read_patients
from foveal.sources.source import TABLES, Layout, Source, SourceOptions, list_files, make_table, without_ending
from foveal.sources.tables import choose_column, keep_columns, known_set, read_rows, tables_at

METADATA = "metadata.csv"


class Table(Layout[list[Path]], name="table"):
    """A CSV or Excel file of labels and a folder of images; pictures that it does not name are a pool.

    The table is given itself, or has labels of the pictures in a folder, where several tables may be. train.csv and
    test.csv are two parts, and so are metadata.csv (column file_name) in train, validation and test.
    """

    def _find(self, root: Path) -> list[Path]:
        parts = [root / part / METADATA for part in words.PARTS if (root / part / METADATA).is_file()]
        return [root / METADATA] if (root / METADATA).is_file() else parts or tables_at(root)

    def _read(self, root: Path, found: list[Path], options: SourceOptions) -> Source:
        try:
            folder, (pictures, tables) = _files_of(root, found, options)
        except FovealError:
            for file in found:  # a table without labels needs no pictures to be refused
                choose_column(row_per_picture(read_rows(file)), options.label_column, "label", file)
            raise
        read = [_part(file, folder, pictures, options, len(found) > 1) for file in found]
        spelled = spellings(text for part, _ in read for text in part.rows["text"])
        for part, _ in read:
            part.rows["text"] = part.rows["text"].map(spelled)
        if len(found) > 1 and not all(words.part_of(file.stem) or file.name == METADATA for file in found):
            read = _together(read, pictures)
        parts, used = zip(*read, strict=True)
        table, pool = add_pictures(folder, parts, pictures, tables if options.unlabelled >= 0 else [])
        named = table.index < len(table) - pool
        text, places = list(table.pop("text").fillna("")), list(table.pop("place"))
        rows: dict[str, list[str]] = {}
        for label, place, file in zip(text, places, table["file"], strict=True):
            if label and (words.grade_of(label) is not None or is_file(folder / file)):  # a sum is no class
                rows.setdefault(label, []).append(place)
        if lost := [
            f"{label!r} in {at}" for label, at in zip(text, places, strict=True) if label and label not in rows
        ]:
            warn(f"labels of rows without a picture are no classes: {', '.join(lost[:5])}")
        counts = Counter({label: len(places) for label, places in rows.items()})
        numbers, classes, scale, note = name_classes(set(counts), options.scale, rows)
        if scale == "none" and options.scale != "none" and len(counts) > 10 and median(counts.values()) <= 2:
            what = f"{found[0]} has {len(counts)} labels in {counts.total()} rows, such as {next(iter(counts))}"
            raise FovealError("label.classes", what, fix="give --label-column, or --scale none if they are classes")
        table["label"] = pd.Series([numbers.get(label) for label in text], dtype="Int64")
        # A picture that no table names has the patient whom the table gives to equal names, such as 17_left.
        pairs = list(zip(patients_and_eyes(list(table["id"][named]))[0], table["group"][named], strict=True))
        given, by_names = {name: group for name, group in pairs if name and group}, all(a == b for a, b in pairs)
        table.loc[~named, "group"] = [given.get(name, name if by_names else "") for name in table["group"][~named]]
        ungradable = int((table["flags"][named] == "ungradable").sum())
        lacks = ((int(table["label"][named].isna().sum()) - ungradable, "without a label"), (ungradable, "ungradable"))
        lacking = "; ".join(f"{counted(count, 'row')} {what}" for count, what in lacks if count)
        notes = (*used, note, lacking, parts_note(list(table["split"])), pool_note(pool))
        return Source(root=folder, table=table, classes=classes, scale=scale, task=TASKS[scale], notes=notes, pool=pool,
                      given=frozenset[str]().union(*(part.given for part in parts)),
                      numbered=all(map(str.isdecimal, counts)))  # fmt: skip


def _together(read: Sequence[tuple[Labelled, str]], pictures: list[Path]) -> list[tuple[Labelled, str]]:
    """Those of several tables that name pictures here, each picture once; FovealError if two labels differ."""
    label_of: dict[Path, str] = {}
    kept, unused = [], list[str]()
    for part, note in read:
        matcher = Matcher(pictures, part.folder)
        hits = [matcher.find(name) for name in part.rows["file"]]
        pairs = {path: text for paths, text in zip(hits, part.rows["text"], strict=True) for path in paths}
        if differ := [path for path, text in pairs.items() if label_of.get(path, text) != text]:
            what = f"several tables label the same pictures, and {part.table} has different labels than the others for "
            what += f"{counted(len(differ), 'picture')}, such as {differ[0]}: {[str(other.table) for other, _ in read]}"
            raise FovealError("table.several", what, fix="give one of them as the source")
        new = [not paths or not label_of.keys() >= {*paths} for paths in hits]
        if pairs.keys() - label_of.keys():
            kept.append((replace(part, rows=part.rows[new].reset_index(drop=True)), note))
        else:
            unused.append(str(part.table))
        label_of |= pairs
    if unused and kept:
        warn(f"not used, because they name no further pictures: {', '.join(unused)}")
    return kept or list(read)


def _part(
    file: Path, folder: Path, pictures: list[Path], options: SourceOptions, several: bool
) -> tuple[Labelled, str]:
    """One file, whose labels are still text in a column `text`, and a note on the columns used."""
    plain = read_rows(file)
    rows = row_per_picture(plain) if options.image_column is None and options.label_column is None else plain
    image = choose_column(rows, options.image_column, "image", file)
    label = "" if options.unlabelled < 0 else choose_column(rows, options.label_column, "label", file)
    records = [name for name in usual_columns(rows, "record") if rows[name].duplicated().any()]
    columns = usual_columns(rows, "group") or records
    group = next((name for name in columns if not all(map(words.is_nobody, rows[name]))), "")  # it need not be there
    if options.group_column is not None:
        group = choose_column(rows, options.group_column, "group", file)
    split = "" if options.split_column is None else choose_column(rows, options.split_column, "split", file)
    eye = _eye_column(rows, file)
    numbers = rows.index + 2  # row 1 holds the names of the columns
    if empty := [f"row {row}" for row, name in zip(numbers, rows[image], strict=True) if words.is_missing(name)]:
        what = f"{file} names no picture in {counted(len(empty), 'row')}: {', '.join(empty[:5])}"
        raise FovealError("table.image_name", what, fix=f"fill the column {image}, or delete these rows")
    within = file.parent == folder or any(path.is_relative_to(file.parent) for path in pictures)
    place = file.parent if within else folder
    part = place.relative_to(folder)  # the folder of this part of an image folder; otherwise "."
    names = Matcher(pictures, place).relative(list(rows[image]))
    ids = [(part / without_ending(name)).as_posix() for name in names]
    text, flags = read_labels(rows[label] if label else pd.Series("", rows.index), file, options.scale)
    patients, eyes = patients_and_eyes(ids, [path.with_suffix("").as_posix() for path in pictures])
    about = {"images": image, "labels": label, "patients": group, "eyes": eye}
    notes = [f"{what} from column '{column}'" for what, column in about.items() if column in plain]
    if made := [repr(column) for column in plain if column not in rows]:
        notes.append(f"a picture or a class in each of the columns {', '.join(made)}")
    if group:
        cells = read_patients(list(rows[group]), file, group)
        patients = _without_eyes(cells, group, file)
        if empty := [f"row {number}" for number, cell in zip(numbers, cells, strict=True) if not cell]:
            what = f"column '{group}' names no patient in {counted(len(empty), 'row')}: {', '.join(empty[:5])}"
            warn(f"{file}: {what}; fill in what is known, and write merged cells into each row")
    elif told := names_note(ids, patients, eyes):
        notes.append(told)
    if (unread := _part_column(rows)) and not split:
        notes.append(f"column '{unread}' names parts but is not used; --split-column {unread} uses it")
    if eye:
        named, eyes = eyes, [words.eye_of(cell) or known for cell, known in zip(rows[eye], eyes, strict=True)]
        if wrong := [pair for pair in zip(ids, named, eyes, strict=True) if pair[1] not in ("", pair[2])]:
            first = "{} is the {} eye by its name, but the {} one in the table".format(*wrong[0])
            warn(f"{file}: names and column '{eye}' differ for {counted(len(wrong), 'photograph')}: {first}")
    whole = words.part_of(part.name or (file.stem if several else ""))
    splits = list(rows[split].str.lower().replace(words.PARTS)) if split else whole
    table = make_table(ids, names, split=splits, eye=eyes, group=patients, flags=flags)
    table = table.assign(text=text, place=[f"row {number} of {file.name}" for number in numbers])
    keep = rows.drop(columns=[column for column in (*about.values(), split) if column])
    known_as = known_set(file, map(str, rows))
    if known_as and label.lower() == "dr" and options.scale in CLASSES:
        what = f"--scale {options.scale}, but {known_as}"
        raise FovealError("label.scale", what, fix="give --scale none for two classes, with and without retinopathy")
    notes += filter(None, [plain.attrs.get("sheets")])
    note = f"{file.name}: {', '.join(notes)}" + (f"; {known_as}" if known_as else "")
    first_row = 2 if list(rows.index) == list(range(len(rows))) else None
    given = frozenset(what for what, column in (("group", group), ("eye", eye)) if column)
    return Labelled(table=file, folder=place, rows=keep_columns(table, keep), first_row=first_row, given=given), note


def _without_eyes(cells: list[str], column: str, file: Path) -> list[str]:
    """The patients of cells such as P002-L and P002-R, if all have an eye and some have both; else the cells."""
    told = list(dict.fromkeys(filter(None, cells)))
    pairs = list(zip(*patients_and_eyes(told), strict=True))
    if not all(map(all, pairs)) or len({patient for patient, _ in pairs}) == len(pairs):
        return cells
    warn(f"{file}: column '{column}' names eyes, such as {told[0]}, which count as the patient {pairs[0][0]}")
    patient_of = {cell: patient for cell, (patient, _) in zip(told, pairs, strict=True)}
    return [patient_of.get(cell, "") for cell in cells]


def _part_column(rows: pd.DataFrame) -> str:
    """A column whose cells are all names of parts, such as train, valid and test; "" if there is none."""
    parts = {*words.PARTS, *words.PARTS.values()}
    told = (str(name) for name in rows if {cell.lower() for cell in rows[name] if not words.is_missing(cell)} <= parts)
    return next((name for name in told if not all(map(words.is_missing, rows[name]))), "")


def _eye_column(rows: pd.DataFrame, file: Path) -> str:
    """The column of eyes, "" if there is none; warns of cells that cannot be read."""
    columns = [name for name in usual_columns(rows, "eye") if not all(map(words.is_missing, rows[name]))]
    read = [name for name in columns if any(map(words.eye_of, rows[name]))]
    for name in read[:1] or columns:
        strange = dict.fromkeys(cell for cell in rows[name] if not words.is_missing(cell) and not words.eye_of(cell))
        if listed := ", ".join(map(repr, list(strange)[:5])):
            warn(f"{file}: {listed} in column '{name}' do not name an eye; write left or right (or OD or OS) instead")
    return next(iter(read), "")


def _files_of(root: Path, files: list[Path], options: SourceOptions) -> tuple[Path, tuple[list[Path], list[Path]]]:
    """The folder, its pictures and other tables to look at. Of a table that was given: the absolute paths in it, if
    they are elsewhere; else all pictures below it; else those in folders beside its own with pictures of such names."""
    if root.is_dir() and root.suffix.lower() not in TABLES:
        return root, list_files(root)
    pairs = [(row_per_picture(read_rows(file)), file) for file in files]
    names = [name for own, file in pairs for name in own[choose_column(own, options.image_column, "image", file)]]
    given = {path for path in map(Path, names) if path.is_absolute() and is_file(path)}
    if given and not all(path.is_relative_to(root.parent) for path in given):
        return Path(os.path.commonpath([path.parent for path in given])), (sorted(given), [])
    with suppress(FovealError):
        return root.parent, (list_files(root.parent)[0], [])
    folder = root.parent.parent if len(files) == 1 else root.parent
    pictures = list_files(folder)[0]
    matcher = Matcher(pictures, folder)
    used = {path.relative_to(folder).parts[0] for name in matcher.relative(names) for path in matcher.find(name)}
    return folder, ([path for path in pictures if path.relative_to(folder).parts[0] in used] or pictures, [])
