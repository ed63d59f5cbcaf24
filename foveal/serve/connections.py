"""Connections: how long the server waits for a client, and how it stops."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class Hurried(H11Protocol):
    """uvicorn's HTTP/1.1 with a time limit for slow clients.

    uvicorn waits forever for the end of the headers of a request, and for the rest of a refused body, so a client that
    sends one byte per minute blocks its connection. Here both must arrive within the keep-alive time.
    (limit_concurrency does not help: with enough slow clients, all others would be refused.)
    """

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the timer for the first request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Receive some bytes; they do not restart the timer."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        self._stop()
        super().connection_lost(exc)

    def _watch(self) -> None:
        answered = self.cycle is not None and self.cycle.response_complete
        if self.conn.their_state is not h11.IDLE and not answered:
            self._stop()
        elif self._waiting is None:
            self._waiting = self.loop.call_later(self.timeout_keep_alive, self._cut)

    def _stop(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _cut(self) -> None:
        self._waiting = None
        self.transport.close()


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Exit with code 0 on SIGTERM and SIGINT: uvicorn shuts down cleanly, but then raises the signal again."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets signals
        return

    def ignore(number: int, frame: Any) -> None:
        pass

    before = {number: signal.signal(number, ignore) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
