"""Intake: the bytes of a request become photographs, in memory, under limits that hold before anything is decoded."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote

from fastapi import Request
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from foveal.serve.options import ServeConfig
from foveal.serve.problems import RequestError, busy, too_large, too_many, too_slow

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
    whole = False  # whether the boundary that ends a form was seen

    def on_end(self) -> None:
        self.whole = True

    def close(self) -> None:
        """Let go of all files, also of one whose end did not come."""
        for file in self._files_to_close_on_error:
            file.close()


class Room:
    """The bytes of all requests that are held at one time, at most `most`; used from the event loop alone."""

    def __init__(self, most: int) -> None:
        self.most, self.held = most, 0

    @contextmanager
    def request(self) -> Iterator[Callable[[int], None]]:
        """The part of one request: call it with each number of bytes that arrive; at the end all are given back.

        It raises the problem `busy` where there is no room for them.
        """
        own = 0

        def hold(count: int) -> None:
            nonlocal own
            if self.held + count > self.most:
                raise busy(1)
            self.held, own = self.held + count, own + count

        try:
            yield hold
        finally:
            self.held -= own


async def read_photographs(request: Request, config: ServeConfig, hold: Callable[[int], None]) -> list[Sent]:
    """The photographs of a request, whose bytes `hold` is told of as they arrive.

    Raises a `RequestError` for one that is too large, too slow, or of another kind.
    """
    most = config.most_megabytes * 10**6
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > most:
        raise too_large(most)
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    async with within(config.timeout):
        if kind == "multipart/form-data":
            return await _from_form(request, config.most_images, limited(request, most, hold))
        if kind.startswith(SINGLE):
            data = b"".join([chunk async for chunk in limited(request, most, hold)])
            name = _text(request.headers.get("x-name", "")) or request.query_params.get("name") or "photograph"
            return [Sent(_with_ending(tidy(name), kind), data)]
    raise RequestError(
        415, "wrong_type", f"a request of type '{kind[:80] or 'none'}' holds no photograph that is known here",
        f"send multipart/form-data with parts named {FIELD}, or one file as image/jpeg, image/png, … or "
        "application/dicom",
    )  # fmt: skip


@asynccontextmanager
async def within(seconds: float, late: Callable[[float], RequestError] = too_slow) -> AsyncIterator[None]:
    """The problem that `late` makes of the seconds, where the block takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise late(seconds) from None


async def _from_form(request: Request, images: int, body: AsyncGenerator[bytes, None]) -> list[Sent]:
    parser = _InMemory(request.headers, body, max_files=images, max_fields=16, max_part_size=1 << 16)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if "files" in error.message.lower():
            raise too_many(images) from None
        raise RequestError(400, "malformed", f"the form cannot be read: {error.message}", "send it again") from None
    except (KeyError, ValueError) as error:
        raise RequestError(400, "malformed", "the form cannot be read", "send it again") from error
    try:
        if not parser.whole:  # its last photograph, or half of it, would be missing without a word
            raise RequestError(400, "malformed", "the form has no end: a part of it is missing", "send it again")
        return await _photographs_in(form)
    finally:
        parser.close()


async def _photographs_in(form: FormData) -> list[Sent]:
    sent = []
    for name, value in form.multi_items():
        if isinstance(value, UploadFile):
            if name != FIELD:
                said = f"a file stands in a part named '{tidy(name)[:80]}'"
                raise RequestError(422, "wrong_part", said, f"name it {FIELD}")
            sent.append(Sent(tidy(value.filename or "photograph"), await value.read()))
    if not sent:
        raise RequestError(
            422, "no_photograph", "the form holds no photograph", f"add one or more files as parts {FIELD}"
        )
    return sent


async def limited(
    request: Request, most: int, hold: Callable[[int], None] = lambda count: None
) -> AsyncGenerator[bytes, None]:  # fmt: skip
    """The body of a request, piece by piece; the problem `too_large` where it has more bytes than `most`."""
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > most:
            raise too_large(most)
        hold(len(chunk))
        yield chunk


def _text(header: str) -> str:
    """A header that may be UTF-8, as programs send it; Starlette reads all as Latin-1."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeDecodeError:
        return header


def _with_ending(name: str, kind: str) -> str:
    """The name, with the ending by which a DICOM file without its mark is known."""
    return f"{name}.dcm" if kind == "application/dicom" and not name.lower().endswith(".dcm") else name


def tidy(name: str) -> str:
    """A file name as text: the last part of a path, without control characters, at most 400 characters.

    Browsers send quotation marks as %22. It is never used as a path.
    """
    last = PurePosixPath(unquote(name).replace("\\", "/")).name
    return "".join(sign for sign in last if sign.isprintable())[:LONGEST_NAME].strip() or "photograph"
