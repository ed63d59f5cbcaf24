"""Intake: read the photographs of a request into memory; limits apply before anything is decoded."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from foveal.errors import FovealError
from foveal.serve.options import Limits

FORM = "multipart/form-data"
SINGLE = ("image/", "application/dicom", "application/octet-stream")
FIELD = "images"
KINDS = f"{FORM} with parts named {FIELD}, or one file as image/jpeg, image/png, … or application/dicom"
LONGEST_NAME = 400  # characters
Hold = Callable[[int], None]  # counts the bytes that have arrived


class Sent(NamedTuple):
    """One photograph as it was sent."""

    name: str
    data: bytes

    @property
    def sha256(self) -> str:
        """Hexadecimal digest of the file's bytes."""
        return hashlib.sha256(self.data).hexdigest()


class _InMemory(MultiPartParser):
    """Starlette's parser without its temporary files for parts above 1 MB: no photograph may touch the disk."""

    spool_max_size = 1 << 40
    whole = False  # whether the end of the form has arrived

    def on_end(self) -> None:
        self.whole = True

    def close(self) -> None:
        """Close all files, including one that was cut off."""
        for file in self._files_to_close_on_error:
            file.close()


class Room:
    """Counts what all requests hold, at most `most`, in the event loop only. wait: seconds until there is room."""

    def __init__(self, most: int, wait: Callable[[], int] = lambda: 1) -> None:
        self.most, self.wait, self.held = most, wait, 0

    @contextmanager
    def request(self, first: int = 0) -> Iterator[Hold]:
        """Count what one request holds until its end, beginning with `first`; raises the error `busy` at the limit."""
        own = 0

        def hold(count: int) -> None:
            nonlocal own
            if self.held + count > self.most:
                seconds = self.wait()
                error = FovealError("server.busy", "the server is busy", fix=f"send the request again in {seconds} s")
                error.retry_after = seconds
                raise error
            self.held, own = self.held + count, own + count

        hold(first)
        try:
            yield hold
        finally:
            self.held -= own


@asynccontextmanager
async def reading(request: Request, kinds: tuple[str, ...], expected: str, seconds: float) -> AsyncIterator[str]:
    """The media type of a request whose body is read meanwhile; FovealError if it is none of `kinds`, or too slow."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if not kind.startswith(kinds):
        raise FovealError("request.wrong_type", f"the request has the type '{kind[:80] or 'none'}'", expected=expected)
    async with within(seconds):
        yield kind


async def body_of(request: Request, most: int, hold: Hold = lambda count: None) -> AsyncGenerator[bytes, None]:
    """The body in chunks, each counted by `hold`; FovealError if it has more bytes than `most`."""
    total, declared = 0, request.headers.get("content-length", "")
    _check_size(int(declared) if declared.isdigit() else 0, most)
    async for chunk in request.stream():
        total += len(chunk)
        _check_size(total, most)
        hold(len(chunk))
        yield chunk


def _check_size(size: int, most: int) -> None:
    if size > most:
        expected, fix = f"at most {most / 1e6:g} MB", "send fewer or smaller photographs"
        raise FovealError("request.too_large", "the request is too large", expected=expected, fix=fix)


@asynccontextmanager
async def within(seconds: float, code: str = "request.timeout", what: str = "the request was not received and answered",
                 fix: str = "try again, with fewer photographs at once") -> AsyncIterator[None]:  # fmt: skip
    """FovealError if the block takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise FovealError(code, f"{what} within {seconds:g} s", fix=fix) from None


async def read_photographs(request: Request, limits: Limits, hold: Hold) -> list[Sent]:
    """The photographs of a request; FovealError if it is too large, too slow or of the wrong type."""
    body = body_of(request, limits.megabytes * 10**6, hold)
    async with reading(request, (FORM, *SINGLE), KINDS, limits.timeout) as kind:
        if kind == FORM:
            return await _from_form(request, limits.images, body)
        data = b"".join([chunk async for chunk in body])
        name = tidy(_text(request.headers.get("x-name", "")) or request.query_params.get("name", ""))
        if kind == "application/dicom" and not name.lower().endswith(".dcm"):
            name += ".dcm"  # DICOM may lack a preamble to recognise it by
        return [Sent(name, data)]


async def _from_form(request: Request, images: int, body: AsyncGenerator[bytes, None]) -> list[Sent]:
    parser = _InMemory(request.headers, body, max_files=images, max_fields=16, max_part_size=1 << 16)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        if "files" in error.message.lower():
            what, fix = "the request has too many photographs", "send them in several requests"
            raise FovealError("request.too_many", what, expected=f"at most {images}", fix=fix) from None
        raise FovealError("request.malformed", f"the form cannot be read: {error.message}") from None
    except (KeyError, ValueError) as error:
        if isinstance(error, FovealError):
            raise
        raise FovealError("request.malformed", "the form cannot be read") from error
    try:
        if not parser.whole:  # otherwise the last photograph would be lost silently
            raise FovealError("request.malformed", "the form is cut off", fix="send it again")
        files = [(name, file) for name, file in form.multi_items() if isinstance(file, UploadFile)]
        if wrong := [name for name, _ in files if name != FIELD]:
            what = f"the form has a file in a part named '{tidy(wrong[0])[:80]}'"
            raise FovealError("request.wrong_part", what, expected=f"parts named {FIELD}")
        if not files:
            fix = f"add one or more files as parts named {FIELD}"
            raise FovealError("request.no_photograph", "the form has no photograph", fix=fix)
        return [Sent(tidy(file.filename or ""), await file.read()) for _, file in files]
    finally:
        parser.close()


def _text(header: str) -> str:
    """A header that may be UTF-8; Starlette reads headers as Latin-1."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeDecodeError:
        return header


def tidy(name: str) -> str:
    """A file name for display, never used as a path: its last part, at most 400 printable characters."""
    last = PurePosixPath(unquote(name).replace("\\", "/")).name
    return "".join(sign for sign in last if sign.isprintable())[:LONGEST_NAME].strip() or "photograph"
