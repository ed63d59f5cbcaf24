"""Reviewed: which corrections of a set follow from the reviews of its photographs.

A review belongs to the images whose file has its digest, or that `foveal serve --keep-images` named by it. Where either
digest is unknown, the name of the photograph decides, if only one image has it. Of each reviewer, the newest review of
an image counts.

DATA/reviewed.csv   the last answer: id, old, new, who, when, why, name, file_sha256, result
"""

import re
from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path, PurePosixPath

import pandas as pd

from foveal.console import say, show_table
from foveal.files import write_text
from foveal.metrics import confusion_matrix, quadratic_kappa, unweighted_kappa
from foveal.page.words import counted, number, percent
from foveal.sets.corrections import COLUMNS, UNGRADABLE, corrections_text, label_of
from foveal.sets.records import PreparedSet
from foveal.sources.source import without_ending

FILE = "reviewed.csv"
LEAST_COMMON = 10  # photographs for a kappa of two reviewers
SAID = ["id", "old", "new", "who", "name"]
SHOWN = 20  # lines; FILE has all
NAMED = re.compile(r"(.*) \(sha256 ([0-9a-f]{64})\)", re.DOTALL)  # as the page names photographs of one name
RESULTS = {
    "applied": "applied",
    "already so": "already so: the set has this label",
    "decided": "not applied: a correction of the set is newer",
    "disagree": "not applied, because reviewers disagree: --resolve majority or newest decides",
    "other file": "not applied: the set has another file of this name",
    "no image": "match nothing in the set",
}


def newest_opinions(reviews: pd.DataFrame) -> pd.DataFrame:
    """The newest review of each reviewer of each photograph, oldest first; with its `name`, and `photo`, a key."""
    parts = [NAMED.fullmatch(name) for name in reviews["id"]]
    names = [found[1] if found else name for found, name in zip(parts, reviews["id"], strict=True)]
    digests = [own or (found[2] if found else "") for own, found in zip(reviews["file_sha256"], parts, strict=True)]
    photos = [digest or name for digest, name in zip(digests, names, strict=True)]
    table = reviews.assign(name=names, file_sha256=digests, photo=photos, person=reviews["who"].str.strip().str.lower())
    table["new"] = table["new"].str.strip().replace("", UNGRADABLE)  # so did pages of earlier versions write it
    return table.sort_values("when", kind="stable").drop_duplicates(["photo", "person"], keep="last")


def decide(prepared: PreparedSet, reviews: pd.DataFrame, before: pd.DataFrame, resolve: str) -> pd.DataFrame:
    """A row for each reviewed image, and for each photograph without one, with `result`, a key of RESULTS.

    reviews: file_sha256, id, new, who, when, why as text. before: the corrections that the set has. FovealError if a
    grade is not a class of the set.
    """
    images_of = _Images(prepared.records)
    last, rows = before.groupby("id")["when"].max(), []
    for _, opinions in newest_opinions(reviews).groupby("photo", sort=False):
        newest = opinions.iloc[-1]
        grades = [_text_of(text, prepared.classes) for text in opinions["new"]]
        new, who = _decision(grades, opinions["who"].tolist(), resolve)
        why = "; ".join(dict.fromkeys(filter(None, opinions["why"].str.strip()))) or "reviewed"
        images, result = images_of.photo(newest["file_sha256"], newest["name"])
        for image in images or [""]:
            old = images_of.label[image] if image else ""
            if image:
                decided = newest["when"] <= last.get(image, "")
                result = (
                    "already so" if new == old else "decided" if decided else "disagree" if "?" in new else "applied"
                )
            values = (image, old, new, who, newest["when"], why, newest["name"], newest["file_sha256"], result)
            rows.append(values)
    return pd.DataFrame(rows, columns=[*COLUMNS, "name", "file_sha256", "result"], dtype=str)


class _Images:
    """The images of a set by the digests and names of their files."""

    def __init__(self, records: pd.DataFrame) -> None:
        self._by_digest: dict[str, list[str]] = defaultdict(list)
        self._by_name: dict[str, dict[str, str]] = defaultdict(dict)
        labels = records["label"].astype("string").fillna("")
        ungradable = records["flags"].str.split().map(lambda flags: UNGRADABLE in flags)
        self.label = dict(zip(records["id"], labels.mask(ungradable & (labels == ""), UNGRADABLE), strict=True))
        for image, file, digest in zip(records["id"], records["file"], records["file_sha256"], strict=True):
            last = PurePosixPath(image).name
            for key in {digest, last} - {""}:
                self._by_digest[key].append(image)
            for name in (image, last, file, PurePosixPath(file).name):
                self._by_name[name][image] = digest

    def photo(self, digest: str, name: str) -> tuple[list[str], str]:
        """The images that show this photograph; without any, also why."""
        if digest in self._by_digest:
            return self._by_digest[digest], ""
        named = self._by_name.get(name) or self._by_name.get(without_ending(name), {})
        unsure = [image for image, own in named.items() if not (own and digest)]
        if len(named) == len(unsure) == 1:
            return unsure, ""
        return [], "other file" if named else "no image"


def _text_of(text: str, classes: list[str]) -> str:
    """A label as a correction has it: a number, ungradable, or nothing."""
    label = label_of(text, classes)
    return str(label) if label is not None else UNGRADABLE if text == UNGRADABLE else ""


def _decision(grades: list[str], people: list[str], resolve: str) -> tuple[str, str]:
    """The new label and who gave it; without a decision, who gave which label, and a question mark."""
    counts = Counter(grades).most_common()
    if len(counts) == 1 or (resolve == "majority" and counts[0][1] > counts[1][1]):
        new = counts[0][0]
    elif resolve == "newest":
        new = grades[-1]
    else:
        return "?", ", ".join(f"{who}: {grade or 'none'}" for who, grade in zip(people, grades, strict=True))
    return new, " and ".join(who for who, grade in zip(people, grades, strict=True) if grade == new)


def show_agreement(reviews: pd.DataFrame, prepared: PreparedSet) -> None:
    """Print how well each two reviewers agree on the photographs that both have reviewed."""
    opinions, rows = newest_opinions(reviews), []
    names = opinions.drop_duplicates("person").set_index("person")["who"]
    texts = opinions.pivot(index="photo", columns="person", values="new")
    kappa = quadratic_kappa if prepared.card["task"] == "grading" else unweighted_kappa
    for one, other in combinations(texts.columns, 2):
        both = texts[[one, other]].dropna().map(lambda text: _text_of(text, prepared.classes))
        graded = both[both[one].str.isdigit() & both[other].str.isdigit()].astype(int).to_numpy()
        if not len(both):
            continue
        value = kappa(confusion_matrix(graded[:, 0], graded[:, 1], len(prepared.classes)))
        enough = len(graded) >= LEAST_COMMON
        share = percent(float((both[one] == both[other]).mean()))
        rows.append(
            [f"{names[one]} and {names[other]}", str(len(both)), share, number(float(value)) if enough else "–"]
        )
    if rows:
        title = f"agreement of reviewers (no kappa below {LEAST_COMMON} photographs that both graded)"
        show_table(title, ["", "photographs", "same grade", f"{kappa.__name__.replace('_', ' ')}"], rows)


def report(decided: pd.DataFrame, folder: Path) -> None:
    """Print what became of the reviews, and write DATA/reviewed.csv."""
    write_text(folder / FILE, corrections_text(decided))
    say(f"reviews of {counted(decided[['name', 'file_sha256']].drop_duplicates().shape[0], 'photograph')}:")
    for result, meaning in RESULTS.items():
        rows = decided[decided["result"] == result]
        if len(rows):
            say(f"{len(rows):>6} {meaning}")
        for image, old, new, who, name in rows.head(0 if result == "already so" else SHOWN)[SAID].itertuples(
            index=False
        ):
            step = who if new == "?" else f"{old or 'none'} -> {new or 'none'}, {who}"
            say(f"         {image if image in name else f'{image} ({name})'}: {step}" if image else f"         {name}")
        if result != "already so" and len(rows) > SHOWN:
            say(f"         … and {len(rows) - SHOWN} more, in {folder / FILE}")
