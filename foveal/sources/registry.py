"""The sources by name, and reading a folder with the one that recognises it."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from foveal.console import say, warn
from foveal.errors import FovealError
from foveal.fundus.dicom import origin_in_header
from foveal.fundus.header import NO_DICOM
from foveal.page.words import counted
from foveal.sources.arrays import Cifar10, MedMnist, Mnist, Phantoms, RetinaMnist
from foveal.sources.cards import CARDS
from foveal.sources.columns import usual_columns
from foveal.sources.folder import MOST_OF_ONE, Folder
from foveal.sources.messidor import Messidor1, Messidor2
from foveal.sources.names import HIDDEN
from foveal.sources.patients import one_spelling
from foveal.sources.published import Aptos, Ddr, DeepDrid, EyePacs, Idrid
from foveal.sources.source import ADVICE, KEPT, PICTURES, SPLITS, Layout, Source, SourceOptions
from foveal.sources.table import Table

# The first one that recognises a folder reads it, so the most specific ones come first.
SOURCES: dict[str, Layout[Any]] = {layout.name: layout for layout in (
    Phantoms(), Messidor2(), Idrid(), Ddr(), DeepDrid(), Aptos(), EyePacs(), Messidor1(), RetinaMnist(), MedMnist(),
    Mnist(), Cifar10(), Table(), Folder(),
)}  # fmt: skip
DatasetName = Literal["auto", "phantom", "messidor2", "idrid", "ddr", "deepdrid", "aptos2019", "eyepacs", "messidor",
                      "retinamnist", "medmnist", "mnist", "cifar10", "table", "folder"]  # fmt: skip


def read_source(root: Path, dataset: str, options: SourceOptions) -> tuple[str, Source]:
    """The name of the source at `root` (`dataset`, unless "auto") and what it holds; FovealError if it is faulty."""
    if not SOURCES["phantom"].recognise(root) and not root.exists():
        raise FovealError("source.missing", f"there is no file or folder {root}")
    try:
        name = dataset
        if dataset == "auto":
            if not (name := next((name for name, layout in SOURCES.items() if layout.recognise(root)), "")):
                fix = ADVICE.get(root.suffix.lower(), f"choose one with --dataset: {', '.join(SOURCES)}")
                raise FovealError("source.unknown", f"no source recognises {root}", fix=fix)
            say(f"{root} is read as {name} ({CARDS[name].title}). Layout: {CARDS[name].layout}")
        if name != "table":
            refuse_columns(options, f"{root} is read as {name}", "read it as a table with --dataset table")
        source = SOURCES[name].load(root, options)
    except OSError as error:
        raise FovealError("source.damaged", f"{root} cannot be read ({error})") from error
    table = _with_headers(source)
    if bad := [name for name in [*table["file"], *table["id"]] if re.search(r"[\r\0\ud800-\udfff]", name)]:
        what = f"{root} contains names that are not UTF-8 or contain a line break: {', '.join(map(repr, bad[:5]))}"
        raise FovealError("source.names", what, fix="rename these files")
    if len(repeated := table["id"][table["id"].duplicated()].unique()):
        what = f"{root} names {counted(len(repeated), 'image')} more than once: {', '.join(repeated[:5])}"
        raise FovealError("table.duplicate_image", what, fix="keep one row of each")
    if unknown := sorted(set(table["split"]) - {*SPLITS, ""}):
        raise FovealError("split.unknown", f"{root} has the splits {', '.join(unknown[:5])}", expected=str(SPLITS))
    for note in filter(None, [*source.notes, _outside(root, source)]):
        (warn if "--scale icdr" in note else say)(f"  {note}")
    table["group"] = one_spelling(table["group"])
    return name, replace(source, table=table)


def _outside(root: Path, source: Source) -> str:
    """A note on the pictures at `root` that are not in the folder that is read; "" if there are none."""
    inside = source.root if source.images is None and root in source.root.parents else root
    others = (path for path in root.rglob("*") if path.suffix.lower() in PICTURES) if inside != root else ()
    places = [path.relative_to(root).parent.as_posix() for path in others if inside not in path.parents]
    count = Counter(place for place in places if not HIDDEN.search(place)).most_common()
    listed = ", ".join(f"{folder} ({number:,})" for folder, number in count)
    return f"only {inside} is read; pictures in other folders are left out: {listed}" if count else ""


def refuse_columns(options: SourceOptions, read_as: str, fix: str) -> None:
    """FovealError if options name columns, for a source that is not a table."""
    columns = ("image", "label", "group", "split")
    if asked := [f"--{what}-column" for what in columns if getattr(options, f"{what}_column") is not None]:
        raise FovealError("option.conflict", f"{', '.join(asked)} applies to tables, but {read_as}", fix=fix)


def _with_headers(source: Source) -> pd.DataFrame:
    """The table with patients, eyes and cameras from DICOM headers: they count more than names, less than columns."""
    table = source.table.copy()
    unknown = ~table["file"].str.lower().str.endswith(NO_DICOM)  # a file with no ending may be DICOM
    if source.images is None and unknown.any():
        found = [origin_in_header(source.root / file) for file in table.loc[unknown, "file"]]
        known = pd.DataFrame(found, columns=["group", "eye", "camera"], index=table.index[unknown], dtype=object)
        for column in ("group", "eye"):
            told, header = table[column], known[column].reindex(table.index, fill_value="")
            # A patient that all headers name, although file names tell several or there are many, is nobody.
            named, one = told[header != ""], column == "group" and header[header != ""].nunique() == 1
            if one and len(named) > MOST_OF_ONE:
                files = table["file"].where(header != "", "")
                header = files.map(lambda file: file and origin_in_header(source.root / file, by_study=True)[0])
                if header[header != ""].nunique() == 1:  # one study of all is nobody either
                    header = header.map(lambda _: "")
                instead = (
                    "each study counts as a patient instead" if header.any() else "the patient is taken as unknown"
                )
                warn(f"all {len(named)} DICOM headers name the same patient; {instead}")
            by_names = column in source.given or (one and named.nunique() > 1)
            keep = told != "" if by_names else header == ""
            table[column] = told.where(keep, header)
            if column == "group":  # files without a header have the patient of equal names
                patient_of = {name: patient for name, patient in zip(told[~keep], header[~keep], strict=True) if name}
                table[column] = table[column].map(lambda name: patient_of.get(name, name))  # noqa: B023
        if known["camera"].any() and not usual_columns(table.rename(columns=lambda name: name[len(KEPT) :]), "camera"):
            table[f"{KEPT}camera"] = known["camera"].reindex(table.index, fill_value="")
    return table


def list_cards() -> None:
    """Print what is known about each source, in the order of SOURCES."""
    for name in SOURCES:
        card = CARDS[name]
        say(f"{name}: {card.title}", style="bold")
        scale = "" if card.scale == "none" else f"{card.scale}: {', '.join(card.classes)}"
        facts = {"images": card.counts, "scale": scale, "files": card.layout, "traps": card.traps}
        for what, fact in (facts | {"licence": card.licence, "reference": card.reference}).items():
            if fact:
                say(f"  {what:<10}{fact}")
