"""Leaks: a network must not be evaluated on images that it has learned from.

Every run lists in RUN/seen.csv the images that shaped its weights, including its starting weights. Copies are found
even if they were saved again, resized, mirrored, turned, cropped, or prepared elsewhere.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from foveal.config import read_toml
from foveal.console import say, warn
from foveal.errors import FovealError
from foveal.files import write_table
from foveal.fundus.fingerprint import from_text
from foveal.page.words import counted
from foveal.runs import set_of, started_in
from foveal.sets.candidates import Pictures, candidates
from foveal.sets.duplicates import are_blank, describe_pairs, find_duplicates
from foveal.sets.numbers import LOCAL, number_of, one_person
from foveal.sets.records import PreparedSet, link_kept, open_prepared, patients, read_records

SEEN = ("sha256", "id", "set", "path", "patient", "fingerprint", "taught")
VALIDATION = "validation.csv"
TAUGHT = "1"  # in the column `taught`: the weights have learned from the image's label, not only from its pixels
CERTAIN = 0.84  # cosine of fingerprints: in Messidor-2 pixels confirm 98 of 100 pairs above it


def pool_of(prepared: PreparedSet) -> pd.DataFrame:
    """Images for pre-training: training and unlabelled ones, except those of patients in validation or test."""
    pool, judged = prepared.part("train", "unlabelled"), set(prepared.part("val", "test")["group"]) - {""}
    if (shared := pool["group"].isin(judged)).any():
        left = counted(int(shared.sum()), "image")
        say(f"left out: {left} of {prepared.path} whose patients are in validation or test")
    return pool[~shared]


def refuse_seen(
    prepared: PreparedSet, seen: pd.DataFrame, where: str, allow: bool, judged: Sequence[str] = ("val", "test"), *,
    records: pd.DataFrame | None = None,
) -> None:  # fmt: skip
    """FovealError (only a warning with `allow`) if images of the parts `judged`, or `records`, are among those seen."""
    leaked = find_seen(prepared, prepared.part(*judged) if records is None else records, seen)
    if not len(leaked):
        return
    listed = ", ".join(f"{row.id} ({row.split}, {row.how} {row.other})" for row in leaked.head(8).itertuples())
    what = f"{counted(len(leaked), 'evaluation image')} of {prepared.path} found in {where}, such as {listed}"
    if not allow:
        raise FovealError("leak.seen", what, fix="remove them, or add --allow-leaks and get results that are too good")
    warn(what)


def find_seen(prepared: PreparedSet, records: pd.DataFrame, seen: pd.DataFrame) -> pd.DataFrame:
    """The `records` of a prepared set that were learned from: id, split, how, other; one row per image.

    how: "exact", "near", "mirrored", "turned" or "overlapping copy of", or "same patient as" one seen or a copy; "very
    much like", based on fingerprints alone, where the training set is gone. Copies within the set are known already.
    """
    if not len(records) or not len(seen):
        return pd.DataFrame(columns=["id", "split", "how", "other"])
    judged = _described(prepared, records)
    elsewhere = seen[seen["id"].map(prepared.records.set_index("id")["sha256"]) != seen["sha256"]]
    first = seen.drop_duplicates("sha256").set_index("sha256")["id"]
    exact = judged.assign(how="exact copy of", other=judged["sha256"].map(first)).dropna(subset="other")
    if prepared.card["fundus"]:
        exact = exact[~are_blank(_pictures(exact), np.arange(len(exact)))]
    copies = pd.concat([exact, _near_copies(judged, elsewhere)] if len(elsewhere) else [exact])
    found = [copies, _same_patient(judged, seen), _same_patient(judged, copies)]
    return pd.concat(found).drop_duplicates("id").sort_values("position")[["id", "split", "how", "other"]]


def _near_copies(judged: pd.DataFrame, seen: pd.DataFrame) -> pd.DataFrame:
    """Judged images that are like those seen, by their pixels, or by fingerprints of those that are gone."""
    ours, theirs = judged[judged["fingerprint"] != ""], seen[seen["fingerprint"] != ""]
    readable = np.zeros(len(theirs), bool)  # those that are still in their set, with the same pixels
    for path in filter(None, theirs["path"].unique()):
        if (Path(path) / "records.csv").is_file():
            now = read_records(Path(path) / "records.csv").set_index("id")["sha256"]
            readable |= ((theirs["path"] == path) & (theirs["id"].map(now) == theirs["sha256"])).to_numpy()
    there, gone = theirs[readable], theirs[~readable]
    pairs = find_duplicates(_pictures(ours), _pictures(there))
    how, other = pairs["kind"].to_numpy() + " copy of", there["id"].to_numpy()[pairs["second"]]
    near = ours.iloc[pairs["first"]].assign(how=how, other=other)
    if len(gone):
        names = ", ".join(sorted(set(gone["set"]) - {""}))
        why = f"{names} can no longer be read" if names else "an exported model has no pixels of its training images"
        warn(f"{why}: {counted(len(gone), 'image')} could only be compared by fingerprints")
    prints, others = (from_text(part["fingerprint"].tolist()) for part in (ours, gone))
    first, second, _, _ = candidates(prints, others, CERTAIN)
    return pd.concat([near, ours.iloc[first].assign(how="very much like", other=gone["id"].to_numpy()[second])])


def _pictures(table: pd.DataFrame) -> Pictures:
    """A table of `_described` as a collection to search; its sets are opened when pixels are needed."""

    @cache
    def opened(path: str) -> tuple[PreparedSet, pd.DataFrame]:
        prepared = open_prepared(Path(path))
        return prepared, prepared.records.set_index("id")

    def pixels(path: str, name: str) -> np.ndarray:
        prepared, records = opened(path)
        return prepared.pixels(records.loc[[name]])[0]

    return Pictures(fingerprints=from_text(table["fingerprint"].tolist()), hashes=table["sha256"].to_numpy(),
                    read=lambda rows: list(map(pixels, table["path"].iloc[rows], table["id"].iloc[rows])))  # fmt: skip


def _same_patient(judged: pd.DataFrame, seen: pd.DataFrame) -> pd.DataFrame:
    """Judged images of a patient whose images were seen; groups joined by copies ("a+b") mean both patients."""
    known = [table["patient"].fillna("").astype(str) for table in (judged, seen)]
    linked = link_kept(pd.concat(known), pd.concat([judged["id"], seen["id"]])).str.split("+").to_numpy()
    ours = judged.assign(patient=linked[: len(judged)]).explode("patient")
    theirs = seen.assign(patient=linked[len(judged) :]).explode("patient").drop_duplicates("patient")
    both = ours[ours["patient"] != ""].merge(theirs[["patient", "id"]], on="patient", suffixes=("", "_seen"))
    return both.assign(how="same patient as", other=both["id_seen"])


def find_namesakes(prepared: PreparedSet, records: pd.DataFrame, seen: pd.DataFrame) -> pd.DataFrame:
    """Records of a patient whose number was seen in another folder or table: id, other, name, and whether it is sure
    that they are `one_person`; one per image. Published sets are not compared."""
    known, found = dict[str, list[tuple[str, str]]](), list[tuple[str, str, str, bool]]()
    for other, its in _local_patients(seen.drop_duplicates("patient")):
        known.setdefault(number_of(its), []).append((other, its))
    for image, patient in _local_patients(_described(prepared, records)):
        for other, its in known.get(number_of(patient), []):
            if (same := one_person(patient, its)) is not False:
                found.append((image, other, patient.rpartition("/")[2].lower(), bool(same)))
    table = pd.DataFrame(found, columns=["id", "other", "name", "sure"]).astype({"sure": bool})
    return table.sort_values("sure", ascending=False, kind="stable").drop_duplicates("id")


def _local_patients(table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Image and patient of all who are known by the number of a folder or table."""
    for image, patient in zip(table["id"], table["patient"].fillna("").astype(str), strict=True):
        yield from ((image, part) for part in patient.split("+") if part.startswith(LOCAL))


def _described(prepared: PreparedSet, records: pd.DataFrame) -> pd.DataFrame:
    """Records with what a comparison needs: set, its path, patient, fingerprint ("" if it has none)."""
    prints = prepared.measures.set_index("id")["fingerprint"]
    return records.assign(
        set=str(prepared.path), path=str(prepared.path.resolve()), patient=patients(prepared.card, records["group"]),
        position=np.arange(len(records)), fingerprint=prints.reindex(records["id"]).to_numpy(),
    )  # fmt: skip


def seen_of(pool: Sequence[tuple[PreparedSet, pd.DataFrame]], *, by_label: bool = False) -> pd.DataFrame:
    """The images of a pool as rows of seen.csv; by_label: labels are learned, if images have one."""
    described = pd.concat([_described(prepared, records) for prepared, records in pool], ignore_index=True)
    return described.assign(taught=np.where(described["label"].notna() & by_label, TAUGHT, ""))[list(SEEN)]


def write_seen(run: Path, own: pd.DataFrame, before: pd.DataFrame) -> None:
    """Write RUN/seen.csv: what the run learns from, and all that its starting weights have seen `before`."""
    table = pd.concat([own, before])
    table["taught"] = table.groupby(["sha256", "id"])["taught"].transform("max")  # a label learned once stays learned
    write_table(run / "seen.csv", table.drop_duplicates(["sha256", "id"]))


def read_seen(init: str, name: str = "seen.csv") -> pd.DataFrame:
    """The images that shaped the weights of a run folder, or of a file in one, as in `SEEN`; empty for others."""
    file = (Path(init).parent if Path(init).is_file() else Path(init)) / name
    if not file.is_file():
        return pd.DataFrame(columns=list(SEEN), dtype=str)
    table = pd.read_csv(file, dtype=str, keep_default_na=False)
    return table.assign(taught=table.get("taught", TAUGHT)).reindex(columns=list(SEEN), fill_value="")


def write_validation(run: Path, prepared: PreparedSet, records: pd.DataFrame) -> None:
    """Write RUN/validation.csv, as seen.csv: the images that choose the epoch, calibration and cutoffs."""
    write_table(run / VALIDATION, seen_of([(prepared, records)]))


def read_validation(run: Path) -> pd.DataFrame:
    """The rows of validation.csv; of an older run, those of its set, if it is still there."""
    data = read_toml(run / "config.toml", "train").get("data") if (run / "config.toml").is_file() else None
    if (run / VALIDATION).is_file() or not data or not (run / "predictions.csv").is_file():
        return read_seen(str(run), VALIDATION)
    path = started_in(run, str(read_toml(run / "config.toml", "train")["out"])) / set_of({"data": data})
    if not (path / "records.csv").is_file():
        warn(f"{path} is gone: it is not known which photographs {run} was validated on")
        return read_seen(str(run), VALIDATION)
    table = pd.read_csv(run / "predictions.csv", dtype=str, keep_default_na=False)
    prepared = open_prepared(path)
    chosen = prepared.records["id"].isin(table.loc[table["split"] == "val", "id"])
    return seen_of([(prepared, prepared.records[chosen])]) if chosen.any() else read_seen(str(run), VALIDATION)


def compare_sets(first: PreparedSet, second: PreparedSet) -> pd.DataFrame:
    """Copies across two sets: id, other, kind, similarity, and split and label on both sides; conflict 0 or 1."""
    ours, theirs = (_described(prepared, prepared.records) for prepared in (first, second))
    return describe_pairs(ours, theirs, find_duplicates(_pictures(ours), _pictures(theirs)), ("split", "label"))


def shared_patients(first: PreparedSet, second: PreparedSet) -> pd.DataFrame:
    """Images of patients who are in both sets: id, other (an image in the second set), split, other_split."""
    ours, theirs = (_described(prepared, prepared.records) for prepared in (first, second))
    both = _same_patient(ours, theirs)[["id", "other", "split"]]
    return both.assign(other_split=both["other"].map(theirs.set_index("id")["split"]))
