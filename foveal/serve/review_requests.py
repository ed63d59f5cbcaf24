"""Reviews in requests: their bodies, and access to the database in threads of its own, with a time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from foveal.errors import FovealError
from foveal.serve.guard import invalid
from foveal.serve.intake import limited, media_type, within
from foveal.serve.reviews import Review, Reviews

LARGEST = 1 << 16  # bytes: more than the longest review with every character escaped
THREADS = 4  # for the database only: a database that hangs blocks nothing else
Found = TypeVar("Found")


class ReviewBody(BaseModel):
    """The body of POST /v1/reviews; unknown keys are an error. `check_review` checks the values."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: str = Field(description="SHA-256 of the photograph's bytes")
    name: str = Field(description="name of the photograph")
    given: int | None = Field(description="the grade of the model; null means ungradable")
    grade: int | None = Field(description="the grade of the reviewer; null means ungradable")
    reviewer: str
    note: str = ""
    probabilities: list[float] | None = Field(None, description="the probabilities of the answer, one for each class")
    key: str | None = Field(None, description="the `key` of the reviewed answer; the key of another model is refused")


async def read_review(request: Request, seconds: float) -> ReviewBody:
    """The body of a request as a review; FovealError if it is too large, too slow or malformed."""
    # Pages of other sites cannot send JSON here: browsers ask for permission first (CORS), and get none.
    if media_type(request) != "application/json":
        fix = "send it with Content-Type: application/json"
        raise FovealError("request.wrong_type", "a review must be JSON", fix=fix)
    async with within(seconds):
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
        async with within(self._seconds, "reviews.unavailable", "the database of reviews did not answer"):
            return await asyncio.get_running_loop().run_in_executor(self._threads, method, self._reviews, *given)

    def close(self) -> None:
        """Start no further calls and close the database."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._reviews is not None:
            self._reviews.close()
