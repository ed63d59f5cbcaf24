"""The database of reviews and log: an SQLite file or PostgreSQL, set up so that a commit is safely on disk; its tables.

Error messages never contain a password, or an SQL statement with names and notes.
"""

import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import sqlalchemy as sql
from sqlalchemy import URL, Column, Connection, Engine, Integer, MetaData, String, Table, Text, event, select
from sqlalchemy.exc import ArgumentError, DBAPIError

from foveal.errors import FovealError
from foveal.serve.log import LINES, append
from foveal.version import VERSION as PROGRAM

WAIT = 30  # seconds for another process that writes
# Names of libpq. With these, a server that is lost or does not answer is noticed in seconds, not in hours.
PATIENCE = {"connect_timeout": "10", "tcp_user_timeout": str(WAIT * 1000), "keepalives_idle": "10",
            "keepalives_interval": "5", "keepalives_count": "4"}  # fmt: skip
FORMS = "FILE, sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
LOCK = 0x466F7665616C  # our advisory lock in PostgreSQL; no other program in the same database should use it

# `given` and `grade` are class numbers, empty if ungradable; `when` is UTC with a fixed width, so it sorts as text.
REVIEWS = Table(
    "reviews", MetaData(),
    Column("id", Integer, primary_key=True), Column("image", String(64), nullable=False),
    Column("name", Text, nullable=False), Column("given", Integer), Column("grade", Integer),
    Column("reviewer", Text, nullable=False), Column("note", Text, nullable=False),
    Column("probabilities", sql.JSON(none_as_null=True)), Column("model", Text, nullable=False),
    Column("when", String(25), nullable=False),
    sql.Index("reviews_by_image", "image", "when", "id"), sql.Index("reviews_by_time", "when", "id"),
    sqlite_autoincrement=True,  # never reuse an id
)  # fmt: skip
# Of the tables; a change of them needs a new revision, and a step that upgrades databases of the older one.
REVISION, WITHOUT_LOG = "0003", "0001"
VERSION = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))


def database_url(address: str) -> URL:
    """The URL of a plain path, sqlite:///… or postgresql://…; FovealError for anything else."""
    scheme, found, rest = address.partition("://")
    if not found or scheme == "sqlite":
        if found and (not rest.startswith("/") or "?" in rest):
            expected = f"{FORMS}, without options"
            raise FovealError("reviews.address", "the database has no valid address", expected=expected)
        name = rest[1:] if found else address
        if name in ("", ":memory:"):
            raise FovealError("reviews.address", "a database in memory would be lost with the server", expected=FORMS)
        return URL.create("sqlite", database=str(Path(name).expanduser()))
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise FovealError("reviews.address", "the address of the database has an unknown scheme", expected=FORMS)
    try:
        url = sql.make_url(address)
    except (ArgumentError, ValueError):  # the error message may contain the password
        url = None
    if url is None or "@" in (url.host or ""):
        fix = "write @ : / % in a password as %40 %3A %2F %25"
        raise FovealError("reviews.address", "the database has no valid address", expected=FORMS, fix=fix)
    return url.set(drivername="postgresql+psycopg", query=PATIENCE | dict(url.query))


def open_engine(url: URL) -> Engine:
    """An engine whose commits are safely on disk; with `execution_options(writes=True)`, SQLite locks at the start."""
    if url.get_backend_name() == "sqlite":
        file = Path(str(url.database))
        if file.is_dir():
            raise FovealError("reviews.address", f"{file} is a folder", expected="a file")
        file.parent.mkdir(parents=True, exist_ok=True)
        engine = sql.create_engine(url, connect_args={"timeout": WAIT}, hide_parameters=True)
        event.listen(engine, "connect", _make_sqlite_durable)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        # Test pooled connections before use: the server may have restarted since they were opened.
        engine = sql.create_engine(url, pool_pre_ping=True, hide_parameters=True)
        event.listen(engine, "connect", _make_postgresql_durable_and_quick)
    return engine


def _make_sqlite_durable(connection: sqlite3.Connection, _: Any) -> None:
    """Switch to WAL, where readers do not wait for writers, and sync at every commit."""
    end = time.monotonic() + WAIT
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("PRAGMA fullfsync=ON")  # macOS: past the drive's own cache
            return
        except sqlite3.Error as error:  # SQLite does not wait for the switch, so retry it
            if getattr(error, "sqlite_errorcode", 0) != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                connection.close()
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    # The driver begins a transaction only at the first change of a row; reads and table changes would be outside it.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _make_postgresql_durable_and_quick(connection: Any, _: Any) -> None:
    # Keep the administrator's settings, except `off`, which can lose commits, and 0, which waits forever.
    with connection.cursor() as cursor:
        for name, bad, good in (("synchronous_commit", "off", "on"), ("statement_timeout", "0", str(WAIT * 1000))):
            cursor.execute(f"SELECT set_config('{name}', '{good}', false) WHERE current_setting('{name}') = '{bad}'")
    connection.commit()


def overwrite_deleted(engine: Engine) -> None:
    """Rewrite an SQLite file without what was deleted. PostgreSQL does so itself, in time (autovacuum)."""
    if engine.dialect.name == "sqlite":
        engine.dispose()
        with closing(sqlite3.connect(str(engine.url.database), timeout=WAIT, isolation_level=None)) as connection:
            connection.execute("VACUUM")  # outside a transaction, which the driver would begin
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def unavailable(url: URL, error: Exception, done: str) -> FovealError:
    """The error if reviews cannot be opened, read or written (`done`), without statement, values and passwords."""
    place, fix = str(url.database), "give a file in a folder that this account can write to"
    if url.get_backend_name() != "sqlite":
        place = f"postgresql://{url.host or ''}{f':{url.port}' if url.port else ''}/{url.database or ''}"
        fix = "check the server, and the host, port, user, password, name and permissions of the database"
    text, other = str(error.orig if isinstance(error, DBAPIError) else error), False
    if isinstance(error, ImportError):
        fix = "install its driver: pip install 'foveal[postgresql]'"
    elif other := "not a database" in text or "no such table" in text:
        fix = "give an existing reviews database or a new file"
    for secret in (url.password, *(value for name, value in url.query.items() if "password" in name)):
        text = text.replace(str(secret), "***") if secret else text
    what = f"the reviews in {place} cannot be {done}: {' '.join(text.split())}"
    return FovealError("reviews.unavailable", what, fix=fix if done == "opened" or other else "try again in a moment")


def make_tables(engine: Engine) -> None:
    """Create or upgrade the tables; FovealError if the database is not ours, or cannot store every character."""
    with engine.execution_options(writes=True).begin() as connection:
        if connection.dialect.name == "postgresql":
            encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
            if encoding != "UTF8":
                fix = "create one with: createdb --encoding=UTF8 --template=template0 NAME"
                what = f"the database of the reviews stores text as {encoding}"
                raise FovealError("reviews.encoding", what, expected="UTF8", fix=fix)
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")  # another server may hold the lock for long
            connection.execute(select(sql.func.pg_advisory_xact_lock(LOCK)))
        VERSION.create(connection, checkfirst=True)
        found = list(connection.scalars(select(VERSION.c.version_num)))
        if not found:
            REVIEWS.create(connection)
            connection.execute(VERSION.insert().values(version_num=WITHOUT_LOG))
        if found in ([], [WITHOUT_LOG]):
            LINES.create(connection)
            before = connection.scalar(select(sql.func.max(REVIEWS.c.id))) or 0
            append(connection, [{"kind": "begin", "foveal": PROGRAM, "reviews_before": before}])
        elif found != [REVISION]:
            what = f"the reviews have revision {', '.join(found)}: they were made by a newer Foveal or another program"
            raise FovealError("reviews.revision", what, expected=REVISION, fix="update Foveal or give another database")
        connection.execute(VERSION.update().values(version_num=REVISION))
