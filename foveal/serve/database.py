"""The database of the reviews: an SQLite file or PostgreSQL, set up so that a commit is safely on disk.

Error messages never contain a password, or an SQL statement with names and notes.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from foveal.errors import FovealError

WAIT = 30  # seconds for another process that writes
CONNECT = 10  # seconds for a PostgreSQL server to answer
# Names of libpq. With these, a lost server is noticed in about WAIT seconds, not in hours.
PATIENCE = {
    "connect_timeout": str(CONNECT), "tcp_user_timeout": str(WAIT * 1000), "keepalives_idle": "10",
    "keepalives_interval": "5", "keepalives_count": "4",
}  # fmt: skip
FORMS = "FILE, sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/DATABASE"


def database_url(address: str) -> URL:
    """The URL of a plain path, sqlite:///… or postgresql://…; FovealError for anything else."""
    scheme, found, rest = address.partition("://")
    if not found or scheme == "sqlite":
        return _file_url(address, rest)
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise FovealError("reviews.address", "--reviews has an unknown scheme", expected=FORMS)
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):  # the error message may contain the password
        url = None
    if url is None or "@" in (url.host or ""):
        fix = "write @ : / % in a password as %40 %3A %2F %25"
        raise FovealError("reviews.address", "--reviews is not a valid address", expected=FORMS, fix=fix)
    return url.set(drivername="postgresql+psycopg", query=PATIENCE | dict(url.query))


def _file_url(address: str, rest: str) -> URL:
    is_path = "://" not in address
    if not is_path and (not rest.startswith("/") or "?" in rest):
        raise FovealError("reviews.address", "--reviews is not a valid address", expected=f"{FORMS}, without options")
    name = address if is_path else rest[1:]
    if name in ("", ":memory:"):
        what = "--reviews names a database in memory, which would be lost with the server"
        raise FovealError("reviews.address", what, expected=FORMS)
    return URL.create("sqlite", database=str(Path(name).expanduser()))


def place_of(url: URL) -> str:
    """The name of a database in messages: its file, or server and database without user and password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    port = f":{url.port}" if url.port else ""
    return f"postgresql://{url.host or ''}{port}/{url.database or ''}"


def open_engine(url: URL) -> Engine:
    """An engine whose commits are safely on disk. It creates the folder of an SQLite file, but not the file.

    Use `execution_options(writes=True)` for transactions that write: SQLite then waits for its lock at the start.
    Raises ImportError if the driver is missing, FovealError for a folder, OSError if the folder cannot be created.
    """
    if url.get_backend_name() == "sqlite":
        file = Path(str(url.database))
        if file.is_dir():
            raise FovealError("reviews.address", f"{file} is a folder", expected="a file")
        file.parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(url, connect_args={"timeout": WAIT}, hide_parameters=True)
        event.listen(engine, "connect", _make_sqlite_durable)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        # Test pooled connections before use: the server may have restarted since they were opened.
        engine = create_engine(url, pool_pre_ping=True, hide_parameters=True)
        event.listen(engine, "connect", _make_postgresql_durable_and_quick)
    return engine


def _make_sqlite_durable(connection: sqlite3.Connection, _: Any) -> None:
    try:
        _write_ahead(connection)
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("PRAGMA fullfsync=ON")  # macOS: past the drive's own cache
    except sqlite3.Error:
        connection.close()
        raise


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to WAL, where readers do not wait for writers. SQLite does not wait for this switch, so retry it."""
    end = time.monotonic() + WAIT
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.01)


def _begin_sqlite(connection: Connection) -> None:
    # The driver begins a transaction only at the first change of a row; reads and table changes would be outside it.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _make_postgresql_durable_and_quick(connection: Any, _: Any) -> None:
    # Keep the administrator's settings, except `off`, which can lose commits, and 0, which waits forever.
    settings = (("synchronous_commit", "off", "on"), ("statement_timeout", "0", str(WAIT * 1000)))
    with connection.cursor() as cursor:
        for name, bad, good in settings:
            cursor.execute(f"SELECT set_config('{name}', '{good}', false) WHERE current_setting('{name}') = '{bad}'")
    connection.commit()


def check_encoding(engine: Engine) -> None:
    """FovealError unless the database can store every character."""
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
        if encoding != "UTF8":
            raise FovealError(
                "reviews.encoding", f"the database stores text as {encoding}", expected="UTF8",
                fix="create one with: createdb --encoding=UTF8 --template=template0 NAME",
            )  # fmt: skip


def reason(url: URL, error: Exception) -> str:
    """The driver's message in one line, without statement, values and passwords."""
    text = str(error.orig if isinstance(error, DBAPIError) else error)
    for secret in (url.password, *(value for name, value in url.query.items() if "password" in name)):
        if secret:
            text = text.replace(str(secret), "***")
    return " ".join(text.split())


def fix_of(url: URL, error: Exception) -> str:
    """How to fix a database that cannot be opened."""
    if isinstance(error, ImportError):
        return "install its driver: pip install 'foveal[postgresql]'"
    if url.get_backend_name() == "sqlite" and "not a database" in str(error):
        return "give an existing reviews database or a new file"
    if url.get_backend_name() == "sqlite":
        return "give a file in a folder that this account can write to"
    return "check that the server runs, and the host, port, user, password, name and permissions of the database"
