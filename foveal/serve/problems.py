"""Problems: every refusal as the same few words, for people and for programs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import JSONResponse

LOG = logging.getLogger("uvicorn.error")  # uvicorn writes it to stderr


@dataclass(eq=False)  # not frozen: Python writes the traceback into an exception
class RequestError(Exception):
    """A request that is not answered: HTTP status, a code for programs, what happened, and how to mend it."""

    status: int
    code: str
    message: str
    mend: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def response(self) -> JSONResponse:
        """The structured error of the contract."""
        body = {"error": {"code": self.code, "message": self.message, "mend": self.mend}}
        return JSONResponse(body, self.status, headers=self.headers)


def too_large(bytes_: int) -> RequestError:
    """413 for a request of more bytes than are taken."""
    return RequestError(
        413, "too_large", f"the request has more than {bytes_ / 1e6:g} MB, the limit of this server",
        "send fewer or smaller photographs",
    )  # fmt: skip


def too_many(images: int) -> RequestError:
    """413 for more photographs than one request may hold."""
    return RequestError(413, "too_many", f"a request may hold {images} photographs", "send them in several requests")


def busy(seconds: int) -> RequestError:
    """503 while as many photographs are in work as the server takes."""
    return RequestError(
        503, "busy", "as many photographs are in work as this server takes at one time",
        f"send it again in {seconds} s", {"Retry-After": str(seconds)},
    )  # fmt: skip


def too_slow(seconds: float) -> RequestError:
    """408 for a request that did not arrive, or was not answered, in time."""
    return RequestError(
        408, "timeout", f"the request was not there and answered within {seconds:g} s", "send fewer at once",
        {"Connection": "close"},
    )  # fmt: skip


def database_failed(said: str) -> RequestError:
    """503 for a database that cannot be asked now."""
    return RequestError(503, "database", said, "send it again in a moment", {"Retry-After": "5"})


def database_late(seconds: float) -> RequestError:
    """503 for a database that has not answered in time."""
    return database_failed(f"the database of reviews did not answer within {seconds:g} s")


def unreadable(reason: str) -> RequestError:
    """422 for a photograph that cannot be read."""
    return RequestError(
        422, "unreadable", f"the photograph cannot be read: {reason}",
        "send a JPEG, PNG, TIFF, BMP, WebP, GIF, JPEG 2000, PPM or DICOM file that opens elsewhere",
    )  # fmt: skip


def invalid(first: Mapping[str, Any]) -> RequestError:
    """422 for what pydantic finds wrong, from the first of its findings."""
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query"))
    said = f"{where}: {first['msg']}" if where else str(first["msg"])
    return RequestError(422, "invalid", said, "see /docs for what is expected")
