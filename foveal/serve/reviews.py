"""Reviews: a person confirms or corrects a grade. When `add` returns, the review is on disk.

All reviews are kept; the newest of an image counts (by time, then by id). They are in an SQLite file, or in PostgreSQL
if several servers share them. `corrections` lists the corrected images in the columns of DATA/corrections.csv. Requests
reach the database through `Store`, in threads of its own and with a time limit.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import pandas as pd
from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Engine, func, insert, select
from sqlalchemy.exc import SQLAlchemyError

from foveal.errors import FovealError
from foveal.serve.database import REVIEWS, check_encoding, database_url, make_tables, open_engine, unavailable
from foveal.serve.guard import invalid
from foveal.serve.intake import limited, media_type, within
from foveal.sets.corrections import COLUMNS

LIMITS = {"name": 400, "reviewer": 100, "note": 4000, "model": 400}  # characters
NEEDED = ("name", "reviewer")
CLASSES = 100  # most classes: limits the grades and the number of probabilities
PAGE = 1000  # reviews in one answer
LARGEST = 1 << 16  # bytes: more than the longest review with every character escaped
THREADS = 4  # for the database only: a database that hangs blocks nothing else
Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class Review:
    """What a reviewer decided about one image, and the answer that the reviewer saw."""

    image: str  # SHA-256 of the file's bytes, hexadecimal
    name: str  # of the photograph
    given: int | None  # the grade of the model; None: ungradable
    grade: int | None  # the grade of the reviewer; None: ungradable
    reviewer: str
    note: str = ""
    probabilities: tuple[float, ...] | None = None  # of the model, one for each class
    model: str = ""
    id: int | None = None  # set by `add`
    when: str = ""  # UTC, ISO 8601, seconds; set by `add`


class Reviews:
    """The reviews in one database; made by `open_reviews`, used by many threads.

    Every method raises FovealError if the database fails. The review may or may not be stored; send it again.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, review: Review) -> Review:
        """Store a review; returns it with its id and time once it is on disk.

        FovealError if a text is missing, too long or cannot be stored, or if grades or probabilities are invalid.
        """
        check_review(review)
        review = replace(review, id=None, when=datetime.now(UTC).isoformat(timespec="seconds"))
        values = {name: value for name, value in asdict(review).items() if name != "id"}
        with self._told("written"), self._engine.execution_options(writes=True).begin() as connection:
            number = connection.execute(insert(REVIEWS).values(values).returning(REVIEWS.c.id)).scalar_one()
        return replace(review, id=number)

    def latest(self, limit: int = 100, offset: int = 0) -> tuple[int, list[Review]]:
        """The number of reviews, and at most `limit` (1 to 1,000) of them, newest first, after the first `offset`.

        FovealError if limit or offset is out of range.
        """
        if not 1 <= limit <= PAGE or not 0 <= offset < 2**31:
            what = f"limit is {limit} and offset {offset}"
            raise FovealError("reviews.invalid", what, expected=f"a limit of 1 to {PAGE} and an offset of 0 or more")
        newest = select(REVIEWS).order_by(REVIEWS.c.when.desc(), REVIEWS.c.id.desc()).limit(limit).offset(offset)
        with self._told("read"), self._engine.connect() as connection:
            total = connection.execute(select(func.count()).select_from(REVIEWS)).scalar_one()
            rows = connection.execute(newest).mappings().all()
        return total, [_review(dict(row)) for row in rows]

    def corrections(self, everything: bool = False) -> pd.DataFrame:
        """The newest review of each corrected image, oldest first, as text in the columns of corrections.csv.

        everything: include confirmed images. The id is the name of the photograph. If different images share a name,
        the id is `NAME (sha256 …)`, so that it cannot match an image of a set by mistake.
        """
        order = (REVIEWS.c.when.desc(), REVIEWS.c.id.desc())
        rank = func.row_number().over(partition_by=REVIEWS.c.image, order_by=order).label("rank")
        ranked = select(REVIEWS, rank).subquery()
        newest = select(ranked).where(ranked.c.rank == 1).order_by(ranked.c.when, ranked.c.id)
        with self._told("read"), self._engine.connect() as connection:
            rows = connection.execute(newest).mappings().all()
        images = Counter(row["name"] for row in rows)  # counts all reviews: a confirmed image may share the name
        table = [
            {
                "id": row["name"] if images[row["name"]] == 1 else f"{row['name']} (sha256 {row['image']})",
                "old": "" if row["given"] is None else str(row["given"]),
                "new": "" if row["grade"] is None else str(row["grade"]),
                "who": row["reviewer"], "when": row["when"], "why": row["note"],
            }
            for row in rows
            if everything or row["given"] != row["grade"]
        ]  # fmt: skip
        return pd.DataFrame(table, columns=list(COLUMNS), dtype=str)

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _told(self, done: str) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise unavailable(self._engine.url, error, done) from None


def open_reviews(url: str) -> Reviews:
    """Open the reviews in an SQLite file (a path, sqlite:///…) or PostgreSQL (postgresql://…); creates what is missing.

    FovealError, without any password in it, if they cannot be opened.
    """
    address = database_url(url)
    try:
        with ExitStack() as if_it_fails:
            engine = open_engine(address)
            if_it_fails.callback(engine.dispose)
            check_encoding(engine)
            make_tables(engine)
            if_it_fails.pop_all()
            return Reviews(engine)
    except (SQLAlchemyError, ImportError, OSError) as error:
        raise unavailable(address, error, "opened") from None


def check_review(review: Review) -> None:
    """FovealError if SQLite or PostgreSQL could not store the review unchanged."""
    if not re.fullmatch("[0-9a-f]{64}", review.image):
        expected = "the digest of the photograph's bytes, 64 lower-case hexadecimal digits"
        raise FovealError("reviews.invalid", "image is not a SHA-256 digest", expected=expected)
    for field, limit in LIMITS.items():
        _check_text(field, getattr(review, field), limit)
    for field in ("given", "grade"):
        grade = getattr(review, field)
        if grade is not None and (type(grade) is not int or not 0 <= grade < CLASSES):
            expected = "a class number, or none for ungradable"
            raise FovealError("reviews.invalid", f"{field} is {grade!r}", expected=expected)
    shares = review.probabilities or ()
    if len(shares) > CLASSES or not all(type(value) in (int, float) and 0 <= value <= 1 for value in shares):
        expected = f"numbers from 0 to 1, one for each class, at most {CLASSES}"
        raise FovealError("reviews.invalid", "probabilities are invalid", expected=expected)


def _check_text(field: str, text: str, limit: int) -> None:
    if field in NEEDED and not text.strip():
        raise FovealError("reviews.invalid", f"{field} is empty", expected="at least one character other than spaces")
    if len(text) > limit:
        raise FovealError("reviews.invalid", f"{field} has {len(text)} characters", expected=f"at most {limit}")
    # PostgreSQL cannot store zero bytes, and UTF-8 has no lone surrogates: refuse them for every database.
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        what = f"{field} has a zero byte or half a character, which databases cannot store"
        raise FovealError("reviews.invalid", what, fix="remove it")


def _review(row: dict) -> Review:
    probabilities = row.pop("probabilities")
    return Review(**row, probabilities=None if probabilities is None else tuple(probabilities))


class ReviewBody(BaseModel):
    """The body of POST /v1/reviews; unknown keys are an error. `check_review` checks the values further."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the photograph's bytes")
    name: str = Field(min_length=1, max_length=LIMITS["name"], description="name of the photograph")
    given: int | None = Field(ge=0, description="the grade of the model; null means ungradable")
    grade: int | None = Field(ge=0, description="the grade of the reviewer; null means ungradable")
    reviewer: str = Field(min_length=1, max_length=LIMITS["reviewer"])
    note: str = Field("", max_length=LIMITS["note"])
    probabilities: list[float] | None = Field(None, description="the probabilities of the answer, one for each class")
    key: str | None = Field(None, description="the `key` of the reviewed answer; the key of another model is refused")


async def read_review(request: Request, seconds: float) -> ReviewBody:
    """The body of a request as a review; FovealError if it is too large, too slow or malformed."""
    # Pages of other sites cannot send JSON here: browsers ask for permission first (CORS), and get none.
    if media_type(request) != "application/json":
        fix = "send it with Content-Type: application/json"
        raise FovealError("request.wrong_type", "a review must be JSON", fix=fix)
    async with within(seconds, fix="try again in a moment"):
        data = b"".join([chunk async for chunk in limited(request, LARGEST)])
    try:
        return ReviewBody.model_validate_json(data)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_input=False)[0]) from None


def review_of(body: ReviewBody, about: dict[str, Any]) -> Review:
    """The review to store; FovealError if it is about another model or has grades that this model lacks."""
    values, classes = body.model_dump(), len(about["classes"])
    # In another model, the same numbers may mean other grades.
    if values.pop("key") not in (None, about["key"]):
        what = "the reviewed grade is from another model"
        raise FovealError("request.another_model", what, fix="grade the photograph again and review that answer")
    for grade in (body.given, body.grade):
        if grade is not None and grade >= classes:
            raise FovealError("request.invalid", f"this model has no grade {grade}", expected=f"0 to {classes - 1}")
    shares = values.pop("probabilities")
    if shares is not None and len(shares) != classes:
        what = f"the review has {len(shares)} probabilities"
        raise FovealError("request.invalid", what, expected=f"{classes}, as in the answer")
    return Review(**values, probabilities=None if shares is None else tuple(shares), model=about["name"])


class Store:
    """The reviews, or None if the server stores none. A call that takes longer than `seconds` may take effect later."""

    def __init__(self, reviews: Reviews | None, seconds: float) -> None:
        self._reviews, self._seconds = reviews, seconds
        self._threads = ThreadPoolExecutor(THREADS, "reviews")

    async def run(self, method: Callable[..., Found], *given: Any) -> Found:
        """The result of a method of Reviews, called in a thread; FovealError on failure, or if it takes too long."""
        if self._reviews is None:
            fix = "start it without --reviews none"
            raise FovealError("reviews.off", "this server does not store reviews", fix=fix)
        what, fix = "the database of reviews did not answer", "try again in a moment"
        async with within(self._seconds, "reviews.unavailable", what, fix):
            return await asyncio.get_running_loop().run_in_executor(self._threads, method, self._reviews, *given)

    def close(self) -> None:
        """Start no further calls and close the database."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._reviews is not None:
            self._reviews.close()
