"""Store: the reviews as requests reach them: in threads of their own, within a time, and what fails as a problem."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import pandas as pd

from foveal.serve.intake import within
from foveal.serve.problems import RequestError, database_failed, database_late
from foveal.serve.reviews import Review, Reviews

THREADS = 4  # that wait for the database; none of them is needed for anything else, however long it does not answer
Found = TypeVar("Found")


class Store:
    """Reviews, or None where the server keeps none; every method raises a `RequestError` for what is not done.

    What was not answered within `seconds` may be done all the same, as soon as the database goes on.
    """

    def __init__(self, reviews: Reviews | None, seconds: float) -> None:
        self._reviews, self._seconds = reviews, seconds
        self._threads = ThreadPoolExecutor(THREADS, "reviews")

    async def add(self, review: Review) -> Review:
        """Keep a review; answered once it is on the disk."""
        return await self._done(partial(self._there().add, review))

    async def latest(self, limit: int, offset: int) -> tuple[int, list[Review]]:
        """How many there are, and some of them, the newest first."""
        return await self._done(partial(self._there().latest, limit, offset))

    async def corrections(self, everything: bool) -> pd.DataFrame:
        """A row per image where a person disagreed, or where they agreed, too."""
        return await self._done(partial(self._there().corrections, everything))

    def close(self) -> None:
        """Begin nothing more, and let go of the database."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._reviews is not None:
            self._reviews.close()

    def _there(self) -> Reviews:
        if self._reviews is None:
            said = "this server keeps no reviews"
            raise RequestError(404, "no_reviews", said, "start it without --reviews none")
        return self._reviews

    async def _done(self, work: Callable[[], Found]) -> Found:
        async with within(self._seconds, database_late):
            try:
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
            except ValueError as error:
                raise RequestError(422, "invalid", str(error), "correct it and send it again") from None
            except OSError as error:
                raise database_failed(f"the database of reviews failed: {error}") from None
