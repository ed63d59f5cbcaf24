"""App: the addresses of the server, as documented in docs/reference/api.md and listed at /docs."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, Response
from fastapi.staticfiles import StaticFiles
from prometheus_client import generate_latest

from foveal.errors import FovealError
from foveal.page.render import render
from foveal.serve.guard import add_guard
from foveal.serve.origin import printed_of
from foveal.serve.reviews import AskedBody, ReviewBody, Reviews, Store, read_body, read_review
from foveal.serve.work import Work, refuse_unreadable
from foveal.serve.worklist import Worklist
from foveal.sets.corrections import corrections_text
from foveal.version import VERSION

HERE = Path(__file__).parent
ABOUT = "Grades photographs of the retina. Research use; not a medical device."
FILE: dict[str, Any] = {"type": "string", "format": "binary"}
FORM = {"type": "object", "properties": {"images": {"type": "array", "items": FILE}}}
MOST_OF_USER = 200  # characters
KINDS = {"multipart/form-data": FORM, "image/jpeg": FILE, "image/png": FILE, "application/dicom": FILE}


def _body(kinds: dict[str, Any]) -> dict[str, Any]:
    """The entry of the OpenAPI document for a required body: media type -> schema."""
    return {"requestBody": {"required": True, "content": {kind: {"schema": kinds[kind]} for kind in kinds}}}


def create_app(work: Work, about: dict[str, Any], reviews: Reviews | None, worklist: Worklist | None) -> FastAPI:
    """The server for one model; `about` is the answer of GET /v1/model."""
    store = Store(reviews, work.limits.timeout)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.ready, app.state.second = True, work.second
        yield
        app.state.ready = False
        if work.second is not None:
            await work.second.finish()
        work.close()
        store.close()

    # Without FastAPI's own pages of documentation, which load scripts from other sites.
    app = FastAPI(title="Foveal", version=VERSION, description=ABOUT, lifespan=lifespan, docs_url=None, redoc_url=None)
    add_guard(app, work.counters, work.config)
    _add_grading(app, work, about, store)
    _add_reviews(app, work, about, store)
    if worklist is not None:
        _add_worklist(app, worklist, store)
    _add_pages(app, work, about)
    return app


def _add_grading(app: FastAPI, work: Work, about: dict[str, Any], store: Store) -> None:
    @app.post("/v1/grade", openapi_extra=_body(KINDS))
    async def grade(request: Request, pictures: bool = False, similar: bool = False) -> dict[str, Any]:
        """Grade one or many photographs."""
        async with work.photographs(request) as photographs:
            answers = await work.grade(photographs, pictures, similar)
        reviewed = await store.reviewed(answers, about, store.urgent)
        shown = ["pictures"] * pictures + ["similar"] * similar
        await store.log([_line(request, about, answer, shown) for answer in answers])
        refuse_unreadable(answers)
        if work.second is not None:
            work.second.compare(photographs, answers, store.log)
        return {"model": about["name"], "key": about["key"], "answers": reviewed}

    @app.post("/v1/report", response_class=HTMLResponse, openapi_extra=_body(KINDS))
    async def report(request: Request, language: Literal["en", "zh"] = "en") -> HTMLResponse:
        """Grade one photograph and return a page to print."""
        async with work.photographs(request) as photographs:
            if len(photographs) > 1:
                what, fix = "a report is about one photograph", "request one report for each"
                raise FovealError("request.too_many", what, fix=fix)
            (answer,) = await work.grade(photographs, pictures=True)
            printed = await asyncio.to_thread(printed_of, photographs[0])
        await store.log([_line(request, about, answer, ["pictures", "report"])])
        refuse_unreadable([answer])
        (answer,) = await store.reviewed([answer], about, store.urgent)
        words = json.loads((HERE / "static" / f"words.{language}.json").read_text(encoding="utf-8"))
        when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
        given = {"answer": answer, "printed": printed, "model": about, "record": about["record"], "when": when}
        page = render("sheet.html", words=words, **given)
        name = f"report-{answer['sha256'][:12]}.html"
        return HTMLResponse(page, headers={"Content-Disposition": f'attachment; filename="{name}"'})

    @app.get("/v1/model")
    async def model() -> dict[str, Any]:
        """Which model this server uses, and how good it is."""
        return about


def _line(request: Request, about: dict[str, Any], answer: dict[str, Any], shown: list[str]) -> dict[str, Any]:
    """The content of the log for one answer; shown: what the page got with the grade."""
    told = {name: value for name, value in answer.items() if name not in ("sha256", "picture", "heat", "similar")}
    told["similar"] = [case["id"] for case in answer.get("similar", ())]
    model = {"model": about["name"], "key": about["key"], "shown": shown, "image": answer["sha256"]}
    return {"kind": "answer"} | _sender(request) | model | told


def _sender(request: Request) -> dict[str, Any]:
    """Who sent a request: the address, and the user whom a reverse proxy names."""
    client = "" if request.client is None else request.client.host
    return {"client": client, "user": request.headers.get("x-forwarded-user", "")[:MOST_OF_USER]}


def _add_reviews(app: FastAPI, work: Work, about: dict[str, Any], store: Store) -> None:
    @app.post("/v1/reviews", status_code=201, openapi_extra=_body({"application/json": ReviewBody.model_json_schema()}))
    async def review(request: Request) -> dict[str, Any]:
        """Confirm or correct a grade; answers once the review is on disk."""
        sent = await read_review(request, about, work.limits.timeout)
        refers_by = await store.run(Reviews.check, sent, about["key"])
        kept = await store.run(Reviews.add, sent, _sender(request))
        if work.kept is not None:
            await store.run(work.kept.label, kept.image)
        work.counters.reviews.labels("yes" if kept.given == kept.grade else "no").inc()
        (told,) = await store.reviewed([{"sha256": kept.image, "refers_by": refers_by}], about)
        return asdict(kept) | {"decision": told["decision"]}

    @app.post("/v1/reviews/current", openapi_extra=_body({"application/json": AskedBody.model_json_schema()}))
    async def current(request: Request) -> dict[str, Any]:
        """The `review` and `decision` that POST /v1/grade would give now with each of these answers, by digest."""
        asked = await read_body(request, AskedBody, about["key"], work.limits.timeout)
        answers = [{"sha256": digest, "refers_by": cause} for digest, cause in asked.answers.items()]
        return {"answers": {told.pop("sha256"): told for told in await store.reviewed(answers, about)}}

    @app.get("/v1/reviews")
    async def listed(
        limit: int = Query(100, ge=1, le=1000), offset: int = Query(0, ge=0), search: str = Query("", max_length=400)
    ) -> dict[str, Any]:
        """Reviews, newest first; with `search`, those with this text in the name, the reviewer or the note."""
        total, found = await store.run(Reviews.latest, limit, offset, search)
        return {"total": total, "reviews": [asdict(one) for one in found]}

    @app.get("/v1/reviews/corrections.csv")
    async def corrections() -> Response:
        """The newest review of each reviewer of each image, as `foveal correct --reviews` reads it."""
        table = await store.run(Reviews.table)
        headers = {"Content-Disposition": 'attachment; filename="reviews.csv"'}
        return Response(corrections_text(table).encode(), media_type="text/csv; charset=utf-8", headers=headers)


def _add_worklist(app: FastAPI, worklist: Worklist, store: Store) -> None:
    @app.get("/v1/worklist")
    async def photographs() -> dict[str, Any]:
        """The photographs of the worklist, in order."""
        return {"photographs": await asyncio.to_thread(worklist.listed, await store.run(Reviews.images))}

    @app.get("/v1/worklist/{rank}")
    async def photograph(rank: int) -> Response:
        """One photograph of the worklist."""
        return Response(await asyncio.to_thread(worklist.photograph, rank), media_type="application/octet-stream")


def _add_pages(app: FastAPI, work: Work, about: dict[str, Any]) -> None:
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page() -> HTMLResponse:
        return HTMLResponse(render("page.html", **{key: about[key] for key in ("notice", "version", "name")}))

    @app.get("/docs", response_class=HTMLResponse, include_in_schema=False)
    def documents() -> HTMLResponse:
        return HTMLResponse(render("api.html", api=app.openapi(), token=bool(work.config.token)))

    # These need no thread, so that they answer while all threads are busy.

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
        return Response(generate_latest(work.counters.registry), media_type="text/plain; version=0.0.4; charset=utf-8")
