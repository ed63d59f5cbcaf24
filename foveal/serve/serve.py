"""serve: a server with an API and a web page for a grader. It stores no photographs by default."""

from __future__ import annotations

import os
import socket
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveal.console import say, warn
from foveal.errors import FovealError, check_packages
from foveal.predict.model import ALL, Model
from foveal.predict.opened import Exported, open_model, record_of
from foveal.readout.scales import referable_from
from foveal.runs import failed_maps
from foveal.serve.options import LOCAL, Limits, ServeConfig
from foveal.version import VERSION

if TYPE_CHECKING:
    from fastapi import FastAPI

PACKAGES = ("fastapi", "uvicorn", "python_multipart", "sqlalchemy", "prometheus_client", "jinja2")
NOTICE = "Research use; not a medical device."
DEFAULTS = Limits()
PATIENCE = 20  # seconds to wait for a complete request, or for the rest of a refused one
SHOWN = "gradcam"  # what foveal explain calls the maps that a server shows
CLOSING_SECONDS = 30  # time for requests in progress when the server stops


def serve(config: ServeConfig) -> None:
    """Serve a grader until Ctrl-C or SIGTERM; requests in progress are answered first."""
    if config.host not in LOCAL and not config.token:
        warn(f"--host {config.host} without --token: anyone who can reach this machine can grade and read all reviews")
    with listen(config.host, config.port) as listening:  # first, to report a port in use before loading a model
        app = build_app(config)
        import uvicorn

        from foveal.serve.guard import Hurried, ended_by_signals

        options = uvicorn.Config(
            app, log_level="warning", http=Hurried, ws="none", server_header=False, timeout_keep_alive=PATIENCE,
            timeout_graceful_shutdown=CLOSING_SECONDS, h11_max_incomplete_event_size=1 << 16,
        )  # fmt: skip
        say(f"page: http://{config.host}:{listening.getsockname()[1]}   API: /docs   {NOTICE}")
        with ended_by_signals():
            uvicorn.Server(options).run(sockets=[listening])
    say("stopped")


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on this address; FovealError if that fails."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        what = f"the server cannot listen on {host}, port {port}: {error.strerror}"
        raise FovealError("server.port", what, fix="stop the other server or give another --port") from None


def build_app(config: ServeConfig, limits: Limits = DEFAULTS) -> FastAPI:
    """The app for a run or an exported file, warmed up; FovealError if something is missing."""
    check_packages("serve", "serve", *PACKAGES)
    from foveal.serve.app import create_app
    from foveal.serve.kept import folder_of
    from foveal.serve.reviews import open_reviews
    from foveal.serve.work import Work, open_cases
    from foveal.serve.worklist import read_worklist

    if config.keep_images is not None:
        _check_folder(folder_of(config.keep_images))
        warn(f"reviewed photographs are kept in {folder_of(config.keep_images)}, all others are deleted after a day")
    worklist = None if config.worklist is None else read_worklist(config.worklist)
    model = open_model(config.run, config.device, config.tta)
    second = None if config.second is None else open_model(config.second, config.device, config.tta)
    if second is not None and (second.classes, second.scale) != (model.classes, model.scale):
        what = f"--second {config.second} has different classes or a different scale than {config.run}"
        raise FovealError("option.conflict", what, fix="give a grader with the same scale")
    reviews = open_reviews(config.reviews_address) if config.reviews_address else None
    cases = None if config.cases is None else open_cases(config.cases, model)
    model.answer(model.blank(1), ALL)  # so that the first request is not slow
    say(f"{model.name}: {', '.join(model.classes)}")
    work = Work(model, config, limits, cases, second)
    if work.kept is not None and reviews is not None:
        work.kept.catch_up(reviews)
    about = describe(model, config, limits) | {"worklist": 0 if worklist is None else len(worklist.rows)}
    return create_app(work, about, reviews, worklist)


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        problem = "" if os.access(folder, os.W_OK | os.X_OK) else "this account cannot write to it"
    except FileExistsError:
        raise FovealError("output.exists", f"--keep-images {folder} is a file", expected="a folder") from None
    except OSError as error:
        problem = str(error.strerror)
    if problem:
        what = f"--keep-images {folder} cannot be used: {problem}"
        raise FovealError("output.unwritable", what, fix="give another folder")


def describe(model: Model, config: ServeConfig, limits: Limits) -> dict[str, Any]:
    """The answer of GET /v1/model."""
    record = model.about["record"] if isinstance(model, Exported) else record_of(config.run)
    kind = "exported" if isinstance(model, Exported) else "run"
    return {
        "name": model.name, "key": model.key, "kind": kind, "classes": model.classes, "scale": model.scale,
        "referable_from": referable_from(model.scale),
        **({} if model.readout.referral is None else {"referral": asdict(model.readout.referral)}),
        "reads": {"side": model.preparation.size}, "overlay": model.has_maps,
        "maps_failed": kind == "run" and failed_maps(config.run, SHOWN), "similar": config.cases is not None,
        "reviews": bool(config.reviews_address), "keeps_images": config.keep_images is not None,
        "limits": {"images": limits.images, "bytes": limits.megabytes * 10**6, "pixels": limits.megapixels * 10**6},
        "record": record, "version": VERSION, "notice": NOTICE,
    }  # fmt: skip
