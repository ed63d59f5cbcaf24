"""Body: reviews in requests and answers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from foveal.errors import FovealError
from foveal.serve.intake import limited, within
from foveal.serve.problems import invalid
from foveal.serve.reviews import LIMITS, Review

LARGEST = 1 << 16  # bytes: more than the longest review with every character escaped


class ReviewBody(BaseModel):
    """The body of POST /v1/reviews; unknown keys are an error."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the photograph's bytes")
    name: str = Field(min_length=1, max_length=LIMITS["name"])
    given: int | None = Field(ge=0, description="the grade of the model; null means ungradable")
    grade: int | None = Field(ge=0, description="the grade of the reviewer; null means ungradable")
    reviewer: str = Field(min_length=1, max_length=LIMITS["reviewer"])
    note: str = Field("", max_length=LIMITS["note"])
    probabilities: list[float] | None = Field(None, description="the probabilities of the answer, one for each class")
    key: str | None = Field(
        None, max_length=64, description="the `key` of the reviewed answer; the key of another model is refused"
    )


async def read_review(request: Request, seconds: float) -> ReviewBody:
    """The body of a request as a review; FovealError if it is too large, too slow or malformed."""
    # Pages of other sites cannot send JSON here: browsers ask for permission first (CORS), and get none.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        what, fix = "a review must be JSON", "send it with Content-Type: application/json"
        raise FovealError("request.wrong_type", what, fix=fix)
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
            expected = f"0 to {classes - 1}"
            raise FovealError("request.invalid", f"this model has no grade {grade}", expected=expected)
    shares = values.pop("probabilities")
    if shares is not None and len(shares) != classes:
        what = f"the review has {len(shares)} probabilities"
        raise FovealError("request.invalid", what, expected=f"{classes}, as in the answer")
    return Review(**values, probabilities=None if shares is None else tuple(shares), model=about["name"])


def review_to(review: Review) -> dict[str, Any]:
    """The review as JSON for the answer."""
    return asdict(review)
