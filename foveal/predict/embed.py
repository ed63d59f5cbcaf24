"""embed: write the features of each photograph, a vector, to a table that other programs can show and search.

RUN is a grader, an encoder, or the name of a network. Photographs are prepared as for the run, or as `prepare` does it;
those that cannot be read have no row.
"""

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import tyro

from foveal.config import build, check
from foveal.console import hushed, progress_bar, say, warn
from foveal.errors import FovealError
from foveal.files import check_file, replacing
from foveal.fundus.preparation import Preparation, Prepared
from foveal.given import Given
from foveal.page.words import counted
from foveal.predict.inputs import Photograph, is_prepared, list_photographs, sort_inputs
from foveal.predict.likeness import diameter, diameters_of, looks_of, read_likeness
from foveal.predict.model import BATCH, batches, check_preparation, read_photographs
from foveal.runs import read_model
from foveal.sets.assemble import Assembly
from foveal.sets.options import ALL, PrepareConfig, is_drawn
from foveal.sets.prepare import read
from foveal.sets.records import PreparedSet, open_prepared
from foveal.sources.source import PICTURES

ENDINGS = (".parquet", ".csv")
COLUMNS = ["id", "file", "label", "class", "split", "group", "eye", "flags"]
Batch = tuple[pd.DataFrame, np.ndarray, np.ndarray]  # COLUMNS, prepared images [n, S, S, C], diameters of the discs [n]


@dataclass(frozen=True, kw_only=True)
class EmbedConfig:
    """Options of `foveal embed`."""

    # Run folder of pretrain or train, or the name of a network, whose weights --init chooses.
    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    # Photographs: a folder, a table, a zip archive, a "pattern", or a prepared set.
    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    # Table to write: .parquet or .csv.
    out: Path | None = Path("embeddings.parquet")
    # Weights of a network given by its name, which needs them: imagenet, random or a file of weights.
    init: str = ""
    # Device: auto, cpu, cuda or mps.
    device: str = "auto"

    def __post_init__(self) -> None:
        ending = ".csv" if self.out is None else self.out.suffix.lower()
        check(self, "out", ending in ENDINGS, f"a file that ends in {', '.join(ENDINGS)}")
        if ending == ".parquet" and importlib.util.find_spec("pyarrow") is None:
            fix = "pip install 'foveal[parquet]', or choose an --out that ends in .csv"
            raise FovealError("package.missing", f"--out {self.out} needs the package pyarrow", fix=fix)


def embed(config: EmbedConfig, encoder: str = "") -> pd.DataFrame:
    """Embed photographs; returns what it writes to --out, a row for each. encoder: of a program, as for `load`.

    Columns: id, file, label (Int64), class, split, group, eye, flags, of a grader unlike, and vector (float32 [D]).
    """
    from foveal.predict.features import check_network, open_network, open_run  # torch is needed only here

    if config.out is not None:
        check_file(config.out)
    run = Path(config.run)
    model = read_model(run) if run.is_dir() else {}
    if not model:
        check_network(config.run)
        if not config.init:  # a default might ask a hub
            raise FovealError("option.missing", f"{config.run} needs --init", expected="imagenet, random or a file")
    likeness = read_likeness(run) if model else None
    preparation, total, photographs = _opened(config.source, model)
    if model:
        network = open_run(run, config.device, encoder)
    else:
        network = open_network(config.run, config.init, preparation, config.device)
    parts = []
    with progress_bar("embed", total) as bar:
        for table, images, diameters in photographs:
            vectors, texture = network.answer(images, texture=likeness is not None)
            if likeness is not None and texture is not None:
                table["unlike"] = likeness.unlike(looks_of(images, diameters, int(likeness.side)), texture)
            parts.append(table.assign(vector=list(vectors)))
            bar.advance(len(table))
    if not parts:
        raise FovealError("image.all_unreadable", f"none of {counted(total, 'photograph')} can be read")
    found = pd.concat(parts, ignore_index=True)
    if config.out is not None:
        write(found, config.out)
    size = f"{counted(len(found), 'photograph')}, {len(found['vector'][0]):,} numbers each"
    say(f"{size}{'' if config.out is None else f': {config.out}'}")
    return found


def write(table: pd.DataFrame, out: Path) -> None:
    """Replace the table: .parquet with a column `vector`, .csv with v0, v1, …"""
    out.parent.mkdir(parents=True, exist_ok=True)
    with replacing(out) as partial:
        if out.suffix.lower() == ".parquet":
            table.to_parquet(partial, engine="pyarrow", index=False)
        else:
            numbers = pd.DataFrame(np.stack(list(table["vector"]))).add_prefix("v")
            table.drop(columns="vector").join(numbers).to_csv(partial, index=False, lineterminator="\n")


def _opened(source: Path | Given, model: dict[str, Any]) -> tuple[Preparation, int, Iterator[Batch]]:
    """How the photographs are prepared, their number, and the photographs, in batches."""
    own = Preparation(**model["preparation"]) if model else None
    if isinstance(source, Path) and is_prepared(source):
        prepared = open_prepared(source)
        if own is not None:
            check_preparation(prepared, own)
        return Preparation(**prepared.card["options"]), len(prepared.records), _of_set(prepared)
    fundus = model.get("fundus", own is None or own.crop != "none")
    if isinstance(source, Path) and _is_listed(source):
        way, photographs = own or Preparation(size=256, crop="ellipse"), list_photographs(sort_inputs([source])[0])
        table = pd.DataFrame({"id": [photograph.id for photograph in photographs]}).assign(file=lambda own: own["id"])
        table = table.assign(label=pd.array([pd.NA] * len(table), "Int64"), **dict.fromkeys(COLUMNS[3:], ""))
    else:
        assembly = _read(source, {} if own is None else own.asked(fundus))
        read_in, way, fundus = assembly.source, own or assembly.preparation, assembly.card.fundus
        table, arrays = _table(read_in.table, read_in.classes, [read_in.root]), read_in.images
        photographs = [Photograph(name, Path(file), pixels=None if arrays is None else arrays[row])
                       for row, (name, file) in enumerate(zip(table["id"], table["file"], strict=True))]  # fmt: skip
    return way, len(photographs), _of_photographs(photographs, table, way, fundus)


def _is_listed(source: Path) -> bool:
    """Whether this is an archive, a picture or a pattern, and not a folder or a table that `prepare` reads."""
    return source.suffix.lower() in (".zip", *PICTURES) or not (source.exists() or is_drawn(source))


def _read(source: Path | Given, asked: dict[str, Any]) -> Assembly:
    """The source as `prepare` reads it; without its labels where they are not clear."""
    asked, unclear = asked | {"source": (source,), "out": "embeddings"}, ""
    with hushed():  # prepare names options that embed does not have
        try:
            found = read(build(PrepareConfig, asked, "prepare"), None)
        except FovealError as error:
            if error.code.partition(".")[0] not in ("label", "table") and error.code != "source.shape":
                raise
            unclear = error.what
            found = read(build(PrepareConfig, asked | {"unlabelled": ALL}, "prepare"), None)
    classes = ", ".join(found.source.classes)
    read_as = "images of this program" if isinstance(source, Given) else f"{source} is read as {found.name}"
    say(f"{read_as}, {f'with the classes {classes}' if classes else 'without labels'}")
    if unclear:
        warn(f"labels are left out: {unclear}")
    return found


def _table(rows: pd.DataFrame, classes: Sequence[str], roots: Sequence[Path]) -> pd.DataFrame:
    """COLUMNS of these rows; the path of a file is below one of these folders, or stays where it is not there."""
    files = [next((str(root / file) for root in roots if (root / file).is_file()), file) for file in rows["file"]]
    names = ["" if pd.isna(label) else classes[int(label)] for label in rows["label"]]
    return rows.assign(file=files, **{"class": names})[COLUMNS]


def _of_set(prepared: PreparedSet) -> Iterator[Batch]:
    sources = [Path(path) for path in prepared.card.get("source", [])]
    roots = [folder for path in sources for folder in (path, path.parent)]  # a table is beside its pictures
    for start in range(0, len(prepared.records), BATCH):
        part = prepared.records.iloc[start : start + BATCH]
        yield _table(part, prepared.classes, roots), prepared.pixels(part), diameters_of(part, prepared.measures)


def _of_photographs(listed: list[Photograph], table: pd.DataFrame, way: Preparation, fundus: bool) -> Iterator[Batch]:
    """The photographs that can be read, with their quality flags; warns of the others at the end."""
    known, unread = table.set_index("id"), []
    for batch in batches(read_photographs(listed, way, fundus)):
        unread += [f"{photograph.id}: {found}" for photograph, found in batch if isinstance(found, FovealError)]
        good = [(photograph.id, found) for photograph, found in batch if isinstance(found, Prepared)]
        if not good:
            continue
        part = known.loc[[name for name, _ in good]].reset_index()
        flags = zip(part["flags"], good, strict=True)
        part["flags"] = [" ".join(filter(None, (own, *found.flags))) for own, (_, found) in flags]
        sizes = [diameter(found.width, found.height, found.measures.get("border", np.nan)) for _, found in good]
        yield part, np.stack([found.pixels for _, found in good]), np.array(sizes)
    if unread:
        count = f"{len(unread)} of {counted(len(listed), 'photograph')}"
        warn(f"{count} cannot be read and are left out, such as {unread[0]}")
