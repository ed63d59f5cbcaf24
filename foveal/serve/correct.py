"""correct: record second opinions on labels in DATA/corrections.csv; the labels of the source do not change."""

import getpass
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
import tyro

from foveal.console import hushed, say, warn
from foveal.errors import FovealError
from foveal.evaluate.judged import REVIEWED
from foveal.files import write_text
from foveal.page.words import counted
from foveal.runs import sole_writer
from foveal.sets import corrections
from foveal.sets.records import PreparedSet, open_prepared
from foveal.sets.reviewed import decide, newest_opinions, report, show_agreement
from foveal.sources.tables import read_rows


@dataclass(frozen=True, kw_only=True)
class CorrectConfig:
    """Options of `foveal correct`."""

    # Prepared set.
    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    # Id of the image, as in records.csv; not with --reviews.
    image: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ID")] = ""
    # The correct grade: number or name of the class; ungradable; none removes the label.
    new: str = ""
    # The reason, for later readers.
    why: str = ""
    # Who made the decision; by default the name of your account.
    who: str = ""
    # Reviews from `foveal serve` to apply: the file or URL of its database, or a CSV file saved from its page.
    reviews: str = ""
    # If reviewers disagree on a photograph: list it, or apply the grade of the majority or of the newest review.
    resolve: Literal["list", "majority", "newest"] = "list"

    def __post_init__(self) -> None:
        given = [name for name in ("image", "new", "why") if getattr(self, name).strip()]
        if self.reviews and given:
            raise FovealError("option.conflict", f"--reviews and {' and '.join(given)}", fix="give one or the other")
        if not self.reviews and len(given) < 3:
            what = "a correction needs an image, its --new grade and --why"
            raise FovealError("option.missing", what, fix="give all three, or --reviews")


def correct(config: CorrectConfig) -> Path:
    """Add corrections to DATA/corrections.csv; returns the file."""
    reviews = _read_reviews(config) if config.reviews else None
    with sole_writer(config.data, "correct"):  # two corrections at once would lose one of them
        with hushed():  # the number of corrections is said at the end
            prepared = open_prepared(config.data)
        file, columns = config.data / corrections.FILE, list(corrections.COLUMNS)
        before = corrections.read_corrections(file) if file.is_file() else pd.DataFrame(columns=columns, dtype=str)
        if reviews is None:
            rows = pd.DataFrame([_correction(config, prepared)], columns=columns)
        else:
            opinions = newest_opinions(reviews, prepared.classes)
            decided = decide(prepared, opinions, before, config.resolve)
            rows = decided[decided["result"] == "applied"]
            rows = rows.assign(why=[REVIEWED if why == REVIEWED else f"{REVIEWED}: {why}" for why in rows["why"]])
        table = pd.concat([before, rows[columns]])
        if len(rows):
            write_text(file, corrections.corrections_text(table))
    if reviews is not None:
        show_agreement(opinions, prepared)
        report(decided, config.data, config.resolve)
        _warn_of_test_part(prepared.records, rows)
    say(f"{counted(len(table), 'correction')} in {file}")
    return file


def _correction(config: CorrectConfig, prepared: PreparedSet) -> tuple[str, ...]:
    labels = corrections.labels_of(prepared.records)
    image = corrections.later_names(corrections.read_changes(config.data), labels).get(config.image, config.image)
    if image not in labels:
        raise FovealError("corrections.image", f"{config.data} has no image '{image}' in its records.csv")
    label = corrections.label_of(config.new, prepared.classes)
    new = config.new.strip().removesuffix("none") if label is None else str(label)
    texts = labels[image], new
    then, now = (prepared.classes[int(text)] if text.isdigit() else text or "no label" for text in texts)
    if new == labels[image]:
        raise FovealError("corrections.unchanged", f"'{image}' has this label already: {now}")
    say(f"{image}: {then} -> {now}")
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return (image, *texts, config.who or getpass.getuser(), when, config.why.strip())


def _warn_of_test_part(records: pd.DataFrame, rows: pd.DataFrame) -> None:
    """Warn of reviews in the test part; a new label is there if it is of a patient there."""
    test, bare = (records[records["split"] == part] for part in ("test", "unlabelled"))
    later = bare["id"][bare["group"].isin({*test["group"]} - {""})]
    inside = rows["new"][rows["id"].isin(test["id"]) | (rows["id"].isin(later) & rows["new"].str.isdigit())]
    if len(inside):
        marks = int((inside == corrections.UNGRADABLE).sum())
        counts = f"{counted(len(inside) - marks, 'correction')} and {counted(marks, 'ungradable mark')}"
        why = "their reviewers had seen the grader's answer, so figures on the test part favour that grader"
        warn(f"the test part of the set now has {counts} from reviews: {why}")


def _read_reviews(config: CorrectConfig) -> pd.DataFrame:
    """All reviews as text: file_sha256, id (the name of the photograph), new, who, when (UTC), why, place (for errors).

    Where a table does not say who or when, it is the user, now. FovealError for an empty grade, or no time in `when`.
    """
    if config.reviews.lower().endswith(".csv"):
        if not Path(config.reviews).is_file():
            raise FovealError("reviews.missing", f"--reviews {config.reviews} does not exist")
        file = Path(config.reviews)  # a spreadsheet may have saved it again, with semicolons
        table = corrections.unguarded(read_rows(file), file, ("id", "new"))
        if tuple(table) == corrections.COLUMNS:  # pages of earlier versions left the grade empty
            table["new"] = table["new"].replace("", corrections.UNGRADABLE)
        table = table.reindex(columns=[*corrections.COLUMNS, "file_sha256"], fill_value="")
        table["place"] = [f"{config.reviews}, line {line} ({name})" for line, name in enumerate(table["id"], start=2)]
    else:
        from foveal.serve.reviews import existing

        with closing(existing(config.reviews)) as database:
            table = database.table()
        table["place"] = config.reviews + ", " + table["id"]
    if not len(table):
        raise FovealError("reviews.empty", f"--reviews {config.reviews} has no reviews")
    for place in table["place"][table["new"].str.strip() == ""]:
        fix = f"write a grade, {corrections.UNGRADABLE}, or none, which removes the label"
        raise FovealError("reviews.no_grade", f"{place}: the column new is empty", fix=fix)
    table["when"] = [_time_of(text, place) for text, place in zip(table["when"], table["place"], strict=True)]
    return table.assign(who=table["who"].where(table["who"].str.strip() != "", config.who or getpass.getuser()))


def _time_of(text: str, place: str) -> str:
    """The time in UTC, so that times can be compared as text; now, if the text is empty."""
    try:
        moment = datetime.fromisoformat(text.strip()) if text.strip() else datetime.now(UTC).replace(microsecond=0)
    except ValueError as error:
        expected = "a time such as 2026-11-29T19:26:45+00:00"
        raise FovealError("reviews.when", f"{place}: '{text}' in the column when", expected=expected) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
