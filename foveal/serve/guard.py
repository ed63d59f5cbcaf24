"""Guard: for every request a time limit, checks, headers and counters, and one form of answer for errors.

An error has the same code as on the command line. The counters, for Prometheus at /metrics, name no photographs.
"""

import asyncio
import hmac
import logging
import signal
import threading
import time
import tomllib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import h11
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from uvicorn.protocols.http.h11_impl import H11Protocol

from foveal.errors import FovealError
from foveal.serve.options import LOCAL, ServeConfig

LOG = logging.getLogger("uvicorn.error")  # uvicorn writes it to stderr
_KNOWN: dict[str, Any] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
HEADERS, STATUS, HEADERS_OF = _KNOWN["headers"], _KNOWN["status"], _KNOWN["headers_of"]
SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
MOST_CAMERAS = 20
BATCHES = (1, 2, 4, 8, 16, 32, 64)


class Counters:
    """The counters of one server."""

    def __init__(self) -> None:
        own, self._cameras = CollectorRegistry(), set[str]()
        counter, histogram = partial(Counter, registry=own), partial(Histogram, registry=own)
        text, labels = "Seconds from a request to its answer", ("route", "status")
        self.requests = histogram("foveal_request_seconds", text, labels, buckets=SECONDS)
        text = "Photographs by answer: a grade, ungradable or unreadable"
        self.answers = counter("foveal_answers", text, ("answer",))
        text = "Photographs by camera, decision, and whether unlike the training photographs"
        self.cases = counter("foveal_cases", text, ("camera", "decision", "unlike"))
        self.reviews = counter("foveal_reviews", "Saved reviews", ("agrees",))
        self.second = counter("foveal_second", "Photographs by what the second grader said", ("outcome",))
        self.batches = histogram("foveal_batch_images", "Photographs in one pass of the network", buckets=BATCHES)
        self.network = histogram("foveal_network_seconds", "Seconds of a pass through the network", buckets=SECONDS)
        self.in_work, self.registry = Gauge("foveal_in_work", "Photographs being graded", registry=own), own

    def count(self, answer: dict[str, Any]) -> None:
        """Count one answer. Only the first cameras have a name: a header may say anything."""
        camera = answer["camera"] or "unknown"
        if len(self._cameras) < MOST_CAMERAS:
            self._cameras.add(camera)
        self.answers.labels(answer["answer"] if answer["grade"] is None else str(answer["grade"])).inc()
        decision = {True: "refer", False: "no referral"}.get(answer["referable"], answer["answer"])
        unlike = "yes" if answer["unlike"] else "no"
        self.cases.labels(camera if camera in self._cameras else "others", decision, unlike).inc()


def add_guard(app: FastAPI, counters: Counters, config: ServeConfig) -> None:
    """Check the host and the token, answer every error alike, and set headers on every response."""

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        began = time.perf_counter()
        try:
            _check_sender(request, config)
            answer: Response = await call_next(request)
        except Exception as error:  # noqa: BLE001  one request fails, the server keeps running
            answer = response(error)
        answer.headers.update(HEADERS)
        if request.url.path.startswith("/v1/"):
            answer.headers["Cache-Control"] = "no-store"
        route = getattr(request.scope.get("route"), "path", "other")
        counters.requests.labels(route, str(answer.status_code)).observe(time.perf_counter() - began)
        return answer

    async def refused(request: Request, error: Exception) -> Response:
        return response(error)

    for kind in (FovealError, RequestValidationError, HTTPException, ClientDisconnect):
        app.add_exception_handler(kind, refused)


def _check_sender(request: Request, config: ServeConfig) -> None:
    """FovealError if the host or the token is not that of this server."""
    if config.host in LOCAL and not _is_local(request.headers.get("host", "")):
        # Prevents DNS rebinding: a web page whose host name points to this machine could read the answers.
        fix = f"open http://127.0.0.1:{config.port}, or start the server with --host"
        raise FovealError("request.wrong_host", "this server answers requests for this machine only", fix=fix)
    if config.token and request.url.path.startswith("/v1/"):
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        # Starlette decodes headers as Latin-1. A token may come as UTF-8, as from the page, or as Latin-1.
        given = given.strip(" \t")  # no other white space: it may be a byte of a letter
        same = [hmac.compare_digest(form, config.token.encode()) for form in (given.encode("latin-1"), given.encode())]
        if scheme.lower() != "bearer" or not any(same):
            fix = "send the header Authorization: Bearer TOKEN"
            raise FovealError("request.token", "the token is missing or wrong", fix=fix)


def _is_local(host: str) -> bool:
    try:
        return urlsplit(f"//{host}").hostname in LOCAL
    except ValueError:
        return False


def response(error: Exception) -> JSONResponse:
    """The error as JSON, with the status and headers of its code; by default 422 for images and 400 for others."""
    told = told_of(error)
    body = {"code": told.code, "what": told.what, "expected": told.expected, "fix": told.fix}
    status, headers = STATUS.get(told.code, 422 if told.subject == "image" else 400), HEADERS_OF.get(told.code, {})
    if isinstance(error, HTTPException):
        status, headers = error.status_code, dict(error.headers or {})
    if told.retry_after is not None:
        headers = {"Retry-After": str(told.retry_after)}
    return JSONResponse({"error": body}, status, headers=headers)


def told_of(error: Exception) -> FovealError:
    """What a client is told about an error; an unexpected one is written to the log."""
    if isinstance(error, FovealError):
        return error
    if isinstance(error, RequestValidationError | ValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query"))
        what = f"{where}: {first['msg']}" if where else str(first["msg"])
        return FovealError("request.invalid", what, fix="see /docs for the fields and their types")
    if isinstance(error, HTTPException):
        code = {404: "request.not_found", 405: "request.wrong_method"}.get(error.status_code, "request.refused")
        return FovealError(code, str(error.detail), fix="see /docs for the addresses")
    if isinstance(error, ClientDisconnect):
        return FovealError("request.gone", "the client disconnected before the request was complete")
    LOG.error("a request failed", exc_info=error)
    return FovealError("server.failed", "the server failed on this request", fix="see its log")


class Hurried(H11Protocol):
    """uvicorn's HTTP/1.1 with a time limit for slow clients.

    uvicorn waits forever for the end of the headers of a request, and for the rest of a refused body. Here both must
    arrive within the keep-alive time. (With limit_concurrency, slow clients would keep all others out.)
    """

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the first request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Receive some bytes; they do not restart the timer."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop()
        super().connection_lost(exc)

    def _watch(self) -> None:
        answered = self.cycle is not None and self.cycle.response_complete
        if self.conn.their_state is not h11.IDLE and not answered:
            self._stop()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(self.timeout_keep_alive, self._cut)

    def _stop(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _cut(self) -> None:
        self._waiting = None
        self.transport.close()


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Exit with code 0 on SIGTERM and SIGINT: uvicorn shuts down cleanly, but then raises the signal again."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
