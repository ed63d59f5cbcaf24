"""Log: every answer of the server and every review, one line each, in the database of the reviews.

A line has the digest of its content, and a hash of this digest, its number, its time and the hash of the line before.
So a line that was changed, removed or inserted later is found (Haber and Stornetta 1991). A content can be erased, and
the chain still holds: its digest stays, and tells nothing, because the content began with random characters.
"""

import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

import sqlalchemy as sql
from sqlalchemy import Column, Connection, Integer, MetaData, String, Table, Text, insert, select

from foveal.errors import FovealError

LINES = Table(
    "log", MetaData(),
    Column("number", Integer, primary_key=True, autoincrement=False),  # 1, 2, 3, …
    Column("when", String(32), nullable=False),  # UTC, ISO 8601, milliseconds
    Column("content", Text),  # JSON; null once it is erased
    Column("digest", String(64), nullable=False), Column("hash", String(64), nullable=False),
    Column("image", String(64)),  # of the content, to search for; not part of the chain
    sql.Index("log_by_image", "image"),
)  # fmt: skip
LOCK = 0x466F7665616D  # our advisory lock in PostgreSQL for appending
START = "0" * 64  # the hash before the first line
BATCH = 1000  # lines in memory at a time


class Line(NamedTuple):
    """One line; `content` is None if it was erased."""

    number: int
    when: str
    content: str | None
    digest: str
    hash: str

    def values(self) -> dict[str, Any]:
        """The content: `kind` (begin, answer, second, review or erase) and what belongs to it; {} if erased."""
        return {} if self.content is None else json.loads(self.content)


def append(connection: Connection, contents: Iterable[dict[str, Any]]) -> None:
    """Append a line for each content, within a transaction that may write."""
    if connection.dialect.name == "postgresql":  # SQLite has locked the database when the transaction began
        connection.execute(select(sql.func.pg_advisory_xact_lock(LOCK)))
    last = connection.execute(select(LINES.c.number, LINES.c.hash).order_by(LINES.c.number.desc()).limit(1)).first()
    number, before = (0, START) if last is None else (last.number, last.hash)
    when, lines = datetime.now(UTC).isoformat(timespec="milliseconds"), []
    for values in contents:
        number += 1
        content = json.dumps({"salt": secrets.token_hex(16)} | values, ensure_ascii=True)
        digest = hashlib.sha256(content.encode()).hexdigest()
        before = _chained(before, number, when, digest)
        lines.append(Line(number, when, content, digest, before)._asdict() | {"image": values.get("image")})
    if lines:
        connection.execute(insert(LINES), lines)


def _chained(before: str, number: int, when: str, digest: str) -> str:
    return hashlib.sha256(f"{before} {number} {when} {digest}".encode()).hexdigest()


def lines_of(connection: Connection) -> Iterator[Line]:
    """All lines in order."""
    found = select(*(LINES.c[name] for name in Line._fields)).order_by(LINES.c.number)
    yield from map(Line._make, connection.execution_options(yield_per=BATCH).execute(found))


def checked(lines: Iterable[Line]) -> Iterator[Line]:
    """The same lines; FovealError (log.broken) at the first one that was changed or inserted, or that is missing."""
    number, before = 0, START
    for number, line in enumerate(lines, 1):
        if line.number != number:
            raise _broken(f"line {number} is missing: line {line.number} follows line {number - 1}")
        if line.content is not None and hashlib.sha256(line.content.encode()).hexdigest() != line.digest:
            raise _broken(f"the content of line {number} ({line.when}) was changed")
        before = _chained(before, number, line.when, line.digest)
        if line.hash != before:
            raise _broken(f"line {number} ({line.when}) was changed, or a line before it")
        yield line


def _broken(what: str) -> FovealError:
    fix = "restore the database from an earlier copy, and find out who can write to it"
    return FovealError("log.broken", what, fix=fix)
