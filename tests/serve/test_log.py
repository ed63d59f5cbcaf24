"""The log: every answer and review has a line; what was changed, removed or added is found; what is erased is gone."""

import hashlib
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from starlette.testclient import TestClient

import foveal
from foveal.serve.database import REVISION
from foveal.serve.log import Line, checked
from foveal.serve.reviews import Review, existing, open_reviews

PATIENT = f"name-{hashlib.sha256(b'4711').hexdigest()[:16]}"


def lines_in(place):
    with closing(existing(place)) as reviews, reviews.lines() as lines:
        return list(lines)


@pytest.fixture
def place(tmp_path):
    """A database with an answer and two reviews: of one patient, and of another who is not in the log."""
    place = str(tmp_path / "reviews.sqlite")
    with closing(open_reviews(place)) as reviews:
        reviews.log([{"kind": "answer", "image": "a" * 64, "name": "secret.jpg", "patient": PATIENT, "grade": 2}])
        reviews.add(Review(image="a" * 64, name="secret.jpg", given=2, grade=3, reviewer="K"))
        reviews.add(Review(image="b" * 64, name="12_left.jpg", given=0, grade=0, reviewer="K"))
    return place


def change(place, statement):
    with closing(sqlite3.connect(place)) as connection, connection:
        connection.execute(statement)


def test_a_whole_log_passes_and_its_last_line_is_known_later(place):
    found = foveal.audit(place)
    assert found["kinds"] == {"begin": 1, "answer": 1, "review": 2} and found["last"].startswith("4:")
    with closing(open_reviews(place)) as reviews:
        reviews.log([{"kind": "answer", "image": "c" * 64}])
    assert foveal.audit(place, known=found["last"])["last"].startswith("5:")


@pytest.mark.parametrize(
    ("statement", "value"),
    [
        ("UPDATE log SET content = replace(content, '\"grade\": 3', '\"grade\": 2') WHERE number = 3", "3"),
        ("UPDATE log SET \"when\" = '2020-01-01T00:00:00.000+00:00' WHERE number = 2", "2"),
        ("DELETE FROM log WHERE number = 2", "2"),
        ("DELETE FROM log WHERE number = 1", "1"),
        ("DELETE FROM log", ""),
        ("UPDATE log SET number = 9 WHERE number = 4", "4"),
        ("UPDATE log SET content = NULL WHERE number = 2", "2"),
        ("UPDATE reviews SET grade = 4 WHERE id = 1", "1"),
        ("DELETE FROM reviews WHERE id = 2", "2"),
        ("INSERT INTO reviews SELECT 7, image, name, given, grade, reviewer, note, probabilities, model, \"when\" "
         "FROM reviews WHERE id = 1", "7"),
    ],
)  # fmt: skip
def test_a_change_is_found(place, statement, value, refuses):
    change(place, statement)
    with refuses("log.broken", value):
        foveal.audit(place)


def test_lines_removed_from_the_end_are_found_with_a_known_line(place, refuses):
    known = foveal.audit(place)["last"]
    change(place, "DELETE FROM log WHERE number = 4")
    change(place, "DELETE FROM reviews WHERE id = 2")
    assert foveal.audit(place)["last"].startswith("3:")
    with refuses("log.broken", known):
        foveal.audit(place, known=known)
    with refuses("option.value", "12"):
        foveal.audit(place, known="12")


def test_a_forged_chain_without_the_last_hash_is_found():
    digest = hashlib.sha256(b"{}").hexdigest()
    lines = [Line(1, "now", "{}", digest, "f" * 64)]
    with pytest.raises(foveal.FovealError):
        list(checked(lines))


def test_what_is_erased_is_gone_and_the_log_still_holds(place, refuses):
    before = foveal.audit(place)["last"]
    assert foveal.erase(place, patient="4711") == {"lines": 2, "reviews": 1, "photographs": 0}
    assert foveal.audit(place)["last"] == before  # nothing without --yes
    with refuses("option.missing", "--keep-images"):  # or its photographs could not be found any more
        foveal.erase(place, patient="4711", yes=True)
    assert foveal.erase(place, patient="4711", keep_images="none", yes=True) == {
        "lines": 2,
        "reviews": 1,
        "photographs": 0,
    }
    assert foveal.audit(place, known=before)["kinds"] == {"begin": 1, "": 2, "review": 1, "erase": 1}
    assert b"secret" not in Path(place).read_bytes()
    assert lines_in(place)[-1].values()["lines"] == [2, 3]
    # The other patient is known only by the name in a review.
    assert foveal.erase(place, patient="12", keep_images="none", yes=True) == {
        "lines": 1,
        "reviews": 1,
        "photographs": 0,
    }
    assert foveal.audit(place)["kinds"] == {"begin": 1, "": 3, "erase": 2}
    for nothing in ({"image": "b" * 64}, {"patient": "nobody"}):  # a typing error must not look like success
        with refuses("erase.nothing"):
            foveal.erase(place, **nothing, keep_images="none", yes=True)


def test_what_is_older_than_a_day_is_erased(place):
    assert foveal.erase(place, before="2020-01-01", keep_images="none", yes=True) == {
        "lines": 0,
        "reviews": 0,
        "photographs": 0,
    }
    found = foveal.erase(place, before="2999-01-01", keep_images="none", yes=True)
    assert found == {"lines": 3, "reviews": 2, "photographs": 0}
    assert foveal.audit(place)["kinds"] == {"begin": 1, "": 3, "erase": 1}


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({}, "option.missing"),
        ({"patient": "1", "before": "2020-01-01"}, "option.missing"),
        ({"before": "yesterday"}, "option.value"),
        ({"before": "2026-13-45"}, "option.value"),
        ({"before": "2025-02-29"}, "option.value"),
        ({"image": "12"}, "option.value"),
        ({"patient": "1", "keep_images": "absent"}, "file.missing"),
    ],
)
def test_what_cannot_be_erased_is_refused(place, options, code, refuses):
    with refuses(code):
        foveal.erase(place, **options)


def test_a_database_that_does_not_exist_is_not_made(tmp_path, refuses):
    for verb in (foveal.audit, lambda place: foveal.erase(place, patient="1")):
        with refuses("reviews.missing", "absent.sqlite"):
            verb(str(tmp_path / "absent.sqlite"))
    assert not list(tmp_path.iterdir())


def test_a_database_without_a_log_gets_one_and_its_reviews_count_as_older(place):
    change(place, "DROP TABLE log")
    change(place, "UPDATE alembic_version SET version_num = '0001'")
    with closing(open_reviews(place)) as reviews:
        reviews.add(Review(image="c" * 64, name="c.jpg", given=0, grade=1, reviewer="K"))
    assert foveal.audit(place)["kinds"] == {"begin": 1, "review": 1}
    assert lines_in(place)[0].values()["reviews_before"] == 2
    with closing(sqlite3.connect(place)) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [(REVISION,)]


def test_the_server_logs_what_it_shows_and_to_whom(browsing, photographs, dicom_file, tmp_path):
    place = str(tmp_path / "reviews.sqlite")
    client = browsing(reviews=place)
    sent = {"X-Forwarded-User": "ana", "X-Name": "17_left.jpg", "Content-Type": "image/jpeg"}
    answer = client.post("/v1/grade?pictures=true", content=photographs["0.jpg"], headers=sent).json()["answers"][0]
    client.post("/v1/report", files={"images": ("5.dcm", photographs["5.dcm"])})
    client.post(
        "/v1/grade", files=[("images", ("1.jpg", photographs["1.jpg"])), ("images", ("2.jpg", b"\xff\xd8\xff"))]
    )
    for path in ("grade", "report"):  # a single photograph that cannot be read is an error, and logged all the same
        refused = client.post(f"/v1/{path}", files={"images": ("3.jpg", b"\xff\xd8\xff")})
        assert refused.status_code == 422 and refused.json()["error"]["fix"]
    review = {"image": answer["sha256"], "name": "17_left.jpg", "given": answer["grade"], "grade": 1, "reviewer": "B"}
    assert client.post("/v1/reviews", json=review, headers={"X-Forwarded-User": "ana"}).status_code == 201
    _, first, page, good, bad, alone, printed, opinion = [line.values() for line in lines_in(place)]
    assert (first["user"], first["client"], first["shown"]) == ("ana", "testclient", ["pictures"])
    told = {
        name: value for name, value in answer.items() if name not in ("sha256", "picture", "heat", "review", "decision")
    }
    assert (
        "review" not in first
        and told.items() <= first.items()
        and first["image"] == answer["sha256"]
        and "data:" not in json.dumps(first)
    )
    assert (first["eye"], first["patient"]) == ("left", f"name-{hashlib.sha256(b'17').hexdigest()[:16]}")
    assert page["shown"] == ["pictures", "report"] and page["patient"].startswith("dicom-")
    assert (good["answer"], bad["answer"]) == ("graded", "unreadable")
    assert alone["answer"] == printed["answer"] == "unreadable"
    assert review.items() <= opinion.items() and opinion["user"] == "ana" and opinion["kind"] == "review"
    assert foveal.audit(place)["kinds"] == {"begin": 1, "answer": 6, "review": 1}


def test_an_answer_that_cannot_be_logged_is_not_given(browsing, photographs, tmp_path):
    place = str(tmp_path / "reviews.sqlite")
    client = browsing(reviews=place)
    change(place, "DROP TABLE log")
    answer = client.post("/v1/grade", files={"images": ("0.jpg", photographs["0.jpg"])})
    assert answer.status_code == 503 and answer.json()["error"]["code"] == "reviews.unavailable"


def test_kept_photographs_of_a_patient_are_deleted_once_the_server_has_stopped(serving, photographs, tmp_path, refuses):
    place, kept = str(tmp_path / "reviews.sqlite"), tmp_path / "kept"
    with TestClient(serving(reviews=place, keep_images=str(kept)), base_url="http://127.0.0.1") as client:
        for name, data in (("17_left.jpg", "0.jpg"), ("17_right.jpg", "1.jpg"), ("18_left.jpg", "2.jpg")):
            answer = client.post("/v1/grade", files={"images": (name, photographs[data])}).json()["answers"][0]
            if name != "17_right.jpg":  # this one waits for its review
                review = {
                    "image": answer["sha256"],
                    "name": name,
                    "given": answer["grade"],
                    "grade": 1,
                    "reviewer": "K",
                }
                assert client.post("/v1/reviews", json=review).status_code == 201
        with refuses("output.busy", kept):
            foveal.erase(place, patient="17", keep_images=kept, yes=True)
    assert foveal.audit(place)["kinds"] == {"begin": 1, "answer": 3, "review": 2}  # nothing was erased
    assert foveal.erase(place, patient="17", keep_images=kept)["photographs"] == 2
    assert len(list(kept.glob("*.jpg"))) == 2
    assert foveal.erase(place, patient="17", keep_images=kept, yes=True)["photographs"] == 2
    assert len(list(kept.glob("*.jpg"))) == 1 and not list((kept / ".waiting").iterdir())
    assert len((kept / "labels.csv").read_text().splitlines()) == 2
