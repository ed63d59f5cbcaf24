"""Body: a review as it is sent and as it is answered."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from foveal.serve.problems import RequestError
from foveal.serve.reviews import LIMITS, Review


class ReviewBody(BaseModel):
    """What POST /v1/reviews takes; another key is an error."""

    model_config = ConfigDict(extra="forbid", strict=True)

    image: str = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the photograph's bytes")
    name: str = Field(min_length=1, max_length=LIMITS["name"])
    given: int | None = Field(ge=0, description="the grade that was given; null: ungradable")
    grade: int | None = Field(ge=0, description="the grade that a person gives; null: ungradable")
    reviewer: str = Field(min_length=1, max_length=LIMITS["reviewer"])
    note: str = Field("", max_length=LIMITS["note"])
    probabilities: list[float] | None = None


def review_of(body: ReviewBody, about: dict[str, Any]) -> Review:
    """The review to keep; RequestError for a grade that the model does not have."""
    classes = len(about["classes"])
    for grade in (body.given, body.grade):
        if grade is not None and grade >= classes:
            raise RequestError(422, "invalid", f"grade {grade}: this model has grades 0 to {classes - 1}", "choose one")
    values = body.model_dump()
    shares = values.pop("probabilities")
    return Review(**values, probabilities=None if shares is None else tuple(shares), model=about["name"])


def review_to(review: Review) -> dict[str, Any]:
    """The review as it is answered."""
    return asdict(review)
