"""Options of `foveal serve`; nothing that serves is imported for them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from foveal.fundus.quality import UNGRADABLE, check_flags

LOCAL = ("127.0.0.1", "localhost", "::1")


def _from_environment(name: str, otherwise: str) -> str:
    return os.environ.get(name) or otherwise


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Options of `foveal serve`."""

    # Run folder that `foveal train` wrote, or a file or folder of `foveal export`.
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    # Address to listen at; 127.0.0.1 is this machine only.
    host: str = "127.0.0.1"
    # Port to listen at.
    port: int = 8000
    # Whoever asks must send this as a bearer token; by default what FOVEAL_TOKEN holds, empty for none.
    token: str = field(default_factory=lambda: _from_environment("FOVEAL_TOKEN", ""))
    # Where reviews are kept: a file, a database URL, none; auto is FOVEAL_REVIEWS or reviews.sqlite beside the model.
    reviews: str = "auto"
    # Prepared set with grades, among whose training images similar ones are looked for.
    cases: Path | None = None
    # Folder in which photographs that are sent are kept; by default none is.
    keep_images: Path | None = None
    # Flags of quality with which a picture is answered "ungradable" instead of a grade.
    ungradable: tuple[str, ...] = tuple(sorted(UNGRADABLE))
    # Photographs in one request, at most.
    most_images: int = 16
    # Megabytes in one request, at most.
    most_megabytes: int = 64
    # Megapixels of a photograph, at most; larger ones are refused before they are decoded.
    most_megapixels: int = 60
    # Photographs in work at one time, at most; beyond, requests are answered 503 with Retry-After.
    queue: int = 128
    # Photographs that the network sees at one time, at most.
    batch: int = 16
    # Milliseconds to wait for more photographs before the network sees those that are there.
    wait: int = 4
    # Seconds in which a request must have arrived and be answered.
    timeout: float = 60.0
    # auto, cpu, cuda or mps.
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("most_images", "most_megabytes", "most_megapixels", "queue", "batch", "timeout"):
            if getattr(self, name) <= 0:
                raise ValueError(f"--{name.replace('_', '-')} must be above 0, got {getattr(self, name)}")
        if self.most_images > self.queue:
            raise ValueError(f"--queue {self.queue} has no room for a request of --most-images {self.most_images}")
        if not 0 <= self.port <= 65535 or self.wait < 0:
            raise ValueError(f"--port is 0 to 65535 and --wait at least 0; got {self.port} and {self.wait}")
        check_flags(self.ungradable, "--ungradable")

    @property
    def local(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in LOCAL

    @property
    def reviews_address(self) -> str:
        """File or URL of the reviews, empty for none."""
        if self.reviews == "none":
            return ""
        if self.reviews != "auto":
            return self.reviews
        folder = self.run if self.run.is_dir() else self.run.parent
        return _from_environment("FOVEAL_REVIEWS", str(folder / "reviews.sqlite"))
