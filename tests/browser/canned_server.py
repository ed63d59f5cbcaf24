"""The server's contract with canned answers, so that its page can be tested without a trained grader.

What is sent decides the answer: bytes that are no picture cannot be read, a black picture is ungradable, and the rest
gets a grade by the sum of its pixels, with a drawn photograph and a drawn map.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles

from foveal.fundus.quality import FLAGS, advice_of
from foveal.page.render import render
from foveal.predict.model import set_ungradable
from foveal.serve.reviews import Review, decision_of
from foveal.sources.cards import ICDR
from foveal.sources.phantom import draw_phantom

SERVE = Path(__file__).parents[2] / "foveal" / "serve"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
MODEL: dict[str, Any] = {
    "name": "grader", "key": "0" * 64, "kind": "run", "classes": list(ICDR), "scale": "icdr", "referable_from": 2,
    "referral": {"threshold": 0.03, "least": 0.9}, "reads": {"side": 352},
    "overlay": True, "maps_failed": False, "similar": True, "reviews": True, "keeps_images": False,
    "limits": {"images": 16, "bytes": 64 * 10**6, "pixels": 50_000_000},
    "record": [
        {"name": "quadratic_kappa", "value": 0.743, "low": 0.68, "high": 0.795, "n": 1294},
        {"name": "referable_auc", "value": 0.921, "low": 0.891, "high": 0.955, "n": 1294},
    ],
    "version": "0.2.0", "notice": "Research use; not a medical device.",
}  # fmt: skip
PROBABILITIES = [
    [0.86, 0.1, 0.03, 0.01, 0.0], [0.22, 0.55, 0.2, 0.02, 0.01], [0.05, 0.2, 0.62, 0.11, 0.02],
    [0.02, 0.06, 0.41, 0.38, 0.13], [0.0, 0.01, 0.07, 0.22, 0.7],
]  # fmt: skip
GRADES = [0, 1, 2, 3, 4]
SETS = [[0], [0, 1, 2], [1, 2], [2, 3, 4], [4]]
BLACK = ("no-disc", "not-a-retina", "too-dark")  # flags of a black picture; with the first two there is no grade
UNREADABLE = {
    "code": "image.damaged",
    "what": "this file cannot be read as a photograph",
    "fix": "send a JPEG, PNG, TIFF or DICOM file that opens elsewhere",
}


def jpeg(image: np.ndarray) -> bytes:
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()


def as_address(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def photograph(grade: int, seed: int, side: int = 256) -> np.ndarray:
    """A drawn photograph of 4 to 3, as cameras make them: uint8 [side, side * 4 / 3, 3]."""
    image = draw_phantom(grade, "left" if seed % 2 else "right", side, np.random.default_rng(seed)).image
    edge = side // 6
    return cv2.copyMakeBorder(image, 0, 0, edge, edge, cv2.BORDER_CONSTANT, value=(0, 0, 0))


def heat_map(seed: int, height: int, width: int) -> bytes:
    """A drawn map: a few warm clouds on nothing, RGBA."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / height
    clouds = np.zeros((height, width))
    for _ in range(4):
        centre, reach = generator.uniform((0.4, 0.25), (0.95, 0.75)), generator.uniform(0.05, 0.13)
        clouds += np.exp(-((x - centre[0]) ** 2 + (y - centre[1]) ** 2) / (2 * reach**2))
    level = (255 * np.clip(clouds, 0, 1)).astype(np.uint8)
    colours = cv2.applyColorMap(level, cv2.COLORMAP_VIRIDIS)
    return cv2.imencode(".png", np.dstack([colours, level]))[1].tobytes()


def flagged(*names: str) -> list[dict[str, Any]]:
    return [{"name": name, "meaning": FLAGS[name], "sides": []} for name in names]


def reason_of(*names: str) -> str:
    """Why a photograph with these flags has no grade, as `foveal predict` words it."""
    row = pd.DataFrame({"answer": ["graded"], "reason": "", "grade": 0, "referable": 0, "flags": " ".join(names)})
    return str(set_ungradable(row, BLACK[:2])["reason"].item())


def answer(name: str, data: bytes, side: int) -> dict[str, Any]:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    patient, _, eye = name.partition(".")[0].partition("_")  # as in 17_left.jpg and 17_unknown.jpg
    sides = {"left": "left", "right": "right", "unknown": ""}
    origin = {"patient": patient if eye in sides else "", "eye": sides.get(eye, "")}
    origin |= {"camera": "", "heat_at_border": "border" in name}
    about = {"name": name, "sha256": hashlib.sha256(data).hexdigest(), "advice": "", **origin}
    nothing = {
        "grade": None,
        "grade_name": None,
        "referable": None,
        "refers_by": None,
        "set": None,
        "coverage": None,
        "similar": [],
    }
    if image is None:
        return {**about, **nothing, "answer": "unreadable", "reason": UNREADABLE["what"], "probabilities": None,
                "flags": [], "width": 0, "height": 0, "picture": None, "heat": None}  # fmt: skip
    height, width = image.shape[:2]
    size = {"width": width, "height": height}
    if image.max() < 8:
        return {**about, **nothing, **size, "answer": "ungradable", "reason": reason_of(*BLACK),
                "advice": advice_of(BLACK),
                "probabilities": PROBABILITIES[0], "flags": flagged(*BLACK), "picture": as_address(jpeg(image), "jpeg"),
                "heat": None}  # fmt: skip
    seed = int(image.sum()) % 1000
    kind = seed % 5
    shown = photograph(GRADES[kind], seed, side)
    return {
        **about, **size, "answer": "graded", "reason": "", "grade": kind, "grade_name": ICDR[kind],
        "probabilities": PROBABILITIES[kind], "referable": kind >= 2 or "threshold" in name,
        "refers_by": "threshold" if kind < 2 and "threshold" in name else "grade",
        "set": GRADES if "any" in name else SETS[kind], "coverage": 0.9,
        "flags": flagged("blurred") if kind == 1 else [],
        "picture": as_address(jpeg(shown), "jpeg"),
        "heat": None if "flat" in name else as_address(heat_map(seed, *shown.shape[:2]), "png"),
        "similar": similar(kind, seed),
        "unlike": ["colour", "content"] if "other camera" in name else [],
    }  # fmt: skip


def similar(grade: int, seed: int) -> list[dict[str, Any]]:
    near = [(grade, 0.97), (grade, 0.94), (max(0, grade - 1), 0.91), (min(4, grade + 1), 0.88)]
    return [
        {"id": f"known-{seed}-{k}", "grade": other, "grade_name": ICDR[other], "similarity": share,
         "picture": as_address(jpeg(photograph(other, seed + 7 * k + 1, 96)), "jpeg")}
        for k, (other, share) in enumerate(near)
    ]  # fmt: skip


def refuse(status: int, error: dict[str, str]) -> JSONResponse:
    return JSONResponse({"error": error}, status)


def make_app(side: int = 256, stored: list[dict[str, Any]] | None = None, token: str | None = None) -> FastAPI:
    """The app; `side`: px of the photographs that it shows, `stored`: reviews that it begins with, oldest first."""
    app = FastAPI()
    reviews = [] if stored is None else stored

    def decision(image: str, refers_by: str | None = None) -> dict[str, Any] | None:
        newest: dict[str, Review] = {}
        for row in reviews:
            if row["image"] == image:
                newest.pop(row["reviewer"].lower(), None)
                newest[row["reviewer"].lower()] = Review(**row)
        return decision_of(list(newest.values()), MODEL["referable_from"], refers_by)

    def reviewed(given: dict[str, Any]) -> dict[str, Any]:
        newest = next((row for row in reviews[::-1] if row["image"] == given["sha256"]), None)
        return given | {"review": newest, "decision": decision(given["sha256"], given["refers_by"])}

    @app.middleware("http")
    async def guard(request: Request, call_next: Any) -> Any:
        given = request.headers.get("Authorization", "").encode("latin-1")
        allowed = token is None or given == f"Bearer {token}".encode()
        if request.url.path.startswith("/v1/") and not allowed:
            return refuse(
                401,
                {
                    "code": "request.token",
                    "what": "the token is missing or wrong",
                    "fix": "send the header Authorization: Bearer TOKEN",
                },
            )
        response = await call_next(request)
        response.headers["Content-Security-Policy"] = POLICY
        return response

    @app.get("/")
    def page() -> HTMLResponse:
        names = {key: MODEL[key] for key in ("notice", "version", "name")}
        return HTMLResponse(render("page.html", **names))

    @app.get("/v1/model")
    def model() -> dict[str, Any]:
        return MODEL

    @app.post("/v1/grade")
    async def grade(request: Request) -> Any:
        async with request.form() as form:
            answers = [reviewed(answer(part.filename, await part.read(), side)) for part in form.getlist("images")]
        if len(answers) == 1 and answers[0]["answer"] == "unreadable":
            return refuse(422, UNREADABLE)
        return {"model": MODEL["name"], "key": MODEL["key"], "answers": answers}

    @app.post("/v1/report")
    async def report(request: Request, language: str = "en") -> HTMLResponse:
        async with request.form() as form:
            given = reviewed(answer(form["images"].filename, await form["images"].read(), side))
        words = json.loads((SERVE / "static" / f"words.{language}.json").read_text(encoding="utf-8"))
        context = {
            "words": words,
            "answer": given,
            "printed": {"number": "", "date": ""},
            "model": MODEL,
            "record": MODEL["record"],
            "when": "24 Nov 2026",
        }
        return HTMLResponse(
            render("sheet.html", **context),
            headers={"Content-Disposition": "attachment; filename=report.html"},
        )

    @app.post("/v1/reviews", status_code=201)
    async def review(request: Request) -> Any:
        about = {"id": len(reviews) + 1, "when": datetime.now(UTC).isoformat(timespec="seconds")}
        given = await request.json()
        if given.pop("key") != MODEL["key"]:
            return refuse(409, {"code": "request.another_model", "what": "another model", "fix": "grade it again"})
        reviews.append({**about, "model": MODEL["name"], **given})
        return reviews[-1] | {"decision": decision(given["image"])}

    @app.post("/v1/reviews/current")
    async def current(request: Request) -> Any:
        given = await request.json()
        if given["key"] != MODEL["key"]:
            return refuse(409, {"code": "request.another_model", "what": "another model", "fix": "grade it again"})
        asked = [{"sha256": digest, "refers_by": cause} for digest, cause in given["answers"].items()]
        return {"answers": {told.pop("sha256"): told for told in map(reviewed, asked)}}

    @app.get("/v1/reviews")
    def listed(limit: int = 100, offset: int = 0, search: str = "") -> dict[str, Any]:
        found = [row for row in reviews[::-1] if search.lower() in f"{row['name']} {row['reviewer']}".lower()]
        return {"total": len(found), "reviews": found[offset : offset + limit]}

    @app.get("/v1/reviews/corrections.csv")
    def corrections() -> Response:
        text = io.StringIO()
        table = csv.writer(text)
        table.writerow(["id", "old", "new", "who", "when", "why", "file_sha256"])
        for row in reviews:
            table.writerow([row[key] for key in ("name", "given", "grade", "reviewer", "when", "note", "image")])
        return Response(text.getvalue(), media_type="text/csv")

    app.mount("/static", StaticFiles(directory=SERVE / "static"))
    return app


@contextmanager
def running(app: FastAPI, port: int = 0) -> Iterator[str]:
    """Serve the app from a thread, on a free port unless one is named; yields the address."""
    config = uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", ws="none", lifespan="off")
    server = uvicorn.Server(config)
    socket = config.bind_socket()
    thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        socket.close()
