"""Reviews: a person confirms or corrects a grade. When `add` returns, the review and its line of the log are on disk.

All reviews are kept; of each reviewer, the newest of an image counts (by time, then by id). Requests reach the database
through `Store`, in threads of its own and with a time limit.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import pandas as pd
from fastapi import Request
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from sqlalchemy import ColumnElement, Engine, RowMapping, Select, bindparam, func, insert, or_, select
from sqlalchemy.exc import SQLAlchemyError

from foveal.errors import FovealError
from foveal.serve.database import FORMS, REVIEWS, database_url, make_tables, open_engine, overwrite_deleted, unavailable
from foveal.serve.guard import told_of
from foveal.serve.intake import body_of, reading, within
from foveal.serve.log import LINES, Line, append, lines_of
from foveal.sets.corrections import COLUMNS, UNGRADABLE

LIMITS = {"name": 400, "reviewer": 100, "note": 4000}  # characters
CLASSES = 100  # most classes: limits the grades and the number of probabilities
PAGE = 1000  # reviews in one answer
MOST_ASKED = 500  # answers whose reviews are asked for at once
LARGEST = 1 << 16  # bytes: more than the longest review with every character escaped, or `MOST_ASKED` answers
TABLE = (*COLUMNS, "file_sha256")
NEWEST_FIRST = (REVIEWS.c.when.desc(), REVIEWS.c.id.desc())
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
    probabilities: list[float] | None = None  # of the model, one for each class
    model: str = ""
    id: int | None = None  # set by `add`
    when: str = ""  # UTC, ISO 8601, seconds; set by `add`


def decision_of(opinions: Sequence[Review], lowest: int | None, refers_by: str | None) -> dict[str, Any] | None:
    """What follows from the opinions of an image, oldest first: the worst decides as long as reviewers disagree.
    lowest: the lowest referable class. refers_by: of the answer; a reviewed grade does not rule out macular oedema."""

    def badness(review: Review) -> tuple[int, int]:
        if lowest is None:
            return 0, 0
        return (1, 0) if review.grade is None else (2 * (review.grade >= lowest), review.grade)

    if not opinions:
        return None
    worst = max(reversed(opinions), key=badness).grade
    referable = None if worst is None or lowest is None else refers_by == "oedema" or worst >= lowest
    return {
        "grade": worst, "referable": referable, "disagreement": len({review.grade for review in opinions}) > 1,
        "opinions": [{name: getattr(review, name) for name in ("reviewer", "grade", "when")} for review in opinions],
    }  # fmt: skip


class Reviews:
    """The reviews in one database; made by `open_reviews`, used by many threads.

    Every method raises FovealError if the database fails. The review may or may not be stored; send it again.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, review: Review, sender: dict[str, Any] | None = None) -> Review:
        """Store and log a review; returns it with its id and time once it is on disk. FovealError for invalid fields.
        sender: more values for its line of the log, such as who sent it."""
        values = {name: value for name, value in asdict(review).items() if name not in ("id", "when")}
        try:
            ReviewBody(**{name: value for name, value in values.items() if name != "model"})
        except ValidationError as error:
            raise FovealError("reviews.invalid", told_of(error).what, fix="change this field") from None
        values["when"] = datetime.now(UTC).isoformat(timespec="seconds")
        with self._told("written"), self._engine.execution_options(writes=True).begin() as connection:
            number = connection.execute(insert(REVIEWS).values(values).returning(REVIEWS.c.id)).scalar_one()
            append(connection, [{"kind": "review"} | (sender or {}) | values | {"id": number}])
        return Review(**values, id=number)

    def check(self, review: Review, key: str) -> str | None:
        """What decided on referral in the reviewed answer; FovealError unless the log has this answer. key: of the
        model that gave it. The grade must be that of the answer, and so must the probabilities, if given."""
        found = select(LINES.c.content).where(LINES.c.image == review.image)
        lines = [json.loads(row["content"]) for row in self._rows(found)]
        answers = [line for line in lines if line["kind"] == "answer" and line["key"] == key]
        reviewed = [line for line in answers if line["grade"] == review.given]
        if not reviewed or review.probabilities not in (None, *(line["probabilities"] for line in reviewed)):
            what = f"{review.name}: the log has no such answer"
            if answers:
                what = f"{review.name}: the grade or probabilities in the review differ from the answer"
            expected = "the digest, grade and probabilities of an answer of this server"
            raise FovealError("request.no_answer", what, expected=expected, fix="grade the photograph, then review it")
        return reviewed[-1].get("refers_by")

    def log(self, contents: list[dict[str, Any]]) -> None:
        """Append lines to the log; they are on disk when it returns."""
        with self._told("written"), self._engine.execution_options(writes=True).begin() as connection:
            append(connection, contents)

    def erase(self, lines: list[int], reviews: list[int], who: str) -> None:
        """Erase the contents of lines of the log, and reviews; the log keeps who did it."""
        with self._told("written"), self._engine.execution_options(writes=True).begin() as connection:
            for column, numbers, change in (
                (LINES.c.number, lines, LINES.update().values(content=None, image=None)),
                (REVIEWS.c.id, reviews, REVIEWS.delete()),
            ):
                if numbers:
                    connection.execute(change.where(column == bindparam("wanted")), [{"wanted": n} for n in numbers])
            append(connection, [{"kind": "erase", "user": who, "lines": lines, "reviews": reviews}])
        with self._told("written"):
            overwrite_deleted(self._engine)

    @contextmanager
    def lines(self) -> Iterator[Iterator[Line]]:
        """All lines of the log, read within the block."""
        with self._told("read"), self._engine.connect() as connection:
            yield lines_of(connection)

    def latest(self, limit: int = 100, offset: int = 0, search: str = "") -> tuple[int, list[Review]]:
        """The number of reviews, and at most `limit` (1 to 1,000) of them, newest first, after the first `offset`.
        search: a part of the photograph's name, of the reviewer or of the note; the others do not count."""
        if not 1 <= limit <= PAGE or not 0 <= offset < 2**31:
            what = f"limit is {limit} and offset {offset}"
            raise FovealError("reviews.invalid", what, expected=f"a limit of 1 to {PAGE} and an offset of 0 or more")
        fields = (REVIEWS.c.name, REVIEWS.c.reviewer, REVIEWS.c.note)
        found = select(REVIEWS).where(or_(*(field.icontains(_storable(search), autoescape=True) for field in fields)))
        total = self._rows(select(func.count().label("total")).select_from(found.subquery()))[0]["total"]
        return total, [Review(**row) for row in self._rows(found.order_by(*NEWEST_FIRST).limit(limit).offset(offset))]

    def images(self) -> set[str]:
        """The digests of all reviewed images."""
        return {row["image"] for row in self._rows(select(REVIEWS.c.image).distinct())}

    def of_images(self, images: list[str]) -> dict[str, list[Review]]:
        """The opinions on each of these digests that has one: the newest review of each reviewer, oldest first."""
        opinions = dict[str, list[Review]]()
        for row in self._newest(REVIEWS.c.image.in_(images)):
            opinions.setdefault(row["image"], []).append(Review(**row))
        return opinions

    def all(self) -> list[Review]:
        """All reviews, oldest first."""
        return [Review(**row) for row in self._rows(select(REVIEWS).order_by(REVIEWS.c.id))]

    def table(self) -> pd.DataFrame:
        """The newest review of each reviewer of each image, oldest first, as text in `TABLE`. The id is the
        photograph's name; for images that share one, `NAME (sha256 …)`, to match no image by mistake."""
        rows = self._newest()
        images = Counter(name for name, _ in {(row["name"], row["image"]) for row in rows})
        table = []
        for row in rows:
            name = row["name"] if images[row["name"]] == 1 else f"{row['name']} (sha256 {row['image']})"
            old, new = (UNGRADABLE if grade is None else str(grade) for grade in (row["given"], row["grade"]))
            table.append((name, old, new, row["reviewer"], row["when"], row["note"], row["image"]))
        return pd.DataFrame(table, columns=list(TABLE), dtype=str)

    def _newest(self, *only: ColumnElement[bool]) -> Sequence[RowMapping]:
        """The newest review of each reviewer of each image, oldest first."""
        newest = dict[tuple[str, str], RowMapping]()
        for row in self._rows(select(REVIEWS).where(*only).order_by(*NEWEST_FIRST)):
            # Not in SQL: SQLite knows only the lower case of A to Z.
            newest.setdefault((row["image"], row["reviewer"].strip().lower()), row)
        return [*newest.values()][::-1]

    def _rows(self, found: Select[Any]) -> Sequence[RowMapping]:
        with self._told("read"), self._engine.connect() as connection:
            return connection.execute(found).mappings().all()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextmanager
    def _told(self, done: str) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise unavailable(self._engine.url, error, done) from None


def open_reviews(url: str, *, writes: bool = True) -> Reviews:
    """Open the reviews in an SQLite file (a path, sqlite:///…) or PostgreSQL (postgresql://…). writes: add tables."""
    address = database_url(url)
    try:
        with ExitStack() as if_it_fails:
            engine = open_engine(address)
            if_it_fails.callback(engine.dispose)
            if writes:
                make_tables(engine)
            if_it_fails.pop_all()
            return Reviews(engine)
    except (SQLAlchemyError, ImportError, OSError) as error:
        raise unavailable(address, error, "opened") from None


def existing(url: str, *, writes: bool = False) -> Reviews:
    """The reviews in a database that exists already; FovealError without one. writes: upgrade an older one."""
    address = database_url(url)
    if address.get_backend_name() == "sqlite" and not Path(str(address.database)).is_file():
        what = f"the database {address.database} does not exist"
        raise FovealError("reviews.missing", what, expected=f"a database of foveal serve ({FORMS})")
    return open_reviews(url, writes=writes)


def _storable(text: str) -> str:
    """PostgreSQL cannot store zero bytes, and UTF-8 has no lone surrogates: both are refused for every database."""
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise FovealError("reviews.invalid", "a zero byte or half a character cannot be stored")
    return text


def _not_blank(text: str) -> str:
    if not text.strip():
        raise FovealError("reviews.invalid", "at least one character other than spaces is needed")
    return text


Text = Annotated[str, AfterValidator(_storable)]
Needed = Annotated[Text, AfterValidator(_not_blank)]
NO_GRADE = f'null or "{UNGRADABLE}": the photograph is ungradable'
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_GRADE = {"type": "integer", "minimum": 0, "exclusiveMaximum": CLASSES}
WORD: dict[str, Any] = {"anyOf": [_GRADE, {"const": UNGRADABLE, "type": "string"}, {"type": "null"}]}
NONE = BeforeValidator(lambda grade: None if grade == UNGRADABLE else grade)
Grade = Annotated[int | None, Field(ge=0, lt=CLASSES, json_schema_extra=WORD), NONE]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the photograph's bytes")]
Cause = Literal["grade", "threshold", "oedema"]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)  # unknown keys are an error

    key: str | None = Field(None, description="the `key` of the answer; the key of another model is refused")


class ReviewBody(_Body):
    """The body of POST /v1/reviews."""

    image: Digest
    name: Needed = Field(min_length=1, max_length=LIMITS["name"], description="name of the photograph")
    given: Grade = Field(description=f"the grade of the model; {NO_GRADE}")
    grade: Grade = Field(description=f"the grade of the reviewer; {NO_GRADE}")
    reviewer: Needed = Field(min_length=1, max_length=LIMITS["reviewer"])
    note: Text = Field("", max_length=LIMITS["note"])
    probabilities: list[Share] | None = Field(
        None, max_length=CLASSES, description="the probabilities of the answer, one for each class"
    )


class AskedBody(_Body):
    """The body of POST /v1/reviews/current."""

    answers: dict[Digest, Cause | None] = Field(max_length=MOST_ASKED, description="digest: `refers_by` of the answer")


Body = TypeVar("Body", bound=_Body)


async def read_body(request: Request, form: type[Body], key: str, seconds: float) -> Body:
    """The body of a request, which is about answers of the model `key`; FovealError if it is malformed, or is not."""
    # Pages of other sites cannot send JSON here: browsers ask for permission first (CORS), and get none.
    async with reading(request, ("application/json",), "application/json", seconds):
        body = form.model_validate_json(b"".join([chunk async for chunk in body_of(request, LARGEST)]))
    if body.key not in (None, key):  # in another model, the same numbers may mean other grades
        what, fix = "the answer is from another model", "grade the photograph again, and use that answer"
        raise FovealError("request.another_model", what, fix=fix)
    return body


async def read_review(request: Request, about: dict[str, Any], seconds: float) -> Review:
    """The review in the body of a request; FovealError if it is malformed, or does not fit this model."""
    body, classes = await read_body(request, ReviewBody, about["key"], seconds), len(about["classes"])
    for grade in (body.given, body.grade):
        if grade is not None and grade >= classes:
            raise FovealError("request.invalid", f"this model has no grade {grade}", expected=f"0 to {classes - 1}")
    if body.probabilities is not None and len(body.probabilities) != classes:
        what = f"the review has {len(body.probabilities)} probabilities"
        raise FovealError("request.invalid", what, expected=f"{classes}, as in the answer")
    return Review(**body.model_dump(exclude={"key"}), model=about["name"])


class Store:
    """The reviews, or None if the server stores none. A call that takes longer than `seconds` may take effect later."""

    def __init__(self, reviews: Reviews | None, seconds: float) -> None:
        self._reviews, self._seconds = reviews, seconds
        self._threads = ThreadPoolExecutor(THREADS, "reviews")
        self.urgent = ThreadPoolExecutor(1, "urgent")  # slow lists of reviews do not delay answers

    async def log(self, contents: list[dict[str, Any]]) -> None:
        """Append lines to the log, if reviews are stored."""
        if self._reviews is not None:
            await self.run(Reviews.log, contents, threads=self.urgent)

    async def reviewed(self, answers: list[dict[str, Any]], about: dict[str, Any],
                       threads: ThreadPoolExecutor | None = None) -> list[dict[str, Any]]:  # fmt: skip
        """The answers, each with `review`, the newest of its photograph, and `decision`, from all reviews; or None.
        about: the model. A review of a grader with another number of classes counts as none: its grades may differ."""
        if self._reviews is None:
            return [answer | {"review": None, "decision": None} for answer in answers]
        found = await self.run(Reviews.of_images, [answer["sha256"] for answer in answers], threads=threads)
        classes, told = len(about["classes"]), []
        for answer in answers:
            fits = [one for one in found.get(answer["sha256"], [])
                    if len(one.probabilities or [0] * classes) == classes and (one.grade or 0) < classes]  # fmt: skip
            decision = decision_of(fits, about["referable_from"], answer["refers_by"])
            told.append(answer | {"review": asdict(fits[-1]) if fits else None, "decision": decision})
        return told

    async def run(self, method: Callable[..., Found], *given: Any, threads: ThreadPoolExecutor | None = None) -> Found:
        """The result of a method of Reviews, called in a thread; FovealError on failure, or if it takes too long."""
        if self._reviews is None:
            fix = "start it without --reviews none"
            raise FovealError("reviews.off", "this server does not store reviews", fix=fix)
        what, fix = "the database of reviews did not answer", "try again in a moment"
        async with within(self._seconds, "reviews.unavailable", what, fix):
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(threads or self._threads, method, self._reviews, *given)

    def close(self) -> None:
        """Start no further calls and close the database."""
        for threads in (self._threads, self.urgent):
            threads.shutdown(wait=False, cancel_futures=True)
        if self._reviews is not None:
            self._reviews.close()
