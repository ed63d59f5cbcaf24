"""Errors: a FovealError as an HTTP response, with the same code as on the command line."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from foveal.errors import FovealError

LOG = logging.getLogger("uvicorn.error")  # uvicorn writes it to stderr
STATUS = {
    "request.token": 401, "request.not_found": 404, "request.wrong_method": 405, "request.timeout": 408,
    "request.another_model": 409, "request.too_large": 413, "request.too_many": 413, "request.wrong_type": 415,
    "request.invalid": 422, "request.wrong_part": 422, "request.no_photograph": 422, "reviews.invalid": 422,
    "package.missing": 422, "reviews.off": 404, "reviews.unavailable": 503, "server.busy": 503,
    "server.not_ready": 503, "server.failed": 500,
}  # fmt: skip
HEADERS = {
    "request.token": {"WWW-Authenticate": "Bearer"},
    "request.timeout": {"Connection": "close"},
    "reviews.unavailable": {"Retry-After": "5"},
    "server.not_ready": {"Retry-After": "5"},
}


def response(error: FovealError) -> JSONResponse:
    """The error as JSON, with the status and headers of its code; by default 422 for images and 400 for others."""
    status = STATUS.get(error.code, 422 if error.subject == "image" else 400)
    body = {"code": error.code, "what": error.what, "expected": error.expected, "fix": error.fix}
    headers = dict(HEADERS.get(error.code, {}))
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    return JSONResponse({"error": body}, status, headers=headers)


def too_large(bytes_: int) -> FovealError:
    """The request has more bytes than the server accepts."""
    return FovealError(
        "request.too_large", "the request is too large", expected=f"at most {bytes_ / 1e6:g} MB",
        fix="send fewer or smaller photographs",
    )  # fmt: skip


def too_many(images: int) -> FovealError:
    """The request has more photographs than the server accepts."""
    return FovealError(
        "request.too_many", "the request has too many photographs", expected=f"at most {images}",
        fix="send them in several requests",
    )  # fmt: skip


def busy(seconds: int) -> FovealError:
    """The queue or the memory for requests is full."""
    error = FovealError("server.busy", "the server is busy", fix=f"send the request again in {seconds} s")
    error.retry_after = seconds
    return error


def too_slow(seconds: float) -> FovealError:
    """The request was not received and answered in time."""
    what = f"the request was not received and answered within {seconds:g} s"
    return FovealError("request.timeout", what, fix="send fewer photographs at once")


def database_late(seconds: float) -> FovealError:
    """The database of reviews did not answer in time."""
    what = f"the database of reviews did not answer within {seconds:g} s"
    return FovealError("reviews.unavailable", what, fix="try again in a moment")


def unreadable(code: str, reason: str) -> FovealError:
    """The photograph cannot be read; `code` and `reason` come from the decoder."""
    return FovealError(
        code, f"the photograph cannot be read: {reason}",
        expected="a JPEG, PNG, TIFF, BMP, WebP, GIF, JPEG 2000, PPM or DICOM file that other programs can open",
    )  # fmt: skip


def invalid(first: Mapping[str, Any]) -> FovealError:
    """The first problem that pydantic found in a request."""
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query"))
    what = f"{where}: {first['msg']}" if where else str(first["msg"])
    return FovealError("request.invalid", what, fix="see /docs for the fields and their types")
