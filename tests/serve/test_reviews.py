"""The store of reviews in SQLite: what is kept, what counts, and what is refused."""

import threading
from contextlib import closing
from dataclasses import replace

import pandas as pd
import pytest

from foveal.serve import reviews as module
from foveal.serve.reviews import LIMITS, Review, decision_of, open_reviews
from foveal.sets.corrections import corrections_text, read_corrections

REVIEW = Review(
    image="a" * 64, name="left.jpg", given=2, grade=3, reviewer="K", note="beads", probabilities=[0.1, 0.9], model="run"
)


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

    monkeypatch.setattr(module, "datetime", type("Clocks", (), {"now": lambda zone: Clock}))
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


def test_the_newest_come_first_page_by_page(reviews, clock, refuses):
    for number, second in enumerate((3, 1, 2, 3)):
        clock.now = f"2026-11-24T20:00:0{second}+00:00"
        reviews.add(replace(REVIEW, image=image(number)))
    assert [review.id for review in reviews.latest()[1]] == [4, 1, 3, 2]
    total, page = reviews.latest(limit=2, offset=1)
    assert total == 4 and [review.id for review in page] == [1, 3]
    assert reviews.latest(offset=9) == (4, [])
    for limit, offset in ((0, 0), (1001, 0), (-1, 0), (1, -1), (1, 2**63)):
        with refuses("reviews.invalid", limit, offset, 1000):
            reviews.latest(limit, offset)


def test_the_newest_review_of_an_image_counts_by_time_then_by_number(reviews, clock):
    clock.now = "2026-11-24T20:00:05+00:00"
    reviews.add(replace(REVIEW, grade=4, note="later by time"))
    clock.now = "2026-11-24T20:00:01+00:00"
    reviews.add(replace(REVIEW, grade=1, note="earlier by time"))
    assert reviews.table()["why"].tolist() == ["later by time"]
    clock.now = "2026-11-24T20:00:05+00:00"
    reviews.add(replace(REVIEW, grade=0, name="renamed.jpg", note="same second, later number"))
    row = {"id": "renamed.jpg", "old": "2", "new": "0", "who": "K", "when": clock.now, "file_sha256": "a" * 64}
    assert reviews.table().to_dict("records") == [row | {"why": "same second, later number"}]
    reviews.add(replace(REVIEW, grade=2, reviewer="L"))
    assert reviews.table()[["who", "new"]].to_numpy().tolist() == [["K", "0"], ["L", "2"]]


@pytest.mark.parametrize(
    ("given", "lowest", "refers_by", "expected"),
    [
        ([0], 2, "threshold", (0, False, False)), ([2], 2, "grade", (2, True, False)),
        ([None], 2, None, (None, None, False)),
        ([4, 0], 2, "grade", (4, True, True)), ([0, None], 2, "grade", (None, None, True)),
        ([None, 3], 2, "grade", (3, True, True)), ([1, 1], 2, "threshold", (1, False, False)),
        ([0], 2, "oedema", (0, True, False)), ([2, 0], None, None, (0, None, True)),
    ],
)  # fmt: skip
def test_the_worst_opinion_decides_until_reviewers_agree(given, lowest, refers_by, expected):
    opinions = [replace(REVIEW, grade=grade, reviewer=str(number)) for number, grade in enumerate(given)]
    found = decision_of(opinions, lowest, refers_by)
    assert (found["grade"], found["referable"], found["disagreement"]) == expected
    assert [one["grade"] for one in found["opinions"]] == given
    assert decision_of([], lowest, refers_by) is None


def test_of_each_reviewer_the_newest_review_is_an_opinion(reviews):
    for reviewer, grade in (("A", 4), ("B", 0), (" a ", 1)):
        reviews.add(replace(REVIEW, reviewer=reviewer, grade=grade))
    assert [(one.reviewer, one.grade) for one in reviews.of_images(["a" * 64])["a" * 64]] == [("B", 0), (" a ", 1)]


def test_confirmations_are_in_the_table_and_ungradable_is_named(reviews):
    for number, (given, grade) in enumerate([(2, 2), (2, None), (None, 2), (None, None), (0, 1)]):
        reviews.add(replace(REVIEW, image=image(number), name=f"{number}.jpg", given=given, grade=grade))
    assert reviews.table()[["id", "old", "new"]].to_numpy().tolist() == [
        ["0.jpg", "2", "2"], ["1.jpg", "2", "ungradable"], ["2.jpg", "ungradable", "2"],
        ["3.jpg", "ungradable", "ungradable"], ["4.jpg", "0", "1"],
    ]  # fmt: skip


def test_images_with_the_same_name_get_different_ids(reviews):
    reviews.add(replace(REVIEW, image=image(1), grade=2))
    reviews.add(replace(REVIEW, image=image(2), grade=3))
    reviews.add(replace(REVIEW, image=image(3), name="right.jpg"))
    assert reviews.table()["id"].tolist() == [*(f"left.jpg (sha256 {image(k)})" for k in (1, 2)), "right.jpg"]


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
    table, file = reviews.table(), tmp_path / "corrections.csv"
    file.write_bytes(corrections_text(table).encode())
    pd.testing.assert_frame_equal(read_corrections(file), table.drop(columns="file_sha256"))
    assert table["why"].tolist() == texts
    cells = pd.read_csv(file, dtype=str, keep_default_na=False)[["id", "who", "why"]].to_numpy().ravel()
    assert not [cell for cell in cells if cell[0] in "=+-@\t\r"]
    assert "'s Gravenhage" in cells and "''s Gravenhage" not in cells


def test_without_reviews_the_table_has_its_columns_and_can_be_read(reviews, tmp_path):
    (tmp_path / "c.csv").write_text(corrections_text(reviews.table()))
    assert read_corrections(tmp_path / "c.csv").empty


@pytest.mark.parametrize(
    "change",
    [
        {"image": "A" * 64}, {"image": "../etc"}, {"name": " "}, {"reviewer": ""},
        {"name": "n" * (LIMITS["name"] + 1)}, {"reviewer": "n" * (LIMITS["reviewer"] + 1)},
        {"note": "n" * (LIMITS["note"] + 1)}, {"note": "a\0b"}, {"name": "\udc80.jpg"},
        {"grade": -1}, {"grade": 100}, {"given": True}, {"given": 1.0},
        {"probabilities": [0.5, float("nan")]}, {"probabilities": [1.1]}, {"probabilities": [0.0] * 101},
    ],
)  # fmt: skip
def test_invalid_reviews_are_refused(reviews, change, refuses):
    with refuses("reviews.invalid", *change):
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


def test_reviews_are_found_by_name_reviewer_and_note(tmp_path):
    with closing(open_reviews(str(tmp_path / "reviews.db"))) as store:
        for name, reviewer, note in (
            ("17_left.jpg", "Ana", ""),
            ("18_left.jpg", "Ben", "50 % blurred"),
            ("a%b.jpg", "Ben", ""),
        ):
            store.add(Review(image="a" * 64, name=name, given=1, grade=1, reviewer=reviewer, note=note))
        found = {
            text: [review.name for review in store.latest(search=text)[1]]
            for text in ("17", "BEN", "blurred", "%", "x")
        }
        assert store.latest(limit=1, search="ben")[0] == 2
    assert found == {"17": ["17_left.jpg"], "BEN": ["a%b.jpg", "18_left.jpg"], "blurred": ["18_left.jpg"],
                     "%": ["a%b.jpg", "18_left.jpg"], "x": []}  # fmt: skip
