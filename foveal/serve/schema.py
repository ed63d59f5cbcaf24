"""The tables of the reviews, and the upgrade of older databases with Alembic in one transaction.

To change the tables, append a function to `REVISIONS` and make the same change in `REVIEWS`; a test compares the two.
Never edit a published revision. Alembic's table alembic_version stores the revision of a database.
"""

from __future__ import annotations

from collections.abc import Callable

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import JSON, Column, Connection, Engine, Index, Integer, MetaData, String, Table, Text, func, select

from foveal.errors import FovealError

# `given` and `grade` are class numbers, empty if ungradable; `when` is UTC with a fixed width, so it sorts as text.
REVIEWS = Table(
    "reviews",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("image", String(64), nullable=False),
    Column("name", Text, nullable=False),
    Column("given", Integer),
    Column("grade", Integer),
    Column("reviewer", Text, nullable=False),
    Column("note", Text, nullable=False),
    Column("probabilities", JSON(none_as_null=True)),
    Column("model", Text, nullable=False),
    Column("when", String(25), nullable=False),
    Index("reviews_by_image", "image", "when", "id"),
    Index("reviews_by_time", "when", "id"),
    sqlite_autoincrement=True,  # never reuse an id
)
VERSION = Table("alembic_version", MetaData(), Column("version_num", String(32), primary_key=True))
# The number of our advisory lock in PostgreSQL; no other program in the same database should use it.
LOCK = 0x466F7665616C


def _reviews(operations: Operations) -> None:
    operations.create_table(
        "reviews",
        Column("id", Integer, primary_key=True),
        Column("image", String(64), nullable=False),
        Column("name", Text, nullable=False),
        Column("given", Integer),
        Column("grade", Integer),
        Column("reviewer", Text, nullable=False),
        Column("note", Text, nullable=False),
        Column("probabilities", JSON),
        Column("model", Text, nullable=False),
        Column("when", String(25), nullable=False),
        sqlite_autoincrement=True,
    )
    operations.create_index("reviews_by_image", "reviews", ["image", "when", "id"])
    operations.create_index("reviews_by_time", "reviews", ["when", "id"])


REVISIONS: tuple[tuple[str, Callable[[Operations], None]], ...] = (("0001", _reviews),)


def upgrade(engine: Engine) -> None:
    """Bring the tables to this Foveal's revision, in one transaction; other servers wait for it.

    FovealError if the database is from a newer Foveal or another program.
    """
    with engine.execution_options(writes=True).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")  # changing a large table may take long
            connection.execute(select(func.pg_advisory_xact_lock(LOCK)))
        VERSION.create(connection, checkfirst=True)
        found = list(connection.scalars(select(VERSION.c.version_num)))
        missing = _missing(found)
        operations = Operations(MigrationContext.configure(connection))
        for _, change in missing:
            change(operations)
        if missing:
            _stamp(connection, missing[-1][0])


def _missing(found: list[str]) -> tuple[tuple[str, Callable[[Operations], None]], ...]:
    """The revisions that a database with the revision `found` lacks."""
    known = [revision for revision, _ in REVISIONS]
    if not found:
        return REVISIONS
    if len(found) > 1 or found[0] not in known:
        what = f"the tables have revision {', '.join(found)}: they were made by a newer Foveal or another program"
        expected = f"{known[0]} to {known[-1]}"
        raise FovealError("reviews.revision", what, expected=expected, fix="update Foveal or give another database")
    return REVISIONS[known.index(found[0]) + 1 :]


def _stamp(connection: Connection, revision: str) -> None:
    connection.execute(VERSION.delete())
    connection.execute(VERSION.insert().values(version_num=revision))
