"""Store: access to the reviews from requests. Database calls run in threads of their own, with a time limit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import pandas as pd

from foveal.errors import FovealError
from foveal.serve.intake import within
from foveal.serve.problems import database_late
from foveal.serve.reviews import Review, Reviews

THREADS = 4  # for the database only: a database that hangs blocks nothing else
Found = TypeVar("Found")


class Store:
    """The reviews, or None if the server stores none; every method raises FovealError on failure.

    A call that takes longer than `seconds` may still take effect later.
    """

    def __init__(self, reviews: Reviews | None, seconds: float) -> None:
        self._reviews, self._seconds = reviews, seconds
        self._threads = ThreadPoolExecutor(THREADS, "reviews")

    async def add(self, review: Review) -> Review:
        """Store a review; returns once it is on disk."""
        return await self._done(partial(self._there().add, review))

    async def latest(self, limit: int, offset: int) -> tuple[int, list[Review]]:
        """The number of reviews, and a page of them, newest first."""
        return await self._done(partial(self._there().latest, limit, offset))

    async def corrections(self, everything: bool) -> pd.DataFrame:
        """A row for each corrected image; with `everything`, also for confirmed images."""
        return await self._done(partial(self._there().corrections, everything))

    def close(self) -> None:
        """Start no further calls and close the database."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._reviews is not None:
            self._reviews.close()

    def _there(self) -> Reviews:
        if self._reviews is None:
            fix = "start it without --reviews none"
            raise FovealError("reviews.off", "this server does not store reviews", fix=fix)
        return self._reviews

    async def _done(self, work: Callable[[], Found]) -> Found:
        async with within(self._seconds, database_late):
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
