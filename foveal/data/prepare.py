"""prepare: from a source to a prepared set, every picture decoded exactly once.

    foveal prepare SOURCE --out DATA
    foveal prepare photographs/ --out data/photographs --size 256
    foveal prepare phantom:600 --out data/phantom

The set is written beside `--out` and moved there when it is whole, so that nothing half-written is ever found.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import tyro

from foveal.config import pick, plain
from foveal.console import progress_bar, say, show_table, warn
from foveal.data.cards import CARDS, Card
from foveal.data.classes import merge_classes
from foveal.data.records import SPLITS, open_prepared, validate, write_records
from foveal.data.registry import DatasetName, read_source
from foveal.data.shards import ShardWriter, compact
from foveal.data.source import Source, SourceOptions
from foveal.data.splits import SplitOptions, decide_splits
from foveal.fundus.decode import DecodeError
from foveal.fundus.preparation import Preparation, Prepared, prepare_file, prepare_pixels
from foveal.runs import write_json


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Options of `foveal prepare`."""

    # Folder, CSV or array file to read; or phantom:600 for 600 drawn photographs.
    source: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    # Folder to write the prepared set to; it must not exist yet.
    out: Path
    # What the source is; auto recognises it from its files and prints the guess.
    dataset: DatasetName = "auto"
    # Side of the prepared images in pixels; 0 keeps the size of arrays and means 256 for photographs.
    size: int = 0
    # Crop to the retinal disc, or keep the whole frame; auto crops fundus photographs, not ready-made arrays.
    crop: Literal["auto", "disc", "none"] = "auto"
    # Classes in order, merged with +, as "0,1,2,3+4"; empty keeps those of the source.
    classes: str = ""
    # What the classes mean: icdr is the 0-4 severity scale; auto takes it from the source.
    scale: Literal["auto", "icdr", "none"] = "auto"
    # Share of the labelled images for validation, where the source has no such part.
    val: float = 0.15
    # Share of the labelled images for the test, where the source has no such part.
    test: float = 0.2
    # Training images that keep their label, the others become unlabelled; 0 keeps all labels.
    labelled: int = 0
    # Unlabelled images to keep at most; 0 keeps all.
    unlabelled: int = 0
    # Column of the table that names the image.
    image_column: str | None = None
    # Column of the table that holds the label.
    label_column: str | None = None
    # Column of the table that names the patient.
    group_column: str | None = None
    # Column of the table that says train, val or test.
    split_column: str | None = None
    # Decides the split and, for phantoms, the drawings.
    seed: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.val < 1 and 0 <= self.test < 1 and self.val + self.test < 1):
            raise ValueError(
                f"--val and --test are shares below 1 that leave some for training: {self.val}, {self.test}"
            )
        if self.size and not 8 <= self.size <= 4096:
            raise ValueError(f"--size must be between 8 and 4096 pixels, got {self.size}")
        if self.labelled < 0 or self.unlabelled < 0:
            raise ValueError("--labelled and --unlabelled are counts and cannot be negative")


def prepare(config: PrepareConfig) -> Path:
    """Read a source, decode every picture once, and write a prepared set; returns its folder."""
    if is_prepared(config):
        say(f"{config.out} is prepared already, with the same options; delete it to read the source again")
        return config.out
    if config.out.exists() and (not config.out.is_dir() or any(config.out.iterdir())):
        raise ValueError(f"--out {config.out} exists already; choose another --out, or delete it first")
    name, source = read_source(config.source, config.dataset, pick(SourceOptions, config))
    card = CARDS[name]
    source = merge_classes(source, config.classes) if config.classes else source
    preparation = choose_preparation(config, card, source)
    partial = config.out.with_name(f".{config.out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        records, rejected = write_images(source, preparation, partial)
        written = len(records)
        records = decide_splits(records, pick(SplitOptions, config))
        if len(records) < written:
            records = compact(partial, records)
        finish(partial, records, rejected, source, card, name, config, preparation)
        if config.out.exists():
            config.out.rmdir()
        partial.rename(config.out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    report(config.out, len(rejected))
    return config.out


def is_prepared(config: PrepareConfig) -> bool:
    """True when `out` holds a set made from the same source with the same options."""
    if not (config.out / "card.json").is_file():
        return False
    return open_prepared(config.out).card["asked"] == _asked(config)


def _asked(config: PrepareConfig) -> dict[str, Any]:
    return {**plain(config), "out": config.out.name}


def choose_preparation(config: PrepareConfig, card: Card, source: Source) -> Preparation:
    """Size, crop and channels: as asked, or by kind: photographs are cropped to 256 px, arrays stay as they are."""
    if source.images is None:
        crop = ("disc" if card.fundus else "none") if config.crop == "auto" else config.crop
        return Preparation(size=config.size or 256, crop=crop)
    side, channels = max(source.images.shape[1:3]), source.images.shape[3]
    return Preparation(
        size=config.size or side, crop="none" if config.crop == "auto" else config.crop, channels=channels
    )


def write_images(source: Source, preparation: Preparation, out: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Prepare every image in threads and write shards; returns records without splits, and what was rejected."""
    images = source.images

    def one(position: int) -> Prepared:
        if images is not None:
            return prepare_pixels(images[position], preparation)
        return prepare_file(source.root / files[position], preparation)

    files = source.table["file"].tolist()
    shape = (preparation.size, preparation.size, preparation.channels)
    rows: list[dict[str, Any]] = []
    rejected: list[dict[str, str]] = []
    with ShardWriter(out / "images", shape) as writer, progress_bar("prepare", len(files)) as bar:
        for position, result in enumerate(in_threads(one, len(files))):
            bar.advance()
            if isinstance(result, DecodeError):
                rejected.append({"file": files[position], "reason": str(result)})
                continue
            shard, row = writer.append(result.pixels)
            digest = hashlib.sha256(result.pixels.tobytes()).hexdigest()
            facts = {"position": position, "width": result.width, "height": result.height, "sha256": digest}
            rows.append({**facts, "flags": " ".join(result.flags), "shard": shard, "row": row})
    if not rows:
        raise ValueError(
            f"{source.root}: none of the {len(files)} pictures could be read; the first: "
            f"{rejected[0]['file']}: {rejected[0]['reason']}"
        )
    facts_table = pd.DataFrame(rows)
    kept = source.table.iloc[facts_table.pop("position")].reset_index(drop=True)
    facts_table["flags"] = (kept.pop("flags") + " " + facts_table["flags"]).str.strip()
    return pd.concat([kept, facts_table], axis=1), pd.DataFrame(rejected, columns=["file", "reason"])


def in_threads(work: Callable[[int], Prepared], count: int) -> Iterator[Prepared | DecodeError]:
    """work(0), work(1), … in order, computed in threads with a bounded number in flight."""
    workers = os.cpu_count() or 1
    waiting: deque[Future[Prepared]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        for number in range(count + 8 * workers):
            if number < count:
                waiting.append(pool.submit(work, number))
            if number >= 8 * workers and waiting:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())


def _result(future: Future[Prepared]) -> Prepared | DecodeError:
    try:
        return future.result()
    except DecodeError as error:
        return error


def finish(
    out: Path, records: pd.DataFrame, rejected: pd.DataFrame, source: Source, card: Card, name: str,
    config: PrepareConfig, preparation: Preparation,
) -> None:  # fmt: skip
    """Check the records and write records.csv, rejected.csv and card.json."""
    classes = list(source.classes)
    records["label"] = records["label"].astype("Int64")
    validate(records, classes, str(config.source))
    write_records(records, out / "records.csv")
    rejected.to_csv(out / "rejected.csv", index=False, lineterminator="\n")
    by_split = {split: _counts(records[records["split"] == split], classes) for split in SPLITS}
    facts = {
        "name": name,
        "title": card.title,
        "task": (card.task if card.task != "auto" else source.task or "none") if classes else "none",
        "classes": classes,
        "scale": (source.scale or card.scale) if config.scale == "auto" else config.scale,
        "fundus": card.fundus,
        "source": str(config.source),
        "options": preparation.as_dict(),
        "asked": _asked(config),
        "counts": {split: counts for split, counts in by_split.items() if counts["images"]},
        "rejected": len(rejected),
        "licence": card.licence,
        "reference": card.reference,
        "content_hash": hashlib.sha256((out / "records.csv").read_bytes()).hexdigest(),
    }
    write_json(out / "card.json", facts)


def _counts(records: pd.DataFrame, classes: list[str]) -> dict[str, Any]:
    labels = records["label"].dropna().astype(int)
    groups = records["group"][records["group"] != ""].nunique()
    per_class = {name: int((labels == n).sum()) for n, name in enumerate(classes)} if len(labels) else {}
    return {"images": len(records), "groups": int(groups), "per_class": per_class}


def report(out: Path, rejected: int) -> None:
    """Print what was made: images per split and class."""
    prepared = open_prepared(out)
    counts = prepared.card["counts"]
    columns = ["split", "images", *prepared.classes]
    rows = [
        [split, str(c["images"]), *(str(c["per_class"].get(name, "")) for name in prepared.classes)]
        for split, c in counts.items()
    ]
    show_table(f"{out}: {prepared.card['title']}, {prepared.size} px", columns, rows)
    if rejected:
        warn(f"{rejected} files could not be used; {out / 'rejected.csv'} says why")
    undetected = int(prepared.records["flags"].str.contains("no-disc").sum())
    if undetected:
        warn(f"no retinal disc was found in {undetected} images: their whole frame is used (flag no-disc)")
