"""The database of the reviews: an SQLite file or PostgreSQL, by its address, set so that a commit is on the disk.

No password of an address gets into a message: what SQLAlchemy and the drivers say is passed on without it, and without
the statement, which would hold names and notes.
"""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

WAIT = 30  # seconds for another process that writes
CONNECT = 10  # seconds for a PostgreSQL server to answer
# libpq's names: a server that has gone without a word is noticed in about WAIT seconds, not in hours.
PATIENCE = {
    "connect_timeout": str(CONNECT), "tcp_user_timeout": str(WAIT * 1000), "keepalives_idle": "10",
    "keepalives_interval": "5", "keepalives_count": "4",
}  # fmt: skip
FORMS = "FILE, sqlite:///FILE or postgresql://USER:PASSWORD@HOST:PORT/DATABASE"


def database_url(address: str) -> URL:
    """The URL of a plain path, sqlite:///… or postgresql://…; ValueError for anything else."""
    scheme, found, rest = address.partition("://")
    if not found or scheme == "sqlite":
        return _file_url(address, rest)
    if scheme not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise ValueError(f"the address of the reviews' database is of no known kind; expected {FORMS}")
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):  # its text may hold the password
        url = None
    if url is None or "@" in (url.host or ""):
        raise ValueError(
            f"the address of the reviews' database cannot be read; expected {FORMS}, with @ : / % in a password "
            "written as %40 %3A %2F %25"
        )
    return url.set(drivername="postgresql+psycopg", query=PATIENCE | dict(url.query))


def _file_url(address: str, rest: str) -> URL:
    is_path = "://" not in address
    if not is_path and (not rest.startswith("/") or "?" in rest):
        raise ValueError(f"the address of the reviews' database cannot be read; expected {FORMS}, without options")
    name = address if is_path else rest[1:]
    if name in ("", ":memory:"):
        raise ValueError(f"reviews need a file: in memory they would be lost with the server; expected {FORMS}")
    return URL.create("sqlite", database=str(Path(name).expanduser()))


def place_of(url: URL) -> str:
    """How a database is named to people: its file, or server and name without user and password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    port = f":{url.port}" if url.port else ""
    return f"postgresql://{url.host or ''}{port}/{url.database or ''}"


def open_engine(url: URL) -> Engine:
    """An engine whose commits are on the disk; nothing but an SQLite file's folder is made yet.

    `execution_options(writes=True)` is for transactions that write: SQLite then waits for its turn at their beginning.
    Raises ImportError where the driver is missing, OSError where the folder cannot be made.
    """
    if url.get_backend_name() == "sqlite":
        file = Path(str(url.database))
        if file.is_dir():
            raise IsADirectoryError("it is a folder; give a file")
        file.parent.mkdir(parents=True, exist_ok=True)
        engine = create_engine(url, connect_args={"timeout": WAIT}, hide_parameters=True)
        event.listen(engine, "connect", _make_sqlite_durable)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        # A pooled connection may be older than the server's last start: it is tried before it is used.
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
    """Readers then do not wait for a writer. SQLite itself does not wait for this change, so it is tried again."""
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
    # The driver itself would begin one at the first change of a row, and so leave out changes of tables and reads.
    writes = connection.get_execution_options().get("writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _make_postgresql_durable_and_quick(connection: Any, _: Any) -> None:
    # What whoever administers the server has chosen stays: more than `on`, such as a second server, and other times.
    # Only `off` loses commits, and only 0 waits for ever.
    settings = (("synchronous_commit", "off", "on"), ("statement_timeout", "0", str(WAIT * 1000)))
    with connection.cursor() as cursor:
        for name, bad, good in settings:
            cursor.execute(f"SELECT set_config('{name}', '{good}', false) WHERE current_setting('{name}') = '{bad}'")
    connection.commit()


def check_encoding(engine: Engine) -> None:
    """ValueError unless the database can keep every character."""
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
        if encoding != "UTF8":
            raise ValueError(
                f"it keeps text as {encoding}, which lacks characters that names and notes may have; make one with: "
                "createdb --encoding=UTF8 --template=template0 NAME"
            )


def reason(url: URL, error: Exception) -> str:
    """What a driver says about `error`, in one line, without statement, values and passwords."""
    text = str(error.orig if isinstance(error, DBAPIError) else error)
    for secret in (url.password, *(value for name, value in url.query.items() if "password" in name)):
        if secret:
            text = text.replace(str(secret), "***")
    return " ".join(text.split())


def mend(url: URL, error: Exception) -> str:
    """What to do about a database that cannot be opened."""
    if isinstance(error, ImportError):
        return "install its driver: pip install 'foveal[postgresql]'"
    if url.get_backend_name() == "sqlite" and "not a database" in str(error):
        return "give the file of a database of reviews, or one that is not there yet"
    if url.get_backend_name() == "sqlite":
        return "give a file in a folder that this account can write"
    return "check that the server runs, and host, port, user, password, name and rights of the database"
