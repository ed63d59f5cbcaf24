"""Options and limits of `foveal serve`; reading them imports no web framework."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from foveal.config import check
from foveal.errors import FovealError
from foveal.fundus.quality import UNGRADABLE, check_flags

LOCAL = ("127.0.0.1", "localhost", "::1")  # hosts that only this machine can reach


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits on memory and waiting times. The defaults suit 2 cores and 1 GB; a program may set others."""

    images: int = 16  # in one request
    megabytes: int = 64  # in one request: 16 photographs of 4 MB
    megapixels: int = 60  # of a photograph: three times that of the largest fundus cameras; refused before decoding
    queue: int = 128  # photographs in work; further requests are answered 503 with Retry-After
    batch: int = 16  # photographs in one pass of the network
    wait: float = 0.004  # seconds to wait for more photographs before a pass
    timeout: float = 60.0  # seconds in which a request must be received and answered

    def __post_init__(self) -> None:
        assert self.images <= self.queue, "the queue has no room for the largest request"


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Options of `foveal serve`."""

    # Grader: a run folder of `foveal train` (folds work as an ensemble), or a file of `foveal export`.
    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    # Address to listen on; 127.0.0.1 accepts connections from this machine only.
    host: str = "127.0.0.1"
    # Port to listen on.
    port: int = 8000
    # Token that every request must send; by default $FOVEAL_TOKEN, or no token if that is not set.
    token: str = field(default_factory=lambda: os.environ.get("FOVEAL_TOKEN", ""))
    # Where to store reviews: file, database URL or none; auto: $FOVEAL_REVIEWS, or reviews.sqlite next to the model.
    reviews: str = "auto"
    # Prepared set whose graded training images are searched for similar images.
    cases: Path | None = None
    # Folder in which to keep reviewed photographs, without headers; whole:FOLDER keeps them as they were sent.
    keep_images: str | None = None
    # Second grader (as RUN) for the same photographs; its answers are logged and counted, but not shown.
    second: Path | None = None
    # Worklist of `foveal select` to open on the page.
    worklist: Path | None = None
    # A photograph with one of these quality flags is reported as ungradable and gets no grade.
    ungradable: tuple[str, ...] = tuple(sorted(UNGRADABLE))
    # Test-time augmentation: average over 4 flips, or over 8 flips and quarter turns; auto is as in the run.
    tta: Literal["auto", "none", "flips", "turns"] = "auto"
    # Device: auto, cpu, cuda or mps.
    device: str = "auto"

    def __post_init__(self) -> None:
        check(self, "port", 0 <= self.port <= 65535, "0 to 65535")
        check_flags(self.ungradable, "--ungradable")
        for name in ("keep_images", "worklist", "second"):
            if getattr(self, name) and self.reviews == "none":
                what = f"--{name.replace('_', '-')} needs a database of reviews, which --reviews none turns off"
                raise FovealError("option.conflict", what, fix="leave one of them out")

    @property
    def reviews_address(self) -> str:
        """File or URL of the reviews, empty for none."""
        if self.reviews != "auto":
            return "" if self.reviews == "none" else self.reviews
        folder = self.run if self.run.is_dir() else self.run.parent
        return os.environ.get("FOVEAL_REVIEWS") or str(folder / "reviews.sqlite")
