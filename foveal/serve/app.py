"""App: the addresses of the server; docs/serve.md says what they mean."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import jinja2
from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

import foveal
from foveal.data.corrections import corrections_text
from foveal.serve.answers import Wanted
from foveal.serve.body import ReviewBody, review_of, review_to
from foveal.serve.intake import Sent, read_photographs
from foveal.serve.options import LOCAL, ServeConfig
from foveal.serve.problems import RequestError, unreadable
from foveal.serve.reviews import Reviews
from foveal.serve.work import Work

HERE = Path(__file__).parent
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
}
# FastAPI's page of the API loads its scripts from elsewhere; it is for developers, and shows no photograph.
WITHOUT_POLICY = ("/docs", "/openapi.json")
PHOTOGRAPHS = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {"images": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            },
            **{
                kind: {"schema": {"type": "string", "format": "binary"}}
                for kind in ("image/jpeg", "image/png", "application/dicom")
            },
        },
    }
}


def create_app(work: Work, config: ServeConfig, about: dict[str, Any], reviews: Reviews | None) -> FastAPI:
    """The server for one model; `about` is what GET /v1/model says."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.ready = True
        yield
        app.state.ready = False
        work.close()
        if reviews is not None:
            reviews.close()

    app = FastAPI(
        title="Foveal",
        version=foveal.__version__,
        description="Grades photographs of the retina. Research use; not a medical device.",
        lifespan=lifespan,
        redoc_url=None,
    )
    if config.local:  # a page elsewhere must not reach this server under a name of its own
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*LOCAL, "testserver"])
    _add_guard(app, work, config)
    _add_errors(app)
    _add_grading(app, work, config, about)
    _add_reviews(app, work, about, reviews)
    _add_page(app, work, about)
    return app


def _add_guard(app: FastAPI, work: Work, config: ServeConfig) -> None:
    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        began = time.perf_counter()
        path = request.url.path
        if config.token and path.startswith("/v1/") and not _allowed(request, config.token):
            problem = RequestError(
                401, "token", "the token is missing or wrong", "send the header Authorization: Bearer TOKEN",
                {"WWW-Authenticate": "Bearer"},
            )  # fmt: skip
            response: Response = problem.response()
        else:
            response = await call_next(request)
        response.headers.update(HEADERS)
        if path.startswith("/v1/"):
            response.headers["Cache-Control"] = "no-store"
        if path not in WITHOUT_POLICY:
            response.headers["Content-Security-Policy"] = POLICY
        route = getattr(request.scope.get("route"), "path", "other")
        work.counters.requests.labels(route, str(response.status_code)).observe(time.perf_counter() - began)
        return response


def _allowed(request: Request, token: str) -> bool:
    given = request.headers.get("authorization", "").partition(" ")
    return given[0].lower() == "bearer" and hmac.compare_digest(given[2].strip().encode(), token.encode())


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestError)
    async def refused(request: Request, error: RequestError) -> JSONResponse:
        return error.response()

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query"))
        said = f"{where}: {first['msg']}" if where else str(first["msg"])
        return RequestError(422, "invalid", said, "see /docs for what is expected").response()

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        code = {404: "not_found", 405: "wrong_method"}.get(error.status_code, "refused")
        return RequestError(error.status_code, code, str(error.detail), "see /docs for the addresses").response()

    @app.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> JSONResponse:
        return RequestError(500, "failed", "the server failed on this request", "see its log").response()


def _add_grading(app: FastAPI, work: Work, config: ServeConfig, about: dict[str, Any]) -> None:
    pages = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True)

    @app.post("/v1/grade", openapi_extra=PHOTOGRAPHS)
    async def grade(request: Request, pictures: bool = False, similar: bool = False) -> dict[str, Any]:
        """Grade one or many photographs."""
        photographs = await read_photographs(request, config)
        answers = await work.grade(photographs, Wanted(pictures, similar))
        _refuse_unreadable(answers)
        return {"model": about["name"], "answers": answers}

    @app.post("/v1/report", response_class=HTMLResponse, openapi_extra=PHOTOGRAPHS)
    async def report(request: Request, language: Literal["en", "zh"] = "en") -> HTMLResponse:
        """Grade one photograph; a page to print."""
        photographs: list[Sent] = await read_photographs(request, config)
        answers = await work.grade(photographs[:1], Wanted(pictures=True))
        _refuse_unreadable(answers)
        words = json.loads((HERE / "static" / f"words.{language}.json").read_text(encoding="utf-8"))
        page = pages.get_template("report.html").render(
            words=words, answer=answers[0], model=about, record=about["record"],
            when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )  # fmt: skip
        name = f"report-{answers[0]['sha256'][:12]}.html"
        return HTMLResponse(page, headers={"Content-Disposition": f'attachment; filename="{name}"'})

    @app.get("/v1/model")
    def model() -> dict[str, Any]:
        """What grades here, and how good it was."""
        return about


def _refuse_unreadable(answers: list[dict[str, Any]]) -> None:
    if len(answers) == 1 and answers[0]["answer"] == "unreadable":
        raise unreadable(answers[0]["reason"])


def _add_reviews(app: FastAPI, work: Work, about: dict[str, Any], reviews: Reviews | None) -> None:
    def store() -> Reviews:
        if reviews is None:
            raise RequestError(404, "no_reviews", "this server keeps no reviews", "start it without --reviews none")
        return reviews

    @app.post("/v1/reviews", status_code=201)
    async def review(body: ReviewBody) -> dict[str, Any]:
        """Confirm or correct a grade; answered once it is on the disk."""
        kept = await run_in_threadpool(_told, store().add, review_of(body, about))
        work.counters.reviews.labels("yes" if kept.given == kept.grade else "no").inc()
        return review_to(kept)

    @app.get("/v1/reviews")
    async def listed(limit: int = Query(100, ge=1, le=1000), offset: int = Query(0, ge=0)) -> dict[str, Any]:
        """Reviews, the newest first."""
        total, found = await run_in_threadpool(_told, store().latest, limit, offset)
        return {"total": total, "reviews": [review_to(one) for one in found]}

    @app.get("/v1/reviews/corrections.csv")
    async def corrections(all: bool = False) -> Response:
        """A row per image where a person disagreed, with `all` also where they agreed."""
        table = await run_in_threadpool(_told, store().corrections, all)
        headers = {"Content-Disposition": 'attachment; filename="corrections.csv"'}
        return Response(corrections_text(table).encode(), media_type="text/csv; charset=utf-8", headers=headers)


def _told(work: Callable[..., Any], *given: Any) -> Any:
    """Call what the reviews can do; what they refuse, and a database that fails, becomes a `RequestError`."""
    try:
        return work(*given)
    except ValueError as error:
        raise RequestError(422, "invalid", str(error), "correct it and send it again") from None
    except OSError as error:
        said = f"the database of reviews failed: {error}"
        raise RequestError(503, "database", said, "send it again in a moment", {"Retry-After": "5"}) from None


def _add_page(app: FastAPI, work: Work, about: dict[str, Any]) -> None:
    pages = jinja2.Environment(loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> HTMLResponse:
        names = {key: about[key] for key in ("notice", "version", "name")}
        return HTMLResponse(pages.get_template("page.html").render(**names))

    @app.get("/healthz")
    def health() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "ok"}

    @app.get("/readyz")
    def ready() -> dict[str, str]:
        """Whether it takes photographs."""
        if not getattr(app.state, "ready", False):
            raise RequestError(503, "not_ready", "the server is starting or ending", "ask again in a moment")
        return {"status": "ready"}

    @app.get("/metrics", include_in_schema=False)
    def metrics() -> Response:
        return Response(work.counters.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
