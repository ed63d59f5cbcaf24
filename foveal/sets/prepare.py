"""prepare: from a source to a prepared set; every picture is decoded once.

A new set is written beside `--out` and moved there when it is complete. The same command resumes an interrupted run.
If the source has new pictures, they get new shards; all decisions about the earlier pictures stay.
"""

import contextlib
import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from foveal.config import check, pick
from foveal.console import say
from foveal.errors import FovealError
from foveal.files import check_free, read_json, remove_unfinished, write_json
from foveal.fundus.preparation import Preparation, Prepared, prepare_file
from foveal.given import Given
from foveal.page.words import counted
from foveal.runs import sole_writer
from foveal.sets import joined
from foveal.sets.assemble import Assembly, assemble, report, say_patients
from foveal.sets.growth import check_growth, check_moved
from foveal.sets.jobs import check_space, file_stamps, plan_jobs, run_jobs
from foveal.sets.options import ALL, PrepareConfig, is_drawn
from foveal.sets.records import open_prepared, read_records
from foveal.sets.shards import RETRY, in_threads, read_facts, shard_numbers
from foveal.sources.archive import unpacked
from foveal.sources.cards import CARDS, CLASSES, ICDR, Card
from foveal.sources.folder import TASKS
from foveal.sources.given import CARD, given_source
from foveal.sources.registry import list_cards, read_source, refuse_columns
from foveal.sources.source import Source, SourceOptions, merge_classes

STARTED = "started.json"  # in an unfinished set: its source and options
SAMPLE = 48  # pictures of an unknown source that decide whether it holds photographs of the retina


def prepare(config: PrepareConfig) -> Path:
    """Read a source, decode what is new in it, and write a prepared set; returns its folder."""
    out = config.out
    if config.list:
        list_cards()
        return out
    if (existing := check_out(config)) and not is_there(config):
        say(f"{out} is prepared already; its source {config.source[0]} is not available here")
        return out
    with unpacked(config.source[0], out) as root:
        return prepare_from(read(config, existing, root), existing)


def prepare_from(assembly: Assembly, existing: dict[str, Any] | None) -> Path:
    """Make a set, or extend the `existing` one, whose card this is."""
    config, out = assembly.config, assembly.config.out
    if not existing:
        make(assembly)
        report(out)
        return out
    (out / STARTED).unlink(missing_ok=True)  # left by a run that was interrupted in its last step
    if existing["asked"]["source"] != config.asked["source"]:
        check_moved(config, existing, assembly.source, assembly.stamps)
        place = {"source": config.asked["source"], "asked": config.asked}
        write_json(out / "card.json", read_json(out / "card.json") | place)
    if assembly.source_hash == existing["source_hash"] and RETRY not in set(read_facts(out / "images")["stamp"]):
        say(f"{out} is prepared already with these options, and its source has nothing new")
        prepared = open_prepared(out)
        say_patients(prepared.card, prepared.records["group"])
        return out
    check_growth(config, existing, assembly.source)
    with sole_writer(out, "prepare"):
        decode(out, assembly)
        assemble(out, assembly, grows=True)
    report(out)
    return out


def make(assembly: Assembly) -> None:
    """Make a new set in a folder beside --out, or finish an interrupted one, and move it to --out."""
    out = assembly.config.out.absolute()
    folder = out.with_name(f".{out.name}.partial")
    above = [path for path in folder.parents if not path.exists()]
    with sole_writer(folder, "prepare"):
        remove_unfinished(folder, 0)
        work = {"source": assembly.config.asked["source"], "options": assembly.preparation.as_dict()}
        if (folder / STARTED).is_file() and read_json(folder / STARTED) != work:
            what = f"{folder} contains an interrupted `foveal prepare` with another source or other options"
            raise FovealError("output.other_options", what, fix="use the same ones, or delete that folder")
        write_json(folder / STARTED, work)
        try:
            decode(folder, assembly)
            assemble(folder, assembly)
        except FovealError as error:
            # Finished shards stay for the next run; a refusal without any leaves nothing behind.
            if error.code == "source.unreadable" or not shard_numbers(folder / "images"):
                shutil.rmtree(folder)
                with contextlib.suppress(OSError):  # another program may have written there
                    for path in above:
                        path.rmdir()
            raise
        if out.exists():
            out.rmdir()
        folder.rename(out)
        (out / STARTED).unlink()


def decode(folder: Path, assembly: Assembly) -> None:
    """Write the shards that `folder` lacks; FovealError if no picture of the source could be read."""
    config, source, images = assembly.config, assembly.source, folder / "images"
    if is_joined(config):
        joined.bring_shards(config.source, images)
    if jobs := plan_jobs(source, assembly.stamps, images, assembly.preparation, assembly.card.fundus):
        check_space(jobs, folder)
        run_jobs(jobs, source, config.ray)
    remove_unfinished(images, 0)  # of this run too: a worker of a cluster may have been killed
    facts = read_facts(images)
    if not (facts["row"] >= 0).any():
        first = f"the first is {facts['file'].iloc[0]}: {facts['reason'].iloc[0]}"
        what = f"{source.root}: none of {counted(len(facts), 'picture')} can be read; {first}"
        raise FovealError("source.unreadable", what)


def is_joined(config: PrepareConfig) -> bool:
    """True if the sources are prepared sets."""
    first = config.source[0]
    return len(config.source) > 1 or (not is_drawn(first) and (first / "records.csv").is_file())


def is_there(config: PrepareConfig) -> bool:
    """Whether any of the sources can be read."""
    return any(is_drawn(path) or path.exists() for path in config.source)


def read(
    config: PrepareConfig, existing: dict[str, Any] | None, root: Path | None = None, *, named: bool = False
) -> Assembly:
    """The contents of the source and its preparation; existing: the set's card, or None; root: the files of an archive;
    named: only pictures that the table of labels names, if there is one."""
    first = root or config.source[0]
    if is_joined(config):
        name, card, source, preparation, stamps = joined.load(config.source)
    else:
        if isinstance(first, Given):
            check(config, "dataset", config.dataset == "auto", "auto, for images of a program")
            fix = "give (images, labels, patients), or a Dataset of (image, label, patient)"
            refuse_columns(pick(SourceOptions, config), f"{first} is an object of a program", fix)
            name, source = "given", given_source(first, config.scale)
            say(f"images of this program: {source.notes[0]}")
        else:
            name, source = read_source(first, config.dataset, pick(SourceOptions, config))
        if named:  # unless the set already has some of the pictures that the table does not name
            pool = source.table["id"].iloc[len(source.table) - source.pool :]
            if not existing or not pool.isin(read_records(config.out / "records.csv")["id"]).any():
                source = replace(source, table=source.table.drop(index=pool.index), pool=0)
        source = limit_unlabelled(source, config)
        if config.scale in CLASSES and not source.classes and (existing is None or existing["classes"]):
            # Labels may come later, from reviews.
            source = replace(source, classes=CLASSES[config.scale], scale=config.scale, task=TASKS[config.scale])
        card = replace(CARDS.get(name, CARD), fundus=decide_fundus(config, name, source, existing))
        preparation, stamps = preparation_of(config, card, source, existing), file_stamps(source)
    source = merge_classes(source, card, config.classes) if config.classes else source
    return Assembly(name=name, config=config, card=card, source=source, stamps=stamps, preparation=preparation,
                    scale=choose_scale(config, source, card), source_hash=source_hash(source, stamps),
                    identity=existing["identity"] if existing else identity_of(name, config))  # fmt: skip


def identity_of(name: str, config: PrepareConfig) -> str:
    """The name of the source within which a patient's name means one person."""
    if name not in ("folder", "table", "phantom"):  # two of these sources may use one name for different patients
        return name
    return f"{name} {', '.join(config.asked['source'])}" + f" {config.seed}" * (name == "phantom")


def choose_scale(config: PrepareConfig, source: Source, card: Card) -> str:
    """The name of the scale; FovealError if classes of another scale are called icdr."""
    own = source.scale or card.scale
    if config.scale == "icdr" and source.classes and own.partition(" ")[0] != "icdr":
        what = f"--scale icdr: {source.root} has the classes {', '.join(source.classes)}"
        raise FovealError("label.scale", what, expected=", ".join(ICDR))
    return own if config.scale in ("auto", "icdr") else config.scale


def decide_fundus(config: PrepareConfig, name: str, source: Source, existing: dict[str, Any] | None) -> bool:
    """Whether the pictures are photographs of the retina: by option, by the earlier decision, by card, or by sample."""
    if config.fundus != "auto":
        return config.fundus == "yes"
    if existing:
        return bool(existing["fundus"])
    if name not in ("folder", "table"):
        return CARDS.get(name, CARD).fundus
    places = np.unique(np.linspace(0, len(source.table) - 1, SAMPLE).astype(int))
    files = [source.root / file for file in source.table["file"].iloc[places]]
    look = Preparation(size=256, crop="ellipse")
    found = [p for _, p in in_threads(lambda file: prepare_file(file, look, True), files) if isinstance(p, Prepared)]
    without = sum("not-a-retina" in prepared.flags for prepared in found)
    if 2 * without > len(found):
        say(f"no retina in {without} of {counted(len(found), 'picture')} in a sample, so none is cropped, and only "
            "exact copies are found; --fundus yes treats all as fundus photographs")  # fmt: skip
    return 2 * without <= len(found)


def limit_unlabelled(source: Source, config: PrepareConfig) -> Source:
    """The source without the unlabelled images that --unlabelled leaves out, which need not be decoded."""
    if config.unlabelled == ALL:
        none = pd.Series([None] * len(source.table), dtype="Int64")
        return replace(source, table=source.table.assign(label=none, split=""), classes=())
    pool = np.flatnonzero(source.table["label"].isna())
    if not 0 < config.unlabelled < len(pool):
        return source
    dropped = np.random.default_rng([config.seed, 1]).permutation(pool)[config.unlabelled :]
    keep = np.setdiff1d(np.arange(len(source.table)), dropped)
    images = None if source.images is None else source.images[keep]
    return replace(source, table=source.table.iloc[keep].reset_index(drop=True), images=images)


def preparation_of(config: PrepareConfig, card: Card, source: Source, existing: dict[str, Any] | None) -> Preparation:
    """How to prepare: by default photographs are cropped to 256 px, and arrays stay as they are."""
    side, channels, crop = 256, 3, "ellipse" if card.fundus else "none"
    if existing:  # a set that grows keeps the crop of its first pictures, also if auto meant another one then
        crop = existing["options"]["crop"]
    if source.images is not None:
        side, channels, crop = max(source.images.shape[1:3]), source.images.shape[3], "none"
    return Preparation(size=config.size or side, crop=crop if config.crop == "auto" else config.crop, fit=config.fit,
                       mask=config.mask, enhance=config.enhance, green=config.green,
                       channels=1 if config.green else channels)  # fmt: skip


def check_out(config: PrepareConfig) -> dict[str, Any] | None:
    """The card of the set at --out that was made with these options; None if --out is free, else FovealError."""
    if config.out.name in ("", ".."):
        raise FovealError("output.name", f"--out {config.out}", expected="the path of a new folder")
    if not (config.out / "card.json").is_file():
        check_free(config.out)
        return None
    card = open_prepared(config.out).card
    before, now = card["asked"], config.asked
    different = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    old, new = (", ".join(asked["source"]) for asked in (before, now))
    gone = [path for path in before["source"] if not is_drawn(Path(path)) and not Path(path).exists()]
    missing = f"; {', '.join(gone)}, which it was made from, does not exist any more" if gone else ""
    if different == ["source"] and not is_there(config):
        what = f"there is no {new}; --out {config.out} was made from {old}{missing}"
        raise FovealError("source.missing", what, fix="give the folder that has its pictures now, with the new ones")
    # The source may have moved, see check_moved.
    if different and (different != ["source"] or any(map(is_drawn, config.source))):
        listed = "; ".join(f"{key} was {before.get(key)!r} and is now {now.get(key)!r}" for key in different)
        what = f"--out {config.out} exists already, made with other options ({listed}){missing}"
        fix = "choose another --out, or delete it"
        fix = f"give the folder that has its pictures now, with the same options as before, or {fix}" if gone else fix
        raise FovealError("output.other_options", what, fix=fix)
    return card


def source_hash(source: Source, stamps: list[str]) -> str:
    """sha256 of names and stamps of files, labels, splits, patients, classes, and arrays."""
    table = source.table.drop(columns="source", errors="ignore")  # follows from the ids; earlier versions lack it
    digest = hashlib.sha256(table.assign(stamp=stamps).to_csv(index=False).encode())
    digest.update("\0".join(source.classes).encode())
    if source.images is not None:
        digest.update(np.ascontiguousarray(source.images).data)
    return digest.hexdigest()
