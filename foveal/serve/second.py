"""Second: a second grader beside the first one. Its answers are logged and counted, but never shown.

It works after the first grader's answer was sent. If too many photographs wait for it, it skips some, and counts them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

from foveal.errors import FovealError
from foveal.fundus.preparation import prepare_file
from foveal.predict.model import Model
from foveal.serve.batching import Batcher
from foveal.serve.guard import Counters
from foveal.serve.intake import Sent
from foveal.serve.options import Limits

WAITING = 32  # photographs, which stay in memory
Log = Callable[[list[dict[str, Any]]], Awaitable[None]]


class Second:
    """The second grader, its thread and its unfinished comparisons; for use in the event loop."""

    def __init__(self, model: Model, ungradable: tuple[str, ...], limits: Limits, counters: Counters) -> None:
        self.model, self.counters, self._most_pixels = model, counters, limits.megapixels * 10**6
        # Its passes are not those that /metrics times.
        self._batcher = Batcher(model, ungradable, replace(limits, queue=WAITING), Counters())
        self._thread = ThreadPoolExecutor(1, "decode second")
        self._tasks = set[asyncio.Task[None]]()

    def compare(self, photographs: Sequence[Sent], answers: Sequence[dict[str, Any]], log: Log) -> None:
        """Grade the photographs in the background, and log how the grades compare with the answers."""
        for sent, answer in zip(photographs, answers, strict=True):
            if answer["answer"] != "unreadable":
                task = asyncio.create_task(self._compare(sent, answer, log))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def finish(self) -> None:
        """Wait for the comparisons in progress, then stop."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._thread.shutdown()
        self._batcher.close()

    async def _compare(self, sent: Sent, first: dict[str, Any], log: Log) -> None:
        line = {"kind": "second", "image": sent.sha256, "patient": first["patient"], "camera": first["camera"],
                "model": self.model.name, "key": self.model.key, "first": first["grade"]}  # fmt: skip
        try:
            with self._batcher.places.request(1):
                given = sent.data, self.model.preparation, self.model.fundus
                prepare = partial(prepare_file, *given, name=sent.name, most_pixels=self._most_pixels)
                prepared = await asyncio.get_running_loop().run_in_executor(self._thread, prepare)
                row = (await asyncio.wrap_future(self._batcher.submit(prepared, look=False))).row
        except FovealError as error:
            outcome, line = "skipped" if error.code == "server.busy" else "failed", line | {"error": error.code}
        else:
            agrees = all(first[name] == row[name] for name in ("grade", "referable"))
            line |= {name: row[name] for name in ("answer", "grade", "referable")} | {"agrees": agrees}
            outcome = "same" if agrees else "other"
        self.counters.second.labels(outcome).inc()
        await log([line])
