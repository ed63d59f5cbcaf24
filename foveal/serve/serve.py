"""serve: a server with an API and a web page for a grader. It stores no photographs by default.

foveal serve RUN
foveal serve exported/ --cases DATA --reviews postgresql://user@host/reviews --host 0.0.0.0 --token SECRET
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveal.console import say, warn
from foveal.errors import FovealError
from foveal.predict.model import Model
from foveal.predict.opened import is_exported, open_model, record_of
from foveal.readout.scales import referable_from
from foveal.serve.options import Limits, ServeConfig
from foveal.version import VERSION

if TYPE_CHECKING:
    from fastapi import FastAPI

PACKAGES = ("fastapi", "uvicorn", "python_multipart", "sqlalchemy", "alembic", "prometheus_client", "jinja2")
NOTICE = "Research use; not a medical device."
DEFAULTS = Limits()
PATIENCE = 20  # seconds to wait for a complete request, or for the rest of a refused one
CLOSING_SECONDS = 30  # time for requests in progress when the server stops


def serve(config: ServeConfig) -> None:
    """Serve a grader until Ctrl-C or SIGTERM; requests in progress are answered first."""
    _check_packages()
    import uvicorn

    from foveal.serve.connections import Hurried, ended_by_signals, listen

    if not config.local and not config.token:
        warn(f"--host {config.host} without --token: anyone who can reach this machine can grade and read all reviews")
    with listen(config.host, config.port) as socket:  # first, to report a port in use before loading a model
        port = socket.getsockname()[1]
        app = build_app(config)
        server = uvicorn.Server(
            uvicorn.Config(
                app, log_level="warning", http=Hurried, ws="none", server_header=False, timeout_keep_alive=PATIENCE,
                timeout_graceful_shutdown=CLOSING_SECONDS, h11_max_incomplete_event_size=1 << 16,
            )
        )  # fmt: skip
        say(f"page: http://{config.host}:{port}   API: /docs   {NOTICE}")
        with ended_by_signals():
            server.run(sockets=[socket])
    say("stopped")


def _check_packages() -> None:
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        what = f"serve needs the packages {', '.join(missing)}"
        raise FovealError("package.missing", what, fix="pip install 'foveal[serve]'")


def _check_torch(run: Path) -> None:
    if (run / "model.json").is_file() and importlib.util.find_spec("torch") is None:
        raise FovealError(
            "package.missing", f"{run} is a run folder, and torch is not installed",
            fix="pip install torch timm safetensors, or export the run on a machine with torch (foveal export "
            f"{run} --out exported) and serve the exported folder",
        )  # fmt: skip


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise FovealError("output.exists", f"--keep-images {folder} is a file", expected="a folder") from None
    except OSError as error:
        what = f"--keep-images {folder} cannot be created: {error.strerror}"
        raise FovealError("output.unwritable", what, fix="give another folder") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        what = f"this account cannot write to --keep-images {folder}"
        raise FovealError("output.unwritable", what, fix="give another folder")


def build_app(config: ServeConfig, limits: Limits = DEFAULTS) -> FastAPI:
    """The app for a run or an exported file, warmed up; FovealError if something is missing."""
    _check_packages()
    _check_torch(config.run)
    from foveal.serve.app import create_app
    from foveal.serve.batching import warm_up
    from foveal.serve.reviews import open_reviews
    from foveal.serve.work import Work, open_cases

    if config.keep_images is not None:
        _check_folder(config.keep_images)
        warn(f"received photographs are stored in {config.keep_images}")
    model = open_model([config.run], config.device)
    reviews = open_reviews(config.reviews_address) if config.reviews_address else None
    cases = None if config.cases is None else open_cases(config.cases, model)
    maps = warm_up(model)
    about = describe(model, config, limits, maps=maps, cases=cases is not None)
    say(f"{model.name}: {', '.join(model.classes)}")
    return create_app(Work(model, config, limits, cases), config, limits, about, reviews)


def describe(model: Model, config: ServeConfig, limits: Limits, *, maps: bool, cases: bool) -> dict[str, Any]:
    """The answer of GET /v1/model."""
    exported = is_exported(config.run)
    return {
        "name": model.name, "key": model.key, "kind": "exported" if exported else "run",
        "classes": model.classes, "scale": model.scale, "referable_from": referable_from(model.scale),
        "reads": {"side": model.preparation.size}, "overlay": maps, "similar": cases,
        "reviews": bool(config.reviews_address), "keeps_images": config.keep_images is not None,
        "limits": {"images": limits.images, "bytes": limits.megabytes * 10**6, "pixels": limits.megapixels * 10**6},
        "record": _record(model, config.run), "version": VERSION, "notice": NOTICE,
    }  # fmt: skip


def _record(model: Model, run: Path) -> list[dict[str, Any]]:
    about: dict[str, Any] | None = getattr(model, "about", None)
    record: list[dict[str, Any]] = record_of(run) if about is None else about["record"]
    return record
