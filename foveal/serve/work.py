"""Work: what the server does with photographs, from their bytes to answers; threads decode, one thread grades."""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from foveal.errors import FovealError
from foveal.fundus.preparation import Prepared, prepare_file
from foveal.predict.model import Model
from foveal.serve.answers import Wanted, answer_of, pictures_of, unreadable_answer
from foveal.serve.batching import Batcher
from foveal.serve.cases import Cases
from foveal.serve.counters import Counters
from foveal.serve.intake import Room, Sent, within
from foveal.serve.options import ServeConfig
from foveal.sets.shards import cores

HELD_REQUESTS = 8  # of the largest size, whose bytes are in memory at one time


class Work:
    """A model behind threads that decode and a batcher that grades; `close` ends them."""

    def __init__(self, model: Model, config: ServeConfig, cases: Cases | None) -> None:
        self.model, self.config, self.cases = model, config, cases
        self.counters = Counters()
        self.batcher = Batcher(
            model, config.ungradable, most=config.queue, batch=config.batch, wait=config.wait / 1000,
            seen=self.counters.batch,
        )  # fmt: skip
        self.counters.in_work.set_function(lambda: self.batcher.in_work)
        self.room = Room(HELD_REQUESTS * config.most_megabytes * 10**6)
        self._threads = ThreadPoolExecutor(cores(), "decode")

    def close(self) -> None:
        """Finish what has begun."""
        self._threads.shutdown(wait=True)
        self.batcher.close()

    async def grade(self, photographs: list[Sent], wanted: Wanted) -> list[dict[str, Any]]:
        """Answers in the order of the photographs; raises a `RequestError` when the server is full or too slow."""
        with self.batcher.place(len(photographs)):
            async with within(self.config.timeout):
                # All are waited for, also where one fails: its place is free only when no work is left for it.
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
            answer = unreadable_answer(sent, str(error))
        said = answer["answer"] if answer["grade"] is None else answer["grade"]
        self.counters.answers.labels(str(said)).inc()
        return answer

    async def _graded(self, sent: Sent, wanted: Wanted) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        most = self.config.most_megapixels * 10**6
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
    """FOLDER/SHA256: the digest is its name, so that no name from outside becomes a path."""
    file = folder / sent.sha256
    if not file.exists():
        # Two requests may bring the same photograph at one time: each writes a file of its own.
        partial_file = folder / f".{sent.sha256}.{secrets.token_hex(4)}.partial"
        try:
            partial_file.write_bytes(sent.data)
            partial_file.replace(file)
        finally:
            partial_file.unlink(missing_ok=True)
