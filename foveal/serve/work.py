"""Work: from photographs to answers. Several threads decode, one thread runs the network."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from foveal.errors import FovealError
from foveal.files import write_bytes
from foveal.fundus.preparation import Prepared, prepare_file
from foveal.predict.model import Model
from foveal.serve.answers import Wanted, answer_of, pictures_of, unreadable_answer
from foveal.serve.batching import Batcher
from foveal.serve.cases import Cases
from foveal.serve.counters import Counters
from foveal.serve.intake import Room, Sent, within
from foveal.serve.options import Limits, ServeConfig
from foveal.sets.shards import cores

HELD_REQUESTS = 8  # most requests of the largest size in memory at one time


class Work:
    """A model, the threads that decode and the batcher that grades; `close` stops them."""

    def __init__(self, model: Model, config: ServeConfig, limits: Limits, cases: Cases | None) -> None:
        self.model, self.config, self.limits, self.cases = model, config, limits, cases
        self.counters = Counters()
        self.batcher = Batcher(model, config.ungradable, limits, self.counters.batch)
        self.counters.in_work.set_function(lambda: self.batcher.in_work)
        self.room = Room(HELD_REQUESTS * limits.megabytes * 10**6)
        self._threads = ThreadPoolExecutor(cores(), "decode")

    def close(self) -> None:
        """Finish the work in progress."""
        self._threads.shutdown(wait=True)
        self.batcher.close()

    async def grade(self, photographs: list[Sent], wanted: Wanted) -> list[dict[str, Any]]:
        """Answers in the order of the photographs; FovealError when the server is full or too slow."""
        with self.batcher.place(len(photographs)):
            async with within(self.limits.timeout):
                # Wait for all, even if one fails: a place in the queue is free only when its work is done.
                tasks = (self._answer(sent, wanted) for sent in photographs)
                answers = await asyncio.gather(*tasks, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return [answer for answer in answers if not isinstance(answer, BaseException)]

    async def _answer(self, sent: Sent, wanted: Wanted) -> dict[str, Any]:
        try:
            answer = await self._graded(sent, wanted)
        except FovealError as error:
            if error.subject not in ("image", "package"):
                raise
            answer = unreadable_answer(sent, error)
        said = answer["answer"] if answer["grade"] is None else answer["grade"]
        self.counters.answers.labels(str(said)).inc()
        return answer

    async def _graded(self, sent: Sent, wanted: Wanted) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        most = self.limits.megapixels * 10**6
        read = partial(
            prepare_file, sent.data, self.model.preparation, self.model.fundus, name=sent.name, most_pixels=most
        )
        prepared: Prepared = await loop.run_in_executor(self._threads, read)
        judged = await asyncio.wrap_future(self.batcher.submit(prepared, wanted.looks))
        answer = answer_of(self.model, sent, prepared, judged)
        if self.config.keep_images is not None:
            await loop.run_in_executor(self._threads, _keep, sent, self.config.keep_images)
        if wanted.pictures:
            draw = partial(pictures_of, self.model, sent, prepared, judged, most)
            answer |= await loop.run_in_executor(self._threads, draw)
        if wanted.similar and self.cases is not None and judged.features is not None:
            nearest = partial(self.cases.nearest, judged.features)
            answer["similar"] = await loop.run_in_executor(self._threads, nearest)
        return answer


def _keep(sent: Sent, folder: Path) -> None:
    """Write FOLDER/SHA256. The name is the digest, so that a name from a client never becomes a path."""
    file = folder / sent.sha256
    if not file.exists():
        write_bytes(file, sent.data)
