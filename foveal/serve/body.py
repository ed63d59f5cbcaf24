"""Body: a review as it is sent and as it is answered."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from foveal.serve.intake import limited, within
from foveal.serve.problems import RequestError, invalid
from foveal.serve.reviews import LIMITS, Review

LARGEST = 1 << 16  # bytes: more than the longest review with every character escaped


class ReviewBody(BaseModel):
    """What POST /v1/reviews takes; another key is an error."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the photograph's bytes")
    name: str = Field(min_length=1, max_length=LIMITS["name"])
    given: int | None = Field(ge=0, description="the grade that was given; null: ungradable")
    grade: int | None = Field(ge=0, description="the grade that a person gives; null: ungradable")
    reviewer: str = Field(min_length=1, max_length=LIMITS["reviewer"])
    note: str = Field("", max_length=LIMITS["note"])
    probabilities: list[float] | None = Field(None, description="that were given, one for each class")
    key: str | None = Field(
        None, max_length=64, description="of the answer that is reviewed: another model's is refused"
    )


async def read_review(request: Request, seconds: float) -> ReviewBody:
    """The body of a request as a review; a RequestError for one that is too large, too slow, or of another form."""
    # Browsers send JSON to a server of another site only once that has agreed, which this one never does.
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestError(415, "wrong_type", "a review is JSON", "send it with Content-Type: application/json")
    async with within(seconds):
        data = b"".join([chunk async for chunk in limited(request, LARGEST)])
    try:
        return ReviewBody.model_validate_json(data)
    except ValidationError as error:
        raise invalid(error.errors(include_url=False, include_input=False)[0]) from None


def review_of(body: ReviewBody, about: dict[str, Any]) -> Review:
    """The review to keep; RequestError for one of another model, or of grades that this one does not have."""
    values, classes = body.model_dump(), len(about["classes"])
    # Its numbers may mean other grades, and it would be kept under the name of this model.
    if values.pop("key") not in (None, about["key"]):
        said = "the grade is from another model than the one that answers here now"
        raise RequestError(409, "another_model", said, "grade the photograph again, and review that")
    for grade in (body.given, body.grade):
        if grade is not None and grade >= classes:
            raise RequestError(422, "invalid", f"grade {grade}: this model has grades 0 to {classes - 1}", "choose one")
    shares = values.pop("probabilities")
    if shares is not None and len(shares) != classes:
        said = f"{len(shares)} probabilities: this model has {classes} classes"
        raise RequestError(422, "invalid", said, "send those of the answer, one for each class")
    return Review(**values, probabilities=None if shares is None else tuple(shares), model=about["name"])


def review_to(review: Review) -> dict[str, Any]:
    """The review as it is answered."""
    return asdict(review)
