"""Guard: for every address, host and token checks, headers, structured errors and counters."""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from foveal.errors import FovealError
from foveal.serve.counters import Counters
from foveal.serve.options import LOCAL, ServeConfig
from foveal.serve.problems import LOG, invalid, response

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def add_guard(app: FastAPI, counters: Counters, config: ServeConfig) -> None:
    """Check the host and the token, and set headers on every response, including errors."""

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        began = time.perf_counter()
        refused = _refusal(request, config)
        try:
            answer: Response = await call_next(request) if refused is None else response(refused)
        except Exception:  # noqa: BLE001  one request fails, the server keeps running
            LOG.exception("a request failed")
            answer = response(FovealError("server.failed", "the server failed on this request", fix="see its log"))
        answer.headers.update(HEADERS)
        if request.url.path.startswith("/v1/"):
            answer.headers["Cache-Control"] = "no-store"
        route = getattr(request.scope.get("route"), "path", "other")
        counters.requests.labels(route, str(answer.status_code)).observe(time.perf_counter() - began)
        return answer


def _refusal(request: Request, config: ServeConfig) -> FovealError | None:
    if config.local and not _is_local(request.headers.get("host", "")):
        # Prevents DNS rebinding: a web page whose host name points to this machine could read the answers.
        what = "this server answers requests for this machine only"
        fix = f"open http://127.0.0.1:{config.port}, or start the server with --host"
        return FovealError("request.wrong_host", what, fix=fix)
    if config.token and request.url.path.startswith("/v1/") and not _allowed(request, config.token):
        fix = "send the header Authorization: Bearer TOKEN"
        return FovealError("request.token", "the token is missing or wrong", fix=fix)
    return None


def _is_local(host: str) -> bool:
    try:
        return urlsplit(f"//{host}").hostname in LOCAL
    except ValueError:
        return False


def _allowed(request: Request, token: str) -> bool:
    given = request.headers.get("authorization", "").partition(" ")
    # Starlette decodes headers as Latin-1. A token may come as UTF-8, as from the page, or as Latin-1.
    sent = given[2].strip(" \t")  # no other white space: it may be a byte of a letter
    same = [hmac.compare_digest(form, token.encode()) for form in (sent.encode("latin-1"), sent.encode())]
    return given[0].lower() == "bearer" and any(same)


def add_errors(app: FastAPI) -> None:
    """Answer every error with its code, what went wrong and how to fix it."""

    @app.exception_handler(FovealError)
    async def refused(request: Request, error: FovealError) -> Response:
        return response(error)

    @app.exception_handler(RequestValidationError)
    async def not_valid(request: Request, error: RequestValidationError) -> Response:
        return response(invalid(error.errors()[0]))

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        code = {404: "request.not_found", 405: "request.wrong_method"}.get(error.status_code, "request.refused")
        answer = response(FovealError(code, str(error.detail), fix="see /docs for the addresses"))
        answer.status_code = error.status_code
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return response(FovealError("request.gone", "the client disconnected before the request was complete"))
