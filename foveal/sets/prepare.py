"""prepare: from a source to a prepared set, every picture decoded exactly once.

    foveal prepare SOURCE --out DATA
    foveal prepare photographs/ --out data/photographs --size 256
    foveal prepare DATA1 DATA2 --out BOTH        # joins prepared sets
    foveal prepare --list

A new set is written beside `--out` and moved there when it is whole. What is killed goes on where it was; a set whose
source has new pictures gets new shards, and every decision that was made about the old ones stays.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from foveal.config import pick, plain
from foveal.console import say
from foveal.files import write_json
from foveal.fundus.preparation import Preparation, Prepared, prepare_file
from foveal.runs import sole_writer
from foveal.sets import joined
from foveal.sets.assemble import Assembly, assemble, report
from foveal.sets.jobs import check_space, file_stamps, plan_jobs, run_jobs
from foveal.sets.records import open_prepared
from foveal.sets.shards import in_threads, read_facts
from foveal.sources.cards import CARDS, Card
from foveal.sources.classes import merge_classes
from foveal.sources.registry import DatasetName, list_cards, read_source
from foveal.sources.source import Source, SourceOptions

# Changes where the work is done, not what comes out.
FREE_OPTIONS = ("out", "ray", "list")
SAMPLE = 48  # pictures of an unknown source that are looked at, to tell whether they are photographs of the retina


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Options of `foveal prepare`."""

    # Folder, CSV or array file; phantom:600 for 600 drawn photographs; or several prepared sets, to be joined.
    source: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")] = ()
    # Folder to write the prepared set to; one made with the same options gets what is new in the source.
    out: Path = Path()
    # Print the data sets that are known, their layouts and licences, and do nothing else.
    list: bool = False
    # What the source is; auto recognises it from its files and prints the guess.
    dataset: DatasetName = "auto"
    # Are the pictures photographs of the retina? auto knows the data sets, and looks at some pictures of other sources.
    fundus: Literal["auto", "yes", "no"] = "auto"
    # Side of the prepared images in pixels; 0 keeps the size of arrays and means 256 for photographs.
    size: int = 0
    # Crop to the retinal disc, or keep the whole frame; auto crops fundus photographs, not ready-made arrays.
    crop: Literal["auto", "disc", "none"] = "auto"
    # A whole frame that is no square: pad adds black, cut takes the square in its middle.
    fit: Literal["pad", "cut"] = "pad"
    # Blacken what lies outside the circle of the disc.
    mask: bool = False
    # local-mean subtracts the blurred picture (Graham 2015); clahe evens out local contrast.
    enhance: Literal["none", "local-mean", "clahe"] = "none"
    # Keep the green channel only, where vessels and lesions stand out most.
    green: bool = False
    # Classes in order, merged with +, as "0,1,2,3+4"; empty keeps those of the source.
    classes: str = ""
    # Name of the scale that the classes are on (icdr, messidor, none, or your own); auto takes it from the source.
    scale: str = "auto"
    # Leave out what the source calls ungradable, and what is no retina; rejected.csv lists it.
    drop_ungradable: bool = False
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
    # Decode on a Ray cluster: its address, auto for one that runs here, local to start one; empty uses threads.
    ray: str = ""

    def __post_init__(self) -> None:
        if not self.list and (not self.source or self.out == Path()):
            raise ValueError("prepare needs a SOURCE and --out DATA (or --list, to see what can be read)")
        if not (0 <= self.val < 1 and 0 <= self.test < 1 and self.val + self.test < 1):
            raise ValueError(
                f"--val and --test are shares below 1 that leave some for training: {self.val}, {self.test}"
            )
        if re.search(r"\s", self.scale):
            raise ValueError(f"--scale '{self.scale}' must be one word, as four-grades")
        if self.size and not 8 <= self.size <= 4096:
            raise ValueError(f"--size must be between 8 and 4096 pixels, got {self.size}")
        if self.labelled < 0 or self.unlabelled < 0:
            raise ValueError("--labelled and --unlabelled are counts and cannot be negative")


def prepare(config: PrepareConfig) -> Path:
    """Read a source, decode what is new of it, and write a prepared set; returns its folder."""
    if config.list:
        list_cards()
        return config.out
    existing = check_out(config)
    if existing and not any(path.exists() or is_drawn(path) for path in config.source):
        say(f"{config.out} is prepared already; its source {config.source[0]} cannot be seen from here")
        return config.out
    out = config.out.absolute()
    folder = out if existing else out.with_name(f".{out.name}.partial")
    assembly, stamps = read(config, existing)
    source, images, photographs = assembly.source, folder / "images", assembly.card.fundus
    if existing and assembly.source_hash == existing["source_hash"] and not unread_before(images):
        say(f"{config.out} is prepared already with these options, and its source holds nothing new")
        return config.out
    if existing:
        check_growth(config, existing, source)
    with sole_writer(folder, "prepare"):
        if not existing:
            go_on_or_start(folder, {"source": assembly.asked["source"], "options": assembly.preparation.as_dict()})
        if is_joined(config):
            joined.bring_shards(config.source, images)
        jobs = plan_jobs(source, stamps, images, assembly.preparation, photographs)
        if jobs:
            check_space(jobs, folder)
            run_jobs(jobs, source, config.ray)
        check_any_read(folder, source)
        assemble(folder, assembly)
        if not existing:
            (folder / "started.json").unlink()
            if out.exists():
                out.rmdir()
            folder.rename(out)
    report(config.out)
    return config.out


def is_joined(config: PrepareConfig) -> bool:
    """True when the sources are prepared sets."""
    return len(config.source) > 1 or (config.source[0] / "records.csv").is_file()


def is_drawn(path: Path) -> bool:
    """True for phantom:600, which is no file."""
    return path.name.startswith("phantom:")


def read(config: PrepareConfig, existing: dict[str, Any] | None) -> tuple[Assembly, list[str]]:
    """What the source or sources hold and how they are to be prepared; and the stamp of each file."""
    if is_joined(config):
        name, card, source, preparation = joined.load(config.source)
        stamps = joined.stamps(config.source, source)
    else:
        name, source = read_source(config.source[0], config.dataset, pick(SourceOptions, config))
        source = limit_unlabelled(source, config)
        card = replace(CARDS[name], fundus=decide_fundus(config, CARDS[name], source, existing))
        preparation, stamps = choose_preparation(config, card, source), file_stamps(source)
    source = merge_classes(source, card, config.classes) if config.classes else source
    scale = (source.scale or card.scale) if config.scale == "auto" else config.scale
    assembly = Assembly(
        name=name, card=card, source=source, scale=scale, preparation=preparation, asked=_asked(config),
        source_hash=source_hash(source, stamps),
    )  # fmt: skip
    return assembly, stamps


def decide_fundus(config: PrepareConfig, card: Card, source: Source, existing: dict[str, Any] | None) -> bool:
    """Whether the pictures are photographs of the retina: as asked, as before, as the card says, or by looking."""
    if config.fundus != "auto":
        return config.fundus == "yes"
    if existing:
        return bool(existing["fundus"])
    if source.images is not None or card.title not in (CARDS["folder"].title, CARDS["table"].title):
        return card.fundus
    places = np.unique(np.linspace(0, len(source.table) - 1, SAMPLE).astype(int))
    files = [source.root / file for file in source.table["file"].iloc[places]]
    look = Preparation(size=256, crop="disc")
    found = [p for _, p in in_threads(lambda file: prepare_file(file, look, True), files) if isinstance(p, Prepared)]
    without = sum("not-a-retina" in prepared.flags for prepared in found)
    if 2 * without <= len(found):
        return True
    say(
        f"{without} of {len(found)} pictures that were looked at show no retina: they are not cropped, and copies are "
        "found by equal pixels only; --fundus yes says otherwise"
    )
    return False


def unread_before(images: Path) -> bool:
    """True where files could not be read for a reason that may be gone by now."""
    return bool((read_facts(images)["stamp"] == "retry").any())


def limit_unlabelled(source: Source, config: PrepareConfig) -> Source:
    """The source without the unlabelled images that --unlabelled leaves out anyway: they need not be decoded."""
    pool = np.flatnonzero(source.table["label"].isna())
    if not config.unlabelled or len(pool) <= config.unlabelled:
        return source
    dropped = np.random.default_rng([config.seed, 1]).permutation(pool)[config.unlabelled :]
    keep = np.setdiff1d(np.arange(len(source.table)), dropped)
    images = None if source.images is None else source.images[keep]
    return replace(source, table=source.table.iloc[keep].reset_index(drop=True), images=images)


def check_out(config: PrepareConfig) -> dict[str, Any] | None:
    """The card of the set at --out that was made with these options; None where --out is free, else ValueError."""
    if config.out.name in ("", ".."):
        raise ValueError(f"--out {config.out}: give the path of a new folder")
    if not config.out.exists() or (config.out.is_dir() and not any(config.out.iterdir())):
        return None
    if not (config.out / "card.json").is_file():
        raise ValueError(f"--out {config.out} exists already and is no prepared set; choose another, or empty it first")
    card = open_prepared(config.out).card
    before, now = card["asked"], _asked(config)
    different = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if different:
        listed = "; ".join(f"{key}: {before.get(key)!r} there, {now.get(key)!r} now" for key in different)
        raise ValueError(
            f"--out {config.out} exists already, made with other options ({listed}). Choose another --out, or delete it"
        )
    return card


def _asked(config: PrepareConfig) -> dict[str, Any]:
    asked = {key: value for key, value in plain(config).items() if key not in FREE_OPTIONS}
    return asked | {"source": [str(path if is_drawn(path) else path.absolute()) for path in config.source]}


def source_hash(source: Source, stamps: list[str]) -> str:
    """sha256 of all that the source says: names and stamps of files, labels, parts, patients; and of arrays."""
    digest = hashlib.sha256(source.table.assign(stamp=stamps).to_csv(index=False).encode())
    digest.update("\0".join(source.classes).encode())
    if source.images is not None:
        digest.update(np.ascontiguousarray(source.images).data)
    return digest.hexdigest()


def check_growth(config: PrepareConfig, card: dict[str, Any], source: Source) -> None:
    """Raise ValueError where a set that exists cannot take up what is new in its source."""
    again = "prepare it again, with another --out"
    if source.images is not None:
        raise ValueError(f"the arrays of {source.root} have changed since {config.out} was made: {again}")
    if config.labelled or config.unlabelled:
        raise ValueError(
            f"{source.root} has changed since {config.out} was made, and --labelled and --unlabelled choose among all "
            f"images: {again}"
        )
    if list(source.classes) != card["classes"]:
        raise ValueError(
            f"{source.root} has the classes {', '.join(source.classes) or 'none'} now, and had "
            f"{', '.join(card['classes']) or 'none'} when {config.out} was made: {again}"
        )


def check_any_read(folder: Path, source: Source) -> None:
    """Raise ValueError, and leave nothing, when not one picture could be read."""
    facts = read_facts(folder / "images")
    if not (facts["row"] >= 0).any():
        shutil.rmtree(folder)
        first = facts.iloc[0]
        raise ValueError(
            f"{source.root}: none of the {len(facts)} pictures could be read; the first: {first['file']}: "
            f"{first['reason']}"
        )


def go_on_or_start(folder: Path, work: dict[str, Any]) -> None:
    """Note what is being decoded into `folder`; ValueError when it holds unfinished work of another kind."""
    note = folder / "started.json"
    if note.is_file() and json.loads(note.read_text(encoding="utf-8")) != work:
        raise ValueError(
            f"{folder} holds the work of an interrupted `foveal prepare` with another source or other options: give "
            "the same ones to go on, or delete that folder to start again"
        )
    write_json(note, work)


def choose_preparation(config: PrepareConfig, card: Card, source: Source) -> Preparation:
    """Size, crop and channels: as asked, or by kind: photographs are cropped to 256 px, arrays stay as they are."""
    looks: dict[str, Any] = {"fit": config.fit, "mask": config.mask, "enhance": config.enhance, "green": config.green}
    if source.images is None:
        crop = ("disc" if card.fundus else "none") if config.crop == "auto" else config.crop
        return Preparation(size=config.size or 256, crop=crop, channels=1 if config.green else 3, **looks)
    side, channels = max(source.images.shape[1:3]), 1 if config.green else source.images.shape[3]
    crop = "none" if config.crop == "auto" else config.crop
    return Preparation(size=config.size or side, crop=crop, channels=channels, **looks)
