"""App: the addresses of the server, as documented in docs/serve.md and listed at /docs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles

from foveal.errors import FovealError
from foveal.page.render import render
from foveal.serve.guard import add_errors, add_guard, unreadable
from foveal.serve.intake import Sent, read_photographs
from foveal.serve.options import Limits, ServeConfig
from foveal.serve.review_requests import ReviewBody, Store, read_review, review_of, review_to
from foveal.serve.reviews import Reviews
from foveal.serve.work import Wanted, Work
from foveal.sets.corrections import corrections_text
from foveal.version import VERSION

HERE = Path(__file__).parent
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
REVIEW = {
    "requestBody": {"required": True, "content": {"application/json": {"schema": ReviewBody.model_json_schema()}}}
}


def create_app(
    work: Work, config: ServeConfig, limits: Limits, about: dict[str, Any], reviews: Reviews | None
) -> FastAPI:  # fmt: skip
    """The server for one model; `about` is the answer of GET /v1/model."""
    store = Store(reviews, limits.timeout)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.ready = True
        yield
        app.state.ready = False
        work.close()
        store.close()

    app = FastAPI(
        title="Foveal",
        version=VERSION,
        description="Grades photographs of the retina. Research use; not a medical device.",
        lifespan=lifespan,
        docs_url=None,  # FastAPI's own page loads scripts from other sites
        redoc_url=None,
    )
    add_guard(app, work.counters, config)
    add_errors(app)
    _add_grading(app, work, limits, about)
    _add_reviews(app, work, about, store, limits)
    _add_page(app, work, about, needs_token=bool(config.token))
    return app


def _add_grading(app: FastAPI, work: Work, limits: Limits, about: dict[str, Any]) -> None:
    @asynccontextmanager
    async def taken(request: Request) -> AsyncIterator[list[Sent]]:
        with work.room.request() as hold:
            with work.batcher.place(1):
                pass  # if the queue is full, refuse before reading the body
            # Hold no place while the body arrives, or slow clients would block all others. `hold` limits the memory.
            photographs = await read_photographs(request, limits, hold)
            yield photographs

    @app.post("/v1/grade", openapi_extra=PHOTOGRAPHS)
    async def grade(request: Request, pictures: bool = False, similar: bool = False) -> dict[str, Any]:
        """Grade one or many photographs."""
        async with taken(request) as photographs:
            answers = await work.grade(photographs, Wanted(pictures, similar))
        _refuse_unreadable(answers)
        return {"model": about["name"], "key": about["key"], "answers": answers}

    @app.post("/v1/report", response_class=HTMLResponse, openapi_extra=PHOTOGRAPHS)
    async def report(request: Request, language: Literal["en", "zh"] = "en") -> HTMLResponse:
        """Grade one photograph and return a page to print."""
        async with taken(request) as photographs:
            if len(photographs) > 1:
                what, fix = "a report is about one photograph", "request one report for each"
                raise FovealError("request.too_many", what, fix=fix)
            answers = await work.grade(photographs, Wanted(pictures=True))
        _refuse_unreadable(answers)
        words = json.loads((HERE / "static" / f"words.{language}.json").read_text(encoding="utf-8"))
        page = render(
            "sheet.html",
            words=words, answer=answers[0], model=about, record=about["record"],
            when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )  # fmt: skip
        name = f"report-{answers[0]['sha256'][:12]}.html"
        return HTMLResponse(page, headers={"Content-Disposition": f'attachment; filename="{name}"'})

    @app.get("/v1/model")
    async def model() -> dict[str, Any]:
        """Which model this server uses, and how good it is."""
        return about


def _refuse_unreadable(answers: list[dict[str, Any]]) -> None:
    if len(answers) == 1 and answers[0]["answer"] == "unreadable":
        raise unreadable(answers[0]["code"], answers[0]["reason"])


def _add_reviews(
    app: FastAPI, work: Work, about: dict[str, Any], store: Store, limits: Limits
) -> None:  # fmt: skip
    @app.post("/v1/reviews", status_code=201, openapi_extra=REVIEW)
    async def review(request: Request) -> dict[str, Any]:
        """Confirm or correct a grade; answers once the review is on disk."""
        body = await read_review(request, limits.timeout)
        kept = await store.add(review_of(body, about))
        work.counters.reviews.labels("yes" if kept.given == kept.grade else "no").inc()
        return review_to(kept)

    @app.get("/v1/reviews")
    async def listed(limit: int = Query(100, ge=1, le=1000), offset: int = Query(0, ge=0)) -> dict[str, Any]:
        """Reviews, newest first."""
        total, found = await store.latest(limit, offset)
        return {"total": total, "reviews": [review_to(one) for one in found]}

    @app.get("/v1/reviews/corrections.csv")
    async def corrections(all: bool = False) -> Response:
        """A row for each corrected image; with `all`, also for confirmed images."""
        table = await store.corrections(all)
        headers = {"Content-Disposition": 'attachment; filename="corrections.csv"'}
        return Response(corrections_text(table).encode(), media_type="text/csv; charset=utf-8", headers=headers)


def _add_page(app: FastAPI, work: Work, about: dict[str, Any], *, needs_token: bool) -> None:
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> HTMLResponse:
        names = {key: about[key] for key in ("notice", "version", "name")}
        return HTMLResponse(render("page.html", **names))

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    def documents() -> HTMLResponse:
        return HTMLResponse(render("api.html", api=app.openapi(), token=needs_token))

    # These three need no thread, so they answer while all threads are busy.
    @app.get("/healthz")
    async def health() -> dict[str, str]:
        """Whether the process is running."""
        return {"status": "ok"}

    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        """Whether the server accepts photographs."""
        if not getattr(app.state, "ready", False):
            raise FovealError("server.not_ready", "the server is starting or stopping", fix="try again in a moment")
        return {"status": "ready"}

    @app.get("/metrics", include_in_schema=False)
    async def metrics() -> Response:
        return Response(work.counters.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
