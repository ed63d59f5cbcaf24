"""Batching: photographs of many requests share one pass of the network, and the queue has a limit.

One thread runs the network. It collects waiting photographs for a few milliseconds, up to one batch, so that a single
photograph is answered at once and many clients share the cost of a pass.
"""

import math
import queue
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from foveal.errors import FovealError
from foveal.fundus.preparation import Prepared
from foveal.predict.model import ALL, Model, set_ungradable
from foveal.serve.guard import LOG, Counters
from foveal.serve.intake import Room
from foveal.serve.options import Limits

RATE_MEMORY = 0.9  # decay of the moving average of photographs per second


class Judged(NamedTuple):
    """The row of predictions.csv for one photograph, its map and its features."""

    row: dict[str, Any]
    places: np.ndarray | None = None  # float32 [h, w]
    features: np.ndarray | None = None  # float32 [D]


@dataclass(frozen=True)
class _Waiting:
    prepared: Prepared
    look: bool
    future: Future[Judged] = field(default_factory=Future)


class Batcher:
    """The network behind a bounded queue."""

    def __init__(self, model: Model, ungradable: tuple[str, ...], limits: Limits, counters: Counters) -> None:
        self.model, self.ungradable, self.limits, self.counters = model, ungradable, limits, counters
        # Photographs in work: ask here for a place before queueing one.
        self.places = Room(limits.queue, lambda: max(1, math.ceil(self.places.held / self._rate)))
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._rate = 10.0  # photographs per second, until measured
        self._thread = threading.Thread(target=self._run, name="network", daemon=True)
        self._thread.start()

    def submit(self, prepared: Prepared, look: bool) -> Future[Judged]:
        """Queue one photograph for the network. look: whether its map and features are needed."""
        waiting = _Waiting(prepared, look)
        self._queue.put(waiting)
        return waiting.future

    def close(self) -> None:
        """Finish what is waiting, then stop."""
        self._queue.put(None)
        self._thread.join(timeout=60)

    def _run(self) -> None:
        while gathered := self._gather():
            # Skip photographs whose request has timed out; the others can no longer be cancelled.
            if batch := [waiting for waiting in gathered if waiting.future.set_running_or_notify_cancel()]:
                self._answer(batch)

    def _gather(self) -> list[_Waiting]:
        """The next photograph and those that arrive soon after it; none when the batcher closes."""
        batch, waiting = [], self._queue.get()
        until = time.perf_counter() + self.limits.wait
        while waiting is not None:
            batch.append(waiting)
            if len(batch) == self.limits.batch:
                return batch
            try:
                waiting = self._queue.get(timeout=max(0.0, until - time.perf_counter()))
            except queue.Empty:
                return batch
        if batch:
            self._queue.put(None)  # close after these
        return batch

    def _answer(self, batch: list[_Waiting]) -> None:
        began = time.perf_counter()
        try:
            judged = self._judge(batch)
        except Exception as error:  # noqa: BLE001  one batch fails, the server keeps running
            LOG.exception("the network failed on a batch of %d photographs", len(batch))
            what = f"the network failed on this photograph ({type(error).__name__})"
            for waiting in batch:
                waiting.future.set_exception(FovealError("server.failed", what, fix="see the log of this server"))
        else:
            for waiting, one in zip(batch, judged, strict=True):
                waiting.future.set_result(one)
        seconds = max(time.perf_counter() - began, 1e-6)
        self._rate = RATE_MEMORY * self._rate + (1 - RATE_MEMORY) * len(batch) / seconds
        self.counters.batches.observe(len(batch))
        self.counters.network.observe(seconds)

    def _judge(self, batch: list[_Waiting]) -> list[Judged]:
        images = np.stack([waiting.prepared.pixels for waiting in batch])
        answers = self.model.answer(images, ALL if any(waiting.look for waiting in batch) else self.model.wanted)
        rows = self.model.rows([""] * len(batch), answers, [waiting.prepared for waiting in batch])
        rows = set_ungradable(rows, self.ungradable)
        rows = rows.astype({"referable": "boolean"}).astype(object)
        rows = rows.where(rows.notna(), None)
        return [Judged(row={str(key): value for key, value in row.items()},
                       places=None if answers.maps is None else answers.maps[k],
                       features=None if answers.features is None else answers.features[k])
                for k, row in enumerate(rows.to_dict("records"))]  # fmt: skip
