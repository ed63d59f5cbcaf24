"""The database of reviews: synced, upgraded as a whole, one for servers that start at once; told without secrets."""

import sqlite3
import sys
import threading
from contextlib import closing

import pytest
from sqlalchemy import event

from foveal.serve import reviews as module
from foveal.serve.database import REVIEWS
from foveal.serve.reviews import Review, open_reviews

REVIEW = Review(image="a" * 64, name="left.jpg", given=2, grade=3, reviewer="K")
SECRET = "s3cret"


@pytest.fixture
def reviews(tmp_path):
    with closing(open_reviews(str(tmp_path / "reviews.db"))) as store:
        yield store


def test_a_commit_is_synced_to_the_disk(reviews):
    with reviews._engine.connect() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("synchronous", "fullfsync")
        }
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    assert settings == {"synchronous": 2, "fullfsync": 1}  # FULL: the log is synced at every commit


def test_a_database_error_does_not_reveal_the_review(reviews, tmp_path, refuses):
    with closing(sqlite3.connect(tmp_path / "reviews.db")) as other:
        other.execute("DROP TABLE reviews")
    with refuses("reviews.unavailable", "reviews.db", "no such table") as told:
        reviews.add(Review(image="a" * 64, name="of a patient", given=2, grade=3, reviewer="K"))
    assert "patient" not in str(told.value) and told.value.__cause__ is None
    with refuses("reviews.unavailable", "reviews.db"):
        reviews.latest()
    with refuses("reviews.unavailable", "reviews.db"):
        reviews.table()


@pytest.mark.parametrize("address", ["", ":memory:", "sqlite://", "sqlite:///:memory:", "sqlite:///a?mode=ro"])
def test_what_would_be_lost_with_the_server_is_no_address(address, refuses):
    with refuses("reviews.address", "sqlite:///FILE", "postgresql://"):
        open_reviews(address)


def test_files_and_folders_that_will_not_do_are_told(tmp_path, refuses):
    (tmp_path / "text.db").write_text("no database, but long enough to have a header of its own " * 20)
    with refuses("reviews.unavailable", "text.db", "not a database"):
        open_reviews(str(tmp_path / "text.db"))
    with refuses("reviews.address", tmp_path):
        open_reviews(str(tmp_path))
    with refuses("reviews.unavailable", tmp_path / "text.db"):
        open_reviews(str(tmp_path / "text.db" / "reviews.db"))
    with refuses("reviews.unavailable", "/proc/reviews.db"):
        open_reviews("/proc/reviews.db")


@pytest.mark.parametrize(
    ("address", "code", "value"),
    [
        (f"postgresql://clinic:{SECRET}@127.0.0.1:1/reviews", "unavailable", "postgresql://127.0.0.1:1/reviews"),
        (f"postgresql://127.0.0.1:1/reviews?password={SECRET}", "unavailable", "127.0.0.1:1"),
        (f"postgresql://clinic:{SECRET}", "address", "%40"),
        (f"postgresql://clinic:p@{SECRET}@127.0.0.1/reviews", "address", "%40"),
        (f"postgresql://clinic:{SECRET}@127.0.0.1:1/reviews?odd=1", "unavailable", "odd"),
        (f"mysql://clinic:{SECRET}@127.0.0.1/reviews", "address", "sqlite:///FILE"),
    ],
)
def test_a_database_out_of_reach_is_told_without_its_password(address, code, value, refuses):
    with refuses(f"reviews.{code}", value) as told:
        open_reviews(address)
    assert SECRET not in str(told.value) and told.value.__cause__ is None


def test_a_password_that_a_driver_repeats_is_taken_out(monkeypatch, refuses):
    def refuse(url):
        raise OSError(f"no such thing: {url.password} and {url.query['sslpassword']}")

    monkeypatch.setattr(module, "open_engine", refuse)
    with refuses("reviews.unavailable", "*** and ***"):
        open_reviews(f"postgresql://clinic:{SECRET}%40@host/reviews?sslpassword=other")


def test_a_missing_driver_is_told(monkeypatch, refuses):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with refuses("reviews.unavailable", "foveal[postgresql]"):
        open_reviews("postgresql://host/reviews")


def test_a_database_of_another_revision_or_program_is_refused(tmp_path, refuses):
    open_reviews(str(tmp_path / "newer.db")).close()
    with closing(sqlite3.connect(tmp_path / "newer.db")) as other, other:
        other.execute("UPDATE alembic_version SET version_num = '0004'")
    with refuses("reviews.revision", "0004", "0003"):
        open_reviews(str(tmp_path / "newer.db"))
    with closing(sqlite3.connect(tmp_path / "other.db")) as other, other:
        other.execute("CREATE TABLE reviews (stars INTEGER)")
    with refuses("reviews.unavailable", "other.db", "reviews"):
        open_reviews(str(tmp_path / "other.db"))


def test_servers_that_start_at_once_make_one_database(tmp_path):
    place, barrier, faults = str(tmp_path / "reviews.db"), threading.Barrier(6), []

    def start():
        barrier.wait()
        try:
            with closing(open_reviews(place)) as store:
                store.add(REVIEW)
        except Exception as error:  # noqa: BLE001 - a thread's fault must reach the test
            faults.append(error)

    threads = [threading.Thread(target=start) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with closing(open_reviews(place)) as store:
        assert not faults and store.latest()[0] == 6


def test_a_second_server_waits_while_the_first_makes_the_tables(tmp_path):
    place, inside, go_on, made = str(tmp_path / "reviews.db"), threading.Event(), threading.Event(), []

    def slowly(table, connection, **options):
        made.append(table.name)
        inside.set()
        assert go_on.wait(5)

    event.listen(REVIEWS, "before_create", slowly)
    try:
        first = threading.Thread(target=lambda: open_reviews(place).close())
        first.start()
        assert inside.wait(5)
        second = threading.Thread(target=lambda: open_reviews(place).close())
        second.start()
        second.join(0.1)
        assert second.is_alive()
        go_on.set()
        first.join()
        second.join()
    finally:
        event.remove(REVIEWS, "before_create", slowly)
    assert made == ["reviews"]
