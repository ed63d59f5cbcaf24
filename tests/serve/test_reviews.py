"""The store of reviews in SQLite: what is kept, what counts, what is refused, and how a database is upgraded."""

import sqlite3
import sys
import threading
from contextlib import closing
from dataclasses import replace

import pandas as pd
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Integer

from foveal.data.corrections import corrections_text, read_corrections
from foveal.serve import schema
from foveal.serve.reviews import LIMITS, Review, open_reviews

REVIEW = Review(
    image="a" * 64, name="left.jpg", given=2, grade=3, reviewer="K", note="beads", probabilities=(0.1, 0.9), model="run"
)
SECRET = "s3cret"


@pytest.fixture
def reviews(tmp_path):
    with closing(open_reviews(str(tmp_path / "reviews.db"))) as store:
        yield store


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands where the list says."""

    class Clock:
        now = "2026-11-24T20:00:00+00:00"

        @classmethod
        def isoformat(cls, timespec):
            assert timespec == "seconds"
            return cls.now

    monkeypatch.setattr("foveal.serve.reviews.datetime", type("Clocks", (), {"now": lambda zone: Clock}))
    return Clock


def image(number):
    return f"{number:064x}"


def test_a_review_comes_back_with_its_number_and_time_and_is_there_after_closing(tmp_path):
    place = str(tmp_path / "new" / "reviews.db")
    with closing(open_reviews(place)) as store:
        kept = store.add(REVIEW)
    assert replace(kept, id=None, when="") == REVIEW
    assert kept.id == 1 and kept.when.endswith("+00:00") and len(kept.when) == 25
    with closing(open_reviews(f"sqlite:///{place}")) as store:
        assert store.latest() == (1, [kept])
        assert store.add(replace(kept, grade=None, given=None, probabilities=None)).id == 2
        assert store.latest(limit=1)[1][0].probabilities is None


def test_the_newest_come_first_page_by_page(reviews, clock):
    for number, second in enumerate((3, 1, 2, 3)):
        clock.now = f"2026-11-24T20:00:0{second}+00:00"
        reviews.add(replace(REVIEW, image=image(number)))
    assert [review.id for review in reviews.latest()[1]] == [4, 1, 3, 2]
    total, page = reviews.latest(limit=2, offset=1)
    assert total == 4 and [review.id for review in page] == [1, 3]
    assert reviews.latest(offset=9) == (4, [])
    for limit, offset in ((0, 0), (1001, 0), (-1, 0), (1, -1), (1, 2**63)):
        with pytest.raises(ValueError, match="limit must be 1 to 1000"):
            reviews.latest(limit, offset)


def test_the_newest_review_of_an_image_counts_by_time_then_by_number(reviews, clock):
    clock.now = "2026-11-24T20:00:05+00:00"
    reviews.add(replace(REVIEW, grade=4, note="later by time"))
    clock.now = "2026-11-24T20:00:01+00:00"
    reviews.add(replace(REVIEW, grade=1, note="earlier by time"))
    assert reviews.corrections()["why"].tolist() == ["later by time"]
    clock.now = "2026-11-24T20:00:05+00:00"
    reviews.add(replace(REVIEW, grade=0, name="renamed.jpg", note="same second, later number"))
    row = {"id": "renamed.jpg", "old": "2", "new": "0", "who": "K", "when": clock.now}
    assert reviews.corrections().to_dict("records") == [row | {"why": "same second, later number"}]
    reviews.add(replace(REVIEW, grade=2))
    assert reviews.corrections().empty and reviews.corrections(everything=True)["new"].tolist() == ["2"]


def test_only_disagreements_are_corrections_and_ungradable_is_empty(reviews):
    for number, (given, grade) in enumerate([(2, 2), (2, None), (None, 2), (None, None), (0, 1)]):
        reviews.add(replace(REVIEW, image=image(number), name=f"{number}.jpg", given=given, grade=grade))
    table = reviews.corrections()
    assert table[["id", "old", "new"]].to_numpy().tolist() == [
        ["1.jpg", "2", ""],
        ["2.jpg", "", "2"],
        ["4.jpg", "0", "1"],
    ]
    assert reviews.corrections(everything=True)["id"].tolist() == [f"{number}.jpg" for number in range(5)]


def test_two_images_of_one_name_are_told_apart_also_where_one_was_confirmed(reviews):
    reviews.add(replace(REVIEW, image=image(1), grade=2))
    reviews.add(replace(REVIEW, image=image(2), grade=3))
    reviews.add(replace(REVIEW, image=image(3), name="right.jpg"))
    assert reviews.corrections()["id"].tolist() == [f"left.jpg (sha256 {image(2)})", "right.jpg"]
    assert len(set(reviews.corrections(everything=True)["id"])) == 3


def test_corrections_are_read_back_and_no_spreadsheet_runs_them(reviews, tmp_path):
    texts = [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        "\tx",
        "'=1",
        "''-",
        "'s Gravenhage",
        'a,"b"\r\nc',
        "a\rb",
        "左眼 👁",
        "None",
        "NA",
    ]
    for number, text in enumerate(texts):
        reviews.add(replace(REVIEW, image=image(number), name=f"{text}x", note=text, reviewer=f"{text}."))
    table, file = reviews.corrections(), tmp_path / "corrections.csv"
    file.write_bytes(corrections_text(table).encode())
    pd.testing.assert_frame_equal(read_corrections(file), table)
    assert table["why"].tolist() == texts
    cells = pd.read_csv(file, dtype=str, keep_default_na=False)[["id", "who", "why"]].to_numpy().ravel()
    assert not [cell for cell in cells if cell[0] in "=+-@\t\r"]
    assert "'s Gravenhage" in cells and "''s Gravenhage" not in cells


def test_without_reviews_the_table_has_its_columns_and_can_be_read(reviews, tmp_path):
    (tmp_path / "c.csv").write_text(corrections_text(reviews.corrections()))
    assert read_corrections(tmp_path / "c.csv").empty


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image": "A" * 64}, "image must be the SHA-256"),
        ({"image": "../etc"}, "image must be the SHA-256"),
        ({"name": " "}, "name is empty"),
        ({"reviewer": ""}, "reviewer is empty"),
        ({"name": "n" * (LIMITS["name"] + 1)}, "name has 401 characters; at most 400"),
        ({"reviewer": "n" * (LIMITS["reviewer"] + 1)}, "reviewer has 101 characters"),
        ({"note": "n" * (LIMITS["note"] + 1)}, "note has 4001 characters"),
        ({"note": "a\0b"}, "note holds a zero byte"),
        ({"name": "\udc80.jpg"}, "name holds a zero byte or half a character"),
        ({"grade": -1}, "grade must be the number of a class"),
        ({"grade": 100}, "grade must be"),
        ({"given": True}, "given must be"),
        ({"given": 1.0}, "given must be"),
        ({"probabilities": (0.5, float("nan"))}, "probabilities must be numbers from 0 to 1"),
        ({"probabilities": (1.1,)}, "probabilities must be"),
        ({"probabilities": (0.0,) * 101}, "at most 100"),
    ],
)
def test_what_cannot_be_kept_is_refused(reviews, change, message):
    with pytest.raises(ValueError, match=message):
        reviews.add(replace(REVIEW, **change))
    assert reviews.latest()[0] == 0
    longest = {name: "n" * limit for name, limit in LIMITS.items()}
    assert replace(reviews.add(replace(REVIEW, **longest)), id=None, when="") == replace(REVIEW, **longest)


def test_many_threads_add_and_read_at_once(reviews):
    kept, faults = [], []

    def work(number):
        try:
            for _ in range(5):
                kept.append(reviews.add(replace(REVIEW, image=image(number))).id)
                reviews.latest(limit=3)
        except Exception as error:  # noqa: BLE001 - a thread's fault must reach the test
            faults.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults and sorted(kept) == list(range(1, 41)) and reviews.latest()[0] == 40


def test_a_commit_is_synced_to_the_disk(reviews):
    with reviews._engine.connect() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("synchronous", "fullfsync")
        }
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    assert settings == {"synchronous": 2, "fullfsync": 1}  # FULL: the log is synced at every commit


def test_a_database_that_fails_is_told_without_the_review(reviews, tmp_path):
    with closing(sqlite3.connect(tmp_path / "reviews.db")) as other:
        other.execute("DROP TABLE reviews")
    with pytest.raises(OSError, match="reviews.db cannot be written now: no such table: reviews$") as told:
        reviews.add(replace(REVIEW, note="of a patient"))
    assert "patient" not in str(told.value) and told.value.__cause__ is None
    with pytest.raises(OSError, match="cannot be read now"):
        reviews.latest()
    with pytest.raises(OSError, match="cannot be read now"):
        reviews.corrections()


@pytest.mark.parametrize("address", ["", ":memory:", "sqlite://", "sqlite:///:memory:", "sqlite:///a?mode=ro"])
def test_what_would_be_lost_with_the_server_is_no_address(address):
    with pytest.raises(ValueError, match="expected FILE, sqlite:///FILE or postgresql"):
        open_reviews(address)


def test_files_and_folders_that_will_not_do_are_told(tmp_path):
    (tmp_path / "text.db").write_text("no database, but long enough to have a header of its own " * 20)
    with pytest.raises(ValueError, match="text.db cannot be opened: file is not a database; give the file of"):
        open_reviews(str(tmp_path / "text.db"))
    with pytest.raises(ValueError, match="it is a folder; give a file"):
        open_reviews(str(tmp_path))
    with pytest.raises(ValueError, match="cannot be opened: .*; give a file in a folder that this account can write"):
        open_reviews(str(tmp_path / "text.db" / "reviews.db"))
    with pytest.raises(ValueError, match="unable to open database file; give a file in a folder that this account"):
        open_reviews("/proc/reviews.db")


@pytest.mark.parametrize(
    ("address", "message"),
    [
        (
            f"postgresql://clinic:{SECRET}@127.0.0.1:1/reviews",
            r"postgresql://127.0.0.1:1/reviews cannot be opened: .*rights",
        ),
        (f"postgresql://127.0.0.1:1/reviews?password={SECRET}", "cannot be opened: .*check that the server runs"),
        (f"postgresql://clinic:{SECRET}", "cannot be read; expected .* %40"),
        (f"postgresql://clinic:p@{SECRET}@127.0.0.1/reviews", "cannot be read; expected .* %40"),
        (f"postgresql://clinic:{SECRET}@127.0.0.1:1/reviews?odd=1", "cannot be opened: .*odd"),
        (f"mysql://clinic:{SECRET}@127.0.0.1/reviews", "of no known kind"),
    ],
)
def test_a_database_out_of_reach_is_told_without_its_password(address, message):
    with pytest.raises(ValueError, match=message) as told:
        open_reviews(address)
    assert SECRET not in str(told.value) and told.value.__cause__ is None


def test_a_password_that_a_driver_repeats_is_taken_out(monkeypatch):
    def refuse(url):
        raise OSError(f"no such thing: {url.password} and {url.query['sslpassword']}")

    monkeypatch.setattr("foveal.serve.reviews.open_engine", refuse)
    with pytest.raises(ValueError, match=r"no such thing: \*\*\* and \*\*\*;"):
        open_reviews(f"postgresql://clinic:{SECRET}%40@host/reviews?sslpassword=other")


def test_a_missing_driver_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ValueError, match=r"install its driver: pip install 'foveal\[postgresql\]'"):
        open_reviews("postgresql://host/reviews")


def test_the_revisions_make_the_tables_that_are_used(reviews, tmp_path):
    with reviews._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), schema.REVIEWS.metadata) == []
        assert MigrationContext.configure(connection).get_current_revision() == schema.REVISIONS[-1][0]


def more(operations):
    operations.add_column("reviews", Column("seconds", Integer))


def broken(operations):
    operations.add_column("reviews", Column("other", Integer))
    raise ValueError("stopped half way")


def columns_of(place):
    with closing(sqlite3.connect(place)) as connection:
        return [row[1] for row in connection.execute("PRAGMA table_info(reviews)")]


def test_an_older_database_is_upgraded_with_all_its_reviews_or_not_at_all(tmp_path, monkeypatch):
    place = tmp_path / "reviews.db"
    with closing(open_reviews(str(place))) as store:
        store.add(REVIEW)
    first = schema.REVISIONS
    monkeypatch.setattr(schema, "REVISIONS", (*first, ("0002", more), ("0003", broken)))
    with pytest.raises(ValueError, match="stopped half way"):
        open_reviews(str(place))
    assert not {"seconds", "other"} & set(columns_of(place))
    monkeypatch.setattr(schema, "REVISIONS", (*first, ("0002", more)))
    for _ in range(2):
        with closing(open_reviews(str(place))) as store:
            assert store.latest()[0] == 1
    assert columns_of(place)[-1] == "seconds"
    monkeypatch.setattr(schema, "REVISIONS", first)
    with pytest.raises(ValueError, match=r"revision 0002, this Foveal knows 0001 to 0001: a newer Foveal or another"):
        open_reviews(str(place))


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


def test_a_second_server_waits_while_the_first_makes_the_tables(tmp_path, monkeypatch):
    place, inside, go_on = str(tmp_path / "reviews.db"), threading.Event(), threading.Event()

    def slowly(operations):
        inside.set()
        assert go_on.wait(5)
        schema._reviews(operations)

    monkeypatch.setattr(schema, "REVISIONS", (("0001", slowly),))
    first = threading.Thread(target=lambda: open_reviews(place).close())
    first.start()
    assert inside.wait(5)
    monkeypatch.setattr(schema, "REVISIONS", (("0001", more),))  # would fail: the table is not there yet
    second = threading.Thread(target=lambda: open_reviews(place).close())
    second.start()
    second.join(0.1)
    assert second.is_alive()
    go_on.set()
    first.join()
    second.join()
    assert "seconds" not in columns_of(place)
