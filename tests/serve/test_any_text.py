"""Whatever people type comes back as it was, from the database and from corrections.csv, or is refused."""

from contextlib import closing

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foveal.errors import FovealError
from foveal.serve.reviews import LIMITS, Review, open_reviews
from foveal.sets.corrections import corrections_text, read_corrections

# Any code point, zero bytes and half surrogate pairs too; more often what tables and spreadsheets trip over.
TEXT = st.one_of(
    st.text(st.characters(codec=None), max_size=30),
    st.text(st.sampled_from("'=+-@＝\t\r\n\",; 0N\ufeff\0\x1a\ud800"), max_size=8),
)
NAMES = st.one_of(TEXT, st.just("n" * (LIMITS["name"] + 1)))


def keepable(text):
    try:
        return "\0" not in text and bool(text.encode())
    except UnicodeEncodeError:
        return False


def check(store, file, name, note, reviewer):
    """One more review; `file` is where the table of corrections goes."""
    before = store.latest(limit=1)[0]
    review = Review(image=f"{before:064x}", name=name, given=1, grade=0, reviewer=reviewer, note=note)
    blank = not name.strip() or not reviewer.strip()
    right = not blank and keepable(name) and keepable(reviewer) and keepable(f"{note}.") and len(name) <= LIMITS["name"]
    if not right:
        with pytest.raises(FovealError) as caught:
            store.add(review)
        assert caught.value.code == "reviews.invalid"
        assert store.latest(limit=1)[0] == before
        return
    kept = store.add(review)
    assert (kept.name, kept.note, kept.reviewer) == (name, note, reviewer)
    assert store.latest(limit=1) == (before + 1, [kept])
    table = store.table()
    assert table[["who", "why"]].iloc[-1].tolist() == [reviewer, note] and table["id"].iloc[-1].startswith(name)
    file.write_bytes(corrections_text(table).encode())
    pd.testing.assert_frame_equal(read_corrections(file), table.drop(columns="file_sha256"))


def try_any_text(address, file, examples):
    with closing(open_reviews(address)) as store:
        # The store grows from example to example, so that one text may also harm the row of another.
        @settings(
            max_examples=examples, deadline=None, derandomize=True, database=None,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(NAMES, TEXT, TEXT)
        def each(name, note, reviewer):
            check(store, file, name, note, reviewer)

        each()
        assert store.latest(limit=1)[0] > examples / 10


@pytest.mark.slow
def test_any_text_is_kept_or_refused_by_sqlite(tmp_path):
    try_any_text(str(tmp_path / "reviews.db"), tmp_path / "corrections.csv", 60)


@pytest.mark.slow
def test_any_text_is_kept_or_refused_by_postgresql(database, tmp_path):
    try_any_text(database, tmp_path / "corrections.csv", 300)
