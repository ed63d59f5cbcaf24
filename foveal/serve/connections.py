"""Connections: where the server listens, how long it waits for a client's words, and how it ends."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; ValueError says why none can."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise ValueError(
            f"nothing can listen at {host}, port {port}: {error.strerror}; is another server there? Give another --port"
        ) from None


class Hurried(H11Protocol):
    """uvicorn's HTTP/1.1, with a limit to the time that a client takes.

    uvicorn waits for ever for the end of a request's headers, and for the rest of a body that was refused: whoever
    sends a byte a minute would hold a connection for good. Here both must come within the seconds of keep-alive. (Its
    limit_concurrency is no remedy: with enough such clients everybody else would be refused.)
    """

    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for the headers of a first request."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take some bytes; they do not start the time anew."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
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
    """uvicorn ends in peace on SIGTERM and SIGINT, but then sends them again, which would end us with a failure."""
    if threading.current_thread() is not threading.main_thread():
        yield  # no signals come here
        return

    def ignore(number: int, frame: Any) -> None:
        pass

    before = {number: signal.signal(number, ignore) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
