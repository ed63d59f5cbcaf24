"""Intake: the bytes of a request become photographs, in memory, under limits that hold before anything is decoded."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from foveal.serve.options import ServeConfig
from foveal.serve.problems import RequestError, too_large, too_many, too_slow

SINGLE = ("image/", "application/dicom", "application/octet-stream")
LONGEST_NAME = 400  # characters
FIELD = "images"


@dataclass(frozen=True)
class Sent:
    """One photograph as it was sent."""

    name: str
    data: bytes

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of the file's bytes."""
        return hashlib.sha256(self.data).hexdigest()


class _InMemory(MultiPartParser):
    """Starlette's parser; it would lay parts above 1 MB into a temporary file, and no photograph is to touch a disk."""

    spool_max_size = 1 << 40


async def read_photographs(request: Request, config: ServeConfig) -> list[Sent]:
    """The photographs of a request; raises a `RequestError` for one that is too large, too slow, or of another kind."""
    most = config.most_megabytes * 10**6
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most:
        raise too_large(most)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        async with asyncio.timeout(config.timeout):
            if kind == "multipart/form-data":
                return await _from_form(request, config.most_images, most)
            if kind.startswith(SINGLE):
                data = b"".join([chunk async for chunk in _limited(request, most)])
                name = request.headers.get("x-name") or request.query_params.get("name") or "photograph"
                return [Sent(_with_ending(tidy(name), kind), data)]
    except TimeoutError:
        raise too_slow(config.timeout) from None
    raise RequestError(
        415, "wrong_type", f"a request of type '{kind or 'none'}' holds no photograph that is known here",
        f"send multipart/form-data with parts named {FIELD}, or one file as image/jpeg, image/png, … or "
        "application/dicom", {"Connection": "close"},
    )  # fmt: skip


async def _from_form(request: Request, images: int, most: int) -> list[Sent]:
    parser = _InMemory(request.headers, _limited(request, most), max_files=images, max_fields=16, max_part_size=1 << 16)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if "files" in error.message.lower():
            raise too_many(images) from None
        raise RequestError(400, "malformed", f"the form cannot be read: {error.message}", "send it again") from None
    except (KeyError, ValueError) as error:
        raise RequestError(400, "malformed", "the form cannot be read", "send it again") from error
    sent = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name != FIELD:
                raise RequestError(
                    422, "wrong_part", f"a file stands in a part named '{name[:80]}'", f"name it {FIELD}"
                )
            sent.append(Sent(tidy(value.filename or "photograph"), await value.read()))
    if not sent:
        raise RequestError(
            422, "no_photograph", "the form holds no photograph", f"add one or more files as parts {FIELD}"
        )
    return sent


async def _limited(request: Request, most: int) -> AsyncGenerator[bytes, None]:
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > most:
            raise too_large(most)
        yield chunk


def _with_ending(name: str, kind: str) -> str:
    """The name, with the ending by which a DICOM file without its mark is known."""
    return f"{name}.dcm" if kind == "application/dicom" and not name.lower().endswith(".dcm") else name


def tidy(name: str) -> str:
    """A file name as text: the last part of a path, without control characters, at most 400 characters.

    Browsers send quotation marks as %22. It is never used as a path.
    """
    last = PurePosixPath(unquote(name).replace("\\", "/")).name
    return "".join(sign for sign in last if sign.isprintable())[:LONGEST_NAME].strip() or "photograph"
