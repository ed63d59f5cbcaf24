"""Reviews: a person confirms or corrects a grade; what `add` has returned is on the disk.

Every review is kept; the newest of an image counts (by time, then by id). They are in one SQLite file, or in PostgreSQL
where many servers share them. `corrections` gives those that disagree in the columns of DATA/corrections.csv.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

import pandas as pd
from sqlalchemy import Engine, func, insert, select
from sqlalchemy.exc import SQLAlchemyError

from foveal.serve.database import check_encoding, database_url, mend, open_engine, place_of, reason
from foveal.serve.schema import REVIEWS, upgrade
from foveal.sets.corrections import COLUMNS

LIMITS = {"name": 400, "reviewer": 100, "note": 4000, "model": 400}  # characters
NEEDED = ("name", "reviewer")
CLASSES = 100  # grades are below, and no more probabilities are kept
PAGE = 1000  # reviews in one answer


@dataclass(frozen=True, kw_only=True)
class Review:
    """What a person said about one image, and what had been said to them."""

    image: str  # SHA-256 of the file's bytes, hexadecimal
    name: str  # of the photograph
    given: int | None  # the grade that the model gave; None: ungradable
    grade: int | None  # the grade that the person gives; None: ungradable
    reviewer: str
    note: str = ""
    probabilities: tuple[float, ...] | None = None  # of the model, one for each class
    model: str = ""
    id: int | None = None  # given by `add`
    when: str = ""  # UTC, ISO 8601, seconds; given by `add`


class Reviews:
    """The reviews in one database; made by `open_reviews`, used by many threads.

    Every method raises OSError where the database fails: then a review may or may not be kept, and is to be sent again.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, review: Review) -> Review:
        """Keep a review; returns it with its id and time once it is on the disk.

        Raises ValueError for a text that is missing, too long or cannot be kept, a grade that is no class number, or
        probabilities that are none.
        """
        check_review(review)
        review = replace(review, id=None, when=datetime.now(UTC).isoformat(timespec="seconds"))
        values = {name: value for name, value in asdict(review).items() if name != "id"}
        with self._told("written"), self._engine.execution_options(writes=True).begin() as connection:
            number = connection.execute(insert(REVIEWS).values(values).returning(REVIEWS.c.id)).scalar_one()
        return replace(review, id=number)

    def latest(self, limit: int = 100, offset: int = 0) -> tuple[int, list[Review]]:
        """How many reviews there are, and at most `limit` (1 to 1,000) of them, newest first, after the first `offset`.

        Raises ValueError for a limit or an offset out of range.
        """
        if not 1 <= limit <= PAGE or not 0 <= offset < 2**31:
            raise ValueError(f"limit must be 1 to {PAGE} and offset 0 or more, not {limit} and {offset}")
        newest = select(REVIEWS).order_by(REVIEWS.c.when.desc(), REVIEWS.c.id.desc()).limit(limit).offset(offset)
        with self._told("read"), self._engine.connect() as connection:
            total = connection.execute(select(func.count()).select_from(REVIEWS)).scalar_one()
            rows = connection.execute(newest).mappings().all()
        return total, [_review(dict(row)) for row in rows]

    def corrections(self, everything: bool = False) -> pd.DataFrame:
        """The newest review of each image that disagrees, in their order, as text in the columns of corrections.csv.

        everything: also those that confirm. The id is the photograph's name. Where two images that differ have one
        name, none of them gets it alone: the id is then `NAME (sha256 …)`, which fits no set by mistake.
        """
        order = (REVIEWS.c.when.desc(), REVIEWS.c.id.desc())
        rank = func.row_number().over(partition_by=REVIEWS.c.image, order_by=order).label("rank")
        ranked = select(REVIEWS, rank).subquery()
        newest = select(ranked).where(ranked.c.rank == 1).order_by(ranked.c.when, ranked.c.id)
        with self._told("read"), self._engine.connect() as connection:
            rows = connection.execute(newest).mappings().all()
        images = Counter(row["name"] for row in rows)  # of all: a confirmed image shares its name, too
        table = [
            {
                "id": row["name"] if images[row["name"]] == 1 else f"{row['name']} (sha256 {row['image']})",
                "old": "" if row["given"] is None else str(row["given"]),
                "new": "" if row["grade"] is None else str(row["grade"]),
                "who": row["reviewer"],
                "when": row["when"],
                "why": row["note"],
            }
            for row in rows
            if everything or row["given"] != row["grade"]
        ]
        return pd.DataFrame(table, columns=list(COLUMNS), dtype=str)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _told(self, done: str) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            url = self._engine.url
            raise OSError(f"the reviews in {place_of(url)} cannot be {done} now: {reason(url, error)}") from None


def open_reviews(url: str) -> Reviews:
    """Open the reviews in an SQLite file (a path, sqlite:///…) or in PostgreSQL (postgresql://…); made where missing.

    A database of an older Foveal is upgraded. Raises ValueError, without any password, for what cannot be opened.
    """
    address = database_url(url)
    place = place_of(address)
    engine = None
    try:
        engine = open_engine(address)
        check_encoding(engine)
        upgrade(engine)
        return Reviews(engine)
    except (SQLAlchemyError, ImportError, OSError) as error:
        said = f"{reason(address, error)}; {mend(address, error)}"
    except ValueError as error:
        said = reason(address, error)
    if engine is not None:
        engine.dispose()
    raise ValueError(f"the reviews in {place} cannot be opened: {said}")


def check_review(review: Review) -> None:
    """ValueError where a review cannot be kept as it is, in SQLite and PostgreSQL alike."""
    if not re.fullmatch("[0-9a-f]{64}", review.image):
        raise ValueError("image must be the SHA-256 of the photograph's bytes: 64 hexadecimal digits in lower case")
    for field, limit in LIMITS.items():
        _check_text(field, getattr(review, field), limit)
    for field in ("given", "grade"):
        grade = getattr(review, field)
        if grade is not None and (type(grade) is not int or not 0 <= grade < CLASSES):
            raise ValueError(f"{field} must be the number of a class, or nothing for ungradable, not {grade!r}")
    if review.probabilities is not None:
        right = all(type(value) in (int, float) and 0 <= value <= 1 for value in review.probabilities)
        if not right or len(review.probabilities) > CLASSES:
            raise ValueError(f"probabilities must be numbers from 0 to 1, one for each class, at most {CLASSES}")


def _check_text(field: str, text: str, limit: int) -> None:
    if field in NEEDED and not text.strip():
        raise ValueError(f"{field} is empty: a review says of which photograph it is, and whose")
    if len(text) > limit:
        raise ValueError(f"{field} has {len(text)} characters; at most {limit} are kept")
    # PostgreSQL refuses zero bytes, and half a surrogate pair is no text in UTF-8: refused here, whatever the database.
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"{field} holds a zero byte or half a character, which no database keeps; take it out")


def _review(row: dict) -> Review:
    probabilities = row.pop("probabilities")
    return Review(**row, probabilities=None if probabilities is None else tuple(probabilities))
