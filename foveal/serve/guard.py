"""Guard: what holds at every address: host, token, headers, a structured error for whatever goes wrong, counters."""

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

from foveal.serve.counters import Counters
from foveal.serve.options import LOCAL, ServeConfig
from foveal.serve.problems import LOG, RequestError, invalid

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
    """Refuse who may not ask, and give every response its headers, those of failures, too."""

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        began = time.perf_counter()
        refused = _refusal(request, config)
        try:
            response: Response = await call_next(request) if refused is None else refused.response()
        except Exception:  # noqa: BLE001  one request fails, the server goes on
            LOG.exception("a request failed")
            response = RequestError(500, "failed", "the server failed on this request", "see its log").response()
        response.headers.update(HEADERS)
        if request.url.path.startswith("/v1/"):
            response.headers["Cache-Control"] = "no-store"
        route = getattr(request.scope.get("route"), "path", "other")
        counters.requests.labels(route, str(response.status_code)).observe(time.perf_counter() - began)
        return response


def _refusal(request: Request, config: ServeConfig) -> RequestError | None:
    if config.local and not _is_local(request.headers.get("host", "")):
        # A page from elsewhere whose name leads to this machine could otherwise read what is answered here.
        said = "this server answers this machine only, and the request is for a host of another name"
        return RequestError(400, "wrong_host", said, f"ask for http://127.0.0.1:{config.port}, or start it with --host")
    if config.token and request.url.path.startswith("/v1/") and not _allowed(request, config.token):
        return RequestError(
            401, "token", "the token is missing or wrong", "send the header Authorization: Bearer TOKEN",
            {"WWW-Authenticate": "Bearer"},
        )  # fmt: skip
    return None


def _is_local(host: str) -> bool:
    try:
        return urlsplit(f"//{host}").hostname in LOCAL
    except ValueError:
        return False


def _allowed(request: Request, token: str) -> bool:
    given = request.headers.get("authorization", "").partition(" ")
    # Headers are bytes, which Starlette reads as Latin-1: a token comes as UTF-8, as from the page, or a byte a letter.
    sent = given[2].strip(" \t")  # and no more: what Python takes for white space may be a byte of a letter
    same = [hmac.compare_digest(form, token.encode()) for form in (sent.encode("latin-1"), sent.encode())]
    return given[0].lower() == "bearer" and any(same)


def add_errors(app: FastAPI) -> None:
    """Answer what goes wrong before or in an address as the contract has it."""

    @app.exception_handler(RequestError)
    async def refused(request: Request, error: RequestError) -> Response:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def not_valid(request: Request, error: RequestValidationError) -> Response:
        return invalid(error.errors()[0]).response()

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "wrong_method"}.get(error.status_code, "refused")
        headers = dict(error.headers or {})
        return RequestError(
            error.status_code, code, str(error.detail), "see /docs for the addresses", headers
        ).response()

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return RequestError(400, "gone", "the client left before its request was whole", "send it again").response()
