"""Reviewed: which corrections of a set follow from the reviews of its photographs.

A review belongs to the images whose file has its digest, or that `foveal serve --keep-images` named by it. Where either
digest is unknown, the name of the photograph decides, if only one image has it. Of each reviewer, the newest review of
an image counts. DATA/reviewed.csv has the last answer: id, old, new, who, when, why, name, file_sha256, result.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path, PurePosixPath

import pandas as pd

from foveal.console import say, show_table
from foveal.files import write_text
from foveal.metrics import confusion_matrix, quadratic_kappa, unweighted_kappa
from foveal.page.words import counted, number, percent
from foveal.sets.corrections import COLUMNS, corrections_text, label_of, labels_of
from foveal.sets.records import PreparedSet
from foveal.sources.source import without_ending

FILE = "reviewed.csv"
LEAST_COMMON = 10  # photographs for a kappa of two reviewers
SHOWN = 20  # lines; FILE has all
NAMED = r"^(.*?)(?: \(sha256 ([0-9a-f]{64})\))?$"  # as the page names photographs of one name
SETTLE = "choose --resolve majority or newest"
RESULTS = {
    "applied": "applied", "already so": "no change: the set already has this label",
    "decided": "not applied: a correction of the set is newer", "disagree": "not applied: reviewers disagree; ",
    "other file": "not applied: the set has another file of this name", "no image": "not found in the set",
}  # fmt: skip


def newest_opinions(reviews: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """The newest review of each reviewer of each photograph, oldest first; with its `name`, and `photo`, a key.

    FovealError, which names the `place` of the review, for a grade that is no class.
    """
    parts = reviews["id"].str.extract(f"(?s){NAMED}").fillna("")
    digests = reviews["file_sha256"].where(reviews["file_sha256"] != "", parts[1])
    table = reviews.assign(name=parts[0], file_sha256=digests, photo=digests.where(digests != "", parts[0]))
    texts = table["new"].str.strip()
    grades = [label_of(text, classes, place) for text, place in zip(texts, table["place"], strict=True)]
    labels = pd.Series(grades, table.index, "Int64").astype("string")
    table = table.assign(new=labels.fillna(texts.replace("none", "")), person=reviews["who"].str.strip().str.lower())
    return table.sort_values("when", kind="stable").drop_duplicates(["photo", "person"], keep="last")


def decide(prepared: PreparedSet, opinions: pd.DataFrame, before: pd.DataFrame, resolve: str) -> pd.DataFrame:
    """A row for each reviewed image, and each photograph without one, with `result`, a key of RESULTS."""
    records, last, rows = prepared.records, before.groupby("id")["when"].max(), []
    label = labels_of(records)
    by_digest, paths = defaultdict[str, list[str]](list), defaultdict[str, list[tuple[str, str]]](list)
    digest_of = dict(zip(records["id"], records["file_sha256"], strict=True))
    for image, file in records[["id", "file"]].to_numpy().tolist():
        for key in {digest_of[image], PurePosixPath(image).name} - {""}:
            by_digest[key].append(image)
        for path in {image, without_ending(file)}:
            paths[PurePosixPath(path).name.casefold()].append((path, image))
    for _, photo in opinions.groupby("photo", sort=False):
        digest, name, when = photo.iloc[-1][["file_sha256", "name", "when"]]
        named = _named(name, paths)
        unsure = named * (len(named) == 1 and not (digest_of[named[0]] and digest))
        new, who = _decision(photo["new"].tolist(), photo["who"].tolist(), resolve)
        why = "; ".join(dict.fromkeys(filter(None, photo["why"].str.strip()))) or "reviewed"
        for image in by_digest.get(digest) or unsure or [""]:
            if not image:
                result = "other file" if named else "no image"
            elif new == label[image]:
                result = "already so"
            else:
                result = "decided" if when <= last.get(image, "") else "disagree" if new == "?" else "applied"
            rows.append((image, label.get(image, ""), new, who, when, why, name, digest, result))
    return pd.DataFrame(rows, columns=[*COLUMNS, "name", "file_sha256", "result"], dtype=str)


def _named(name: str, paths: Mapping[str, Sequence[tuple[str, str]]]) -> list[str]:
    """The images that a name means, with or without its folders and its ending, in capitals or not.

    paths: last part of a path -> whole paths, with the image of each.
    """
    for path in (name, without_ending(name)):  # the ending may be part of an id
        known = paths.get(PurePosixPath(path).name.casefold(), ())
        for spelled in (str, str.casefold):
            own = f"/{spelled(path)}"
            tails = ((f"/{spelled(other)}", image) for other, image in known)
            if found := {image: None for tail, image in tails if tail.endswith(own) or own.endswith(tail)}:
                return list(found)
    return []


def _decision(grades: list[str], people: list[str], resolve: str) -> tuple[str, str]:
    """The new label and who gave it; without a decision, a question mark, and who gave which label."""
    counts, pairs = Counter(grades).most_common(), list(zip(people, grades, strict=True))
    majority = len(counts) == 1 or (resolve == "majority" and counts[0][1] > counts[1][1])
    if not majority and resolve != "newest":
        return "?", ", ".join(f"{who}: {grade or 'none'}" for who, grade in pairs)
    new = counts[0][0] if majority else grades[-1]
    return new, " and ".join(who for who, grade in pairs if grade == new)


def show_agreement(opinions: pd.DataFrame, prepared: PreparedSet) -> None:
    """Print how well each two reviewers agree on the photographs that both have reviewed."""
    texts, rows = opinions.pivot(index="photo", columns="person", values="new"), []
    kappa = quadratic_kappa if prepared.card["task"] == "grading" else unweighted_kappa
    for pair in combinations(texts.columns, 2):
        both = texts[list(pair)].dropna().to_numpy()
        graded = [[int(text) for text in row] for row in both if all(map(str.isdigit, row))]
        value = None
        if len(graded) >= LEAST_COMMON:
            one, other = zip(*graded, strict=True)
            value = float(kappa(confusion_matrix(pd.array(one), pd.array(other), len(prepared.classes))))
        if len(both):
            share = percent(float((both[:, 0] == both[:, 1]).mean()))
            rows.append([" and ".join(pair), str(len(both)), share, number(value)])
    if rows:
        title = f"agreement of reviewers (no kappa below {LEAST_COMMON} photographs that both graded)"
        show_table(title, ["", "photographs", "same grade", kappa.__name__.replace("_", " ")], rows)


def report(decided: pd.DataFrame, folder: Path, resolve: str) -> None:
    """Print how each review was used, changes of a label before new labels, and write DATA/reviewed.csv."""
    advice = "there is no majority, but --resolve newest decides" if resolve == "majority" else SETTLE
    write_text(folder / FILE, corrections_text(decided))
    say(f"reviews of {counted(len(decided.drop_duplicates(['name', 'file_sha256'])), 'photograph')}:")
    for result, meaning in RESULTS.items():
        rows = decided[decided["result"] == result][["id", "old", "new", "who", "name"]].to_numpy().tolist()
        rows.sort(key=lambda row: not row[1])
        if rows:
            say(f"{len(rows):>6} {meaning}{advice * (result == 'disagree')}")
        for image, old, new, who, name in rows[:SHOWN] * (result != "already so"):
            step = who if new == "?" else f"{old or 'none'} -> {new or 'none'}, {who}"
            say(f"         {image if image in name else f'{image} ({name})'}: {step}" if image else f"         {name}")
        if result != "already so" and len(rows) > SHOWN:
            say(f"         … and {len(rows) - SHOWN} more, in {folder / FILE}")
