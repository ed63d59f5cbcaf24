"""No review that was confirmed is lost: not when the program is killed, and not when the database server is."""

import random
import signal
import sqlite3
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

import foveal
from foveal.serve.database import LOCK
from foveal.serve.reviews import Review, open_reviews

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
# Prints the number of each review once `add` has returned it. A database that fails ends it, as it does a request.
CLIENT = """
import sys
from foveal.serve.reviews import Review, open_reviews
sys.stdin.readline()
store = open_reviews(sys.argv[1])
for _ in range(int(sys.argv[2])):
    review = Review(image="a" * 64, name="left.jpg", given=2, grade=3, reviewer="K")
    print(store.add(review).id, flush=True)
"""
FOR_EVER = 10**9
KILLS = 4


def clients_of(address, how_many, count=FOR_EVER):
    """Programs that open a database at the same time and add `count` reviews each."""
    options = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE) | {"text": True}
    command = [sys.executable, "-c", CLIENT, address, str(count)]
    clients = [subprocess.Popen(command, cwd=ROOT, **options) for _ in range(how_many)]
    for client in clients:
        client.stdin.write("\n")
        client.stdin.flush()
    return clients


def wait_for_one(client):
    """The first number that it prints: it is at work."""
    line = client.stdout.readline()
    assert line.endswith("\n"), client.communicate()[1]
    return int(line)


def confirmed(client):
    """The numbers that a client had printed when it ended; half a line is none."""
    out = client.stdout.read()  # `communicate` alone would leave out what a `readline` has read ahead
    client.communicate(timeout=60)
    return [int(line) for line in out.split("\n")[:-1]]


def numbers_in(address):
    """The numbers of all reviews in a database, straight from its table."""
    if "://" not in address:
        with closing(sqlite3.connect(address)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            return {row[0] for row in connection.execute("SELECT id FROM reviews")}
    with psycopg.connect(address) as connection:
        return {row[0] for row in connection.execute("SELECT id FROM reviews")}


def kill_clients(address):
    moments, printed = random.Random(0), []
    for _ in range(KILLS):
        (client,) = clients_of(address, 1)
        printed.append(wait_for_one(client))
        time.sleep(moments.uniform(0, 0.4))
        client.send_signal(signal.SIGKILL)
        printed += confirmed(client)
        assert client.returncode == -signal.SIGKILL
        there = numbers_in(address)
        assert set(printed) <= there
        assert foveal.audit(address)["kinds"]["review"] == len(there)
        assert len(there) <= len(printed) + KILLS  # at most one a kill that was kept and not yet confirmed
    assert len(printed) == len(set(printed)) > 2 * KILLS


def test_a_killed_program_loses_no_confirmed_review_in_sqlite(tmp_path):
    kill_clients(str(tmp_path / "reviews.db"))


def test_a_killed_program_loses_no_confirmed_review_in_postgresql(database):
    kill_clients(database)


def test_a_killed_database_server_loses_no_confirmed_review_and_the_program_goes_on(postgresql, database, refuses):
    moments, printed = random.Random(1), []
    with closing(open_reviews(database)) as store:
        for _ in range(2):
            clients = clients_of(database, 2)
            printed += [wait_for_one(client) for client in clients]
            time.sleep(moments.uniform(0, 0.4))
            postgresql.kill()
            for client in clients:
                printed += confirmed(client)
                assert client.returncode == 1  # the failure was told, not taken for a success
            with refuses("reviews.unavailable"):
                store.latest()
            postgresql.start()
            there = numbers_in(database)
            assert set(printed) <= there and len(there) <= len(printed) + 4
            assert store.latest()[0] == len(there)  # a store that was open when the server died
    assert len(printed) == len(set(printed)) > 4


def start_together(address):
    for client in clients_of(address, 4, count=5):
        out, err = client.communicate(timeout=60)
        assert client.returncode == 0, err
        assert len(out.split()) == 5
    assert len(numbers_in(address)) == 20


def test_processes_that_start_at_once_make_one_database_in_sqlite(tmp_path):
    start_together(str(tmp_path / "reviews.db"))


def test_processes_that_start_at_once_make_one_database_in_postgresql(database):
    start_together(database)


def test_postgresql_gives_the_same_answers_as_sqlite(database, tmp_path):
    stores = [open_reviews(address) for address in (database, str(tmp_path / "reviews.db"))]
    for number, (given, grade) in enumerate([(2, 2), (2, None), (None, 2), (None, None), (0, 1)]):
        review = Review(image=f"{number // 2:064x}", name=f"{number % 3}.jpg", given=given, grade=grade, reviewer="K")
        for store in stores:
            store.add(review)
    answers = [(store.latest(limit=3), store.table()) for store in stores]
    for store in stores:
        store.close()
    drop = ["when"]  # a second may have passed between the two
    for one, other in zip(answers[0][1:], answers[1][1:], strict=True):
        assert one.drop(columns=drop).equals(other.drop(columns=drop)) and len(one) > 1
    (total, page), (other_total, other_page) = answers[0][0], answers[1][0]
    assert total == other_total == 5 and [review.id for review in page] == [review.id for review in other_page]


def test_synchronous_commit_is_switched_on(postgresql, database):
    name = make_url(database).database
    postgresql.run(f"ALTER DATABASE {name} SET synchronous_commit TO off")
    with closing(open_reviews(database)) as store, store._engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"
        connection.rollback()
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"


def test_a_statement_has_a_time_and_a_lost_server_is_noticed(postgresql, database):
    with closing(open_reviews(database)) as store, store._engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar_one() == "30s"
        connection.rollback()
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar_one() == "30s"
        waits = connection.connection.dbapi_connection.info.get_parameters()
        assert waits["tcp_user_timeout"] == "30000" and waits["connect_timeout"] == "10"
        assert 10 < sum(int(waits[f"keepalives_{name}"]) for name in ("idle", "interval", "count")) < 30
    postgresql.run(f"ALTER DATABASE {make_url(database).database} SET statement_timeout TO '7s'")
    with closing(open_reviews(database)) as store, store._engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar_one() == "7s"  # as it was chosen there


def test_a_server_waits_for_another_one_that_makes_the_tables_for_long(postgresql, database):
    postgresql.run(f"ALTER DATABASE {make_url(database).database} SET statement_timeout TO '50ms'")
    with psycopg.connect(database) as other, ThreadPoolExecutor(1) as threads:
        other.execute("SELECT pg_advisory_xact_lock(%s::bigint)", [LOCK])
        opened = threads.submit(open_reviews, database)
        time.sleep(0.3)
        assert not opened.done()
        other.rollback()
        opened.result(timeout=5).close()


def test_a_stopped_server_is_reported_in_time_and_used_again_later(
    postgresql, database, browsing, photographs, review_of
):
    client = browsing(reviews=database, limits={"timeout": 2.0})
    assert client.get("/v1/reviews").json()["total"] == 0
    with postgresql.paused(), ThreadPoolExecutor(48) as threads:
        began = time.monotonic()
        asked = [threads.submit(client.get, "/v1/reviews") for _ in range(48)]
        for path in ("/healthz", "/readyz", "/", "/static/page.js"):
            assert client.get(path).status_code == 200
        answers = [one.result() for one in asked]
        assert {answer.status_code for answer in answers} == {503} and time.monotonic() - began < 15
        assert {answer.json()["error"]["code"] for answer in answers} == {"reviews.unavailable"}
    end = time.monotonic() + 30
    while client.get("/v1/reviews").status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert client.post("/v1/reviews", json=review_of(client, photographs["0.jpg"])).status_code == 201


def test_wrong_passwords_missing_rights_and_encodings_are_reported(postgresql, database, refuses):
    for wrong, message in (
        (database.replace(postgresql.password, "a-wrong-one"), "password authentication failed"),
        (database.replace("/test_", "/no_"), "does not exist"),
    ):
        with refuses("reviews.unavailable", message) as told:
            open_reviews(wrong)
        assert "a-wrong-one" not in str(told.value) and postgresql.password not in str(told.value)
    postgresql.run("CREATE ROLE reader LOGIN PASSWORD 'reader'")
    try:
        with refuses("reviews.unavailable", "permission denied"):
            open_reviews(database.replace(f"clinic:{postgresql.password}", "reader:reader"))
    finally:
        postgresql.run("DROP ROLE reader")
    postgresql.run("CREATE DATABASE narrow ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    with refuses("reviews.encoding", "LATIN1", "createdb"):
        open_reviews(postgresql.url.replace("/postgres?", "/narrow?"))
