"""Batching: photographs of many requests go through the network together, and never more than a few wait.

One thread owns the network. It takes what is waiting, up to a batch, and waits a few milliseconds for more; so a lone
photograph is answered at once and sixty-four clients share the cost of a pass. Photographs are counted from the moment
they are accepted: memory is bounded by that count, and who comes beyond it is told when to come again.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from foveal.fundus.preparation import Prepared
from foveal.predict.model import Model, set_ungradable
from foveal.serve.problems import LOG, RequestError, busy

RATE_MEMORY = 0.9  # of the moving average of photographs per second


@dataclass(frozen=True)
class Judged:
    """A row of predictions.csv for one photograph, and where the network looked."""

    row: dict[str, Any]
    places: np.ndarray | None = None  # float32 [h, w]
    features: np.ndarray | None = None  # float32 [D]


@dataclass(frozen=True)
class _Waiting:
    prepared: Prepared
    look: bool
    future: Future[Judged] = field(default_factory=Future)


class Batcher:
    """The network behind a bounded queue; `seen` is told (photographs, seconds) of every batch."""

    def __init__(
        self, model: Model, ungradable: tuple[str, ...], *, most: int, batch: int, wait: float,
        seen: Callable[[int, float], None] = lambda images, seconds: None,
    ) -> None:  # fmt: skip
        self.model, self.ungradable, self.most, self.batch, self.wait, self.seen = (
            model, ungradable, most, batch, wait, seen,
        )  # fmt: skip
        self.in_work = 0
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._rate = 10.0  # photographs per second, until measured
        self._thread = threading.Thread(target=self._run, name="network", daemon=True)
        self._thread.start()

    @contextmanager
    def place(self, images: int) -> Iterator[None]:
        """Count some photographs as in work; raises the problem `busy` where there is no room for them."""
        with self._lock:
            if self.in_work + images > self.most:
                raise busy(max(1, math.ceil(self.in_work / self._rate)))
            self.in_work += images
        try:
            yield
        finally:
            with self._lock:
                self.in_work -= images

    def submit(self, prepared: Prepared, look: bool) -> Future[Judged]:
        """Hand one photograph to the network."""
        waiting = _Waiting(prepared, look)
        self._queue.put(waiting)
        return waiting.future

    def close(self) -> None:
        """Finish what is waiting, and end."""
        self._queue.put(None)
        self._thread.join(timeout=60)

    def _run(self) -> None:
        closing = False
        while not closing:
            first = self._queue.get()
            if first is None:
                return
            gathered, closing = self._gather(first)
            # Nobody waits any more for those whose time was up; from here on none can be withdrawn.
            batch = [waiting for waiting in gathered if waiting.future.set_running_or_notify_cancel()]
            if not batch:
                continue
            began = time.perf_counter()
            try:
                judged = self._judge(batch)
            except Exception as error:  # noqa: BLE001  one batch fails, the server goes on
                LOG.exception("the network failed on a batch of %d photographs", len(batch))
                for waiting in batch:
                    waiting.future.set_exception(_failure(error))
            else:
                for waiting, one in zip(batch, judged, strict=True):
                    waiting.future.set_result(one)
            seconds = max(time.perf_counter() - began, 1e-6)
            self._rate = RATE_MEMORY * self._rate + (1 - RATE_MEMORY) * len(batch) / seconds
            self.seen(len(batch), seconds)

    def _gather(self, first: _Waiting) -> tuple[list[_Waiting], bool]:
        batch, until = [first], time.perf_counter() + self.wait
        while len(batch) < self.batch:
            try:
                left = until - time.perf_counter()
                more = self._queue.get(timeout=left) if left > 0 else self._queue.get_nowait()
            except queue.Empty:
                break
            if more is None:
                return batch, True
            batch.append(more)
        return batch, False

    def _judge(self, batch: list[_Waiting]) -> list[Judged]:
        images = np.stack([waiting.prepared.pixels for waiting in batch])
        table = self.model.table(
            [""] * len(batch), self.model.probabilities(images),
            flags=[" ".join(waiting.prepared.flags) for waiting in batch],
        )  # fmt: skip
        if self.model.second is not None:
            table = table.join(self.model.second_columns(self.model.second_probabilities(images)))
        rows = set_ungradable(table.assign(answer="graded", reason=""), self.ungradable)
        rows = rows.astype(object).where(rows.notna(), None)
        looking = [number for number, waiting in enumerate(batch) if waiting.look]
        maps, features = self.model.looks(images[looking]) if looking else (None, None)
        judged = []
        for number, (waiting, row) in enumerate(zip(batch, rows.to_dict("records"), strict=True)):
            place = looking.index(number) if waiting.look else -1
            judged.append(
                Judged(
                    {str(key): value for key, value in row.items()},
                    None if maps is None or place < 0 else maps[place],
                    None if features is None or place < 0 else features[place],
                )
            )
        return judged


def _failure(error: Exception) -> RequestError:
    said = f"the network failed on this photograph ({type(error).__name__})"
    return RequestError(500, "failed", said, "tell whoever runs this server; its log says more")


def warm_up(model: Model) -> bool:
    """Grade an empty picture, so that nobody waits for a first pass; returns whether the model has maps."""
    model.probabilities(model.blank(1))
    return model.looks(model.blank(1))[0] is not None
