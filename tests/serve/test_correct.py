"""Reviews become corrections: by digest or name, from the page's download or the database, of several reviewers."""

import shutil
from contextlib import closing
from types import SimpleNamespace

import pandas as pd
import pytest

import foveal
from foveal.serve.reviews import Review, open_reviews
from foveal.sets.corrections import corrections_text
from foveal.sets.records import open_prepared
from foveal.sets.reviewed import decide, newest_opinions


@pytest.fixture(scope="module")
def made(tmp_path_factory, write_phantoms):
    folder = tmp_path_factory.mktemp("clinic")
    write_phantoms(folder / "photos", 24)
    return foveal.prepare(folder / "photos", out=folder / "set", size=32, scale="icdr")


@pytest.fixture
def data(made, tmp_path):
    return shutil.copytree(made, tmp_path / "set")


@pytest.fixture(params=["csv", "database"])
def reviewed(request, tmp_path, data):
    """Gives `correct` what a server has: reviews of (file digest or number of an image, grade, reviewer[, name])."""
    records = open_prepared(data).records

    def apply(*given, **options):
        place = tmp_path / "reviews.sqlite"
        with closing(open_reviews(str(place))) as store:
            for image, grade, reviewer, *name in given:
                digest = image if isinstance(image, str) else records["file_sha256"][image]
                about = {"name": name[0] if name else "a.png", "given": 0, "reviewer": reviewer, "note": "seen"}
                store.add(Review(image=digest, grade=grade, **about))
            table = store.table()
        if request.param == "csv":
            place = tmp_path / "reviews.csv"
            place.write_text(corrections_text(table))
        foveal.correct(data, reviews=str(place), **options)
        found = pd.read_csv(data / "reviewed.csv", dtype=str, keep_default_na=False)
        return open_prepared(data).records, found

    return apply


def test_corrections_are_applied_and_confirmations_counted(reviewed, data):
    labels = open_prepared(data).records["label"]
    new = (int(labels[0]) + 1) % 5
    records, found = reviewed((0, new, "K"), (1, int(labels[1]), "K"), (2, None, "K"), ("f" * 64, 1, "K", "b.png"))
    assert found["result"].tolist() == ["applied", "already so", "applied", "no image"]
    assert records["label"][0] == new and records["label"][1] == labels[1] and pd.isna(records["label"][2])
    assert "ungradable" in records["flags"][2]
    row = pd.read_csv(data / "corrections.csv", dtype=str).iloc[0]
    assert (row["id"], row["old"], row["new"]) == (records["id"][0], str(labels[0]), str(new))
    assert (row["who"], row["why"]) == ("K", "reviewed: seen") and row["when"].endswith("+00:00")
    before = (data / "corrections.csv").read_bytes()
    assert reviewed()[1]["result"].tolist() == ["already so"] * 3 + ["no image"]
    assert (data / "corrections.csv").read_bytes() == before


def test_reviews_in_the_test_part_are_counted(reviewed, data, capsys):
    records = open_prepared(data).records
    places = {part: records.index[records["split"] == part].tolist() for part in ("train", "test")}
    others = [(int(label) + 1) % 5 for label in records["label"]]
    reviewed(*((place, others[place], "K") for place in places["train"][:3]))
    assert "warning:" not in capsys.readouterr().out
    first, second, *_ = places["test"]
    reviewed((first, others[first], "L"), (second, None, "L"), (places["train"][3], others[places["train"][3]], "L"))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("warning:")]
    assert "1 correction " in line and "1 ungradable" in line


@pytest.mark.parametrize(("resolve", "expected"), [("list", None), ("majority", 3), ("newest", 4)])
def test_reviewers_who_disagree_are_listed_or_resolved(reviewed, resolve, expected, data):
    label = open_prepared(data).records["label"][0]
    given = [(0, 3, "A"), (0, 3, "B"), (0, 2, "C"), (0, 4, " c ")]  # of C the newest counts
    records, found = reviewed(*given, resolve=resolve)
    assert found["result"].tolist() == ["disagree" if expected is None else "applied"]
    assert records["label"][0] == (label if expected is None else expected)


def test_a_name_decides_only_where_a_digest_is_unknown(reviewed, data, capsys):
    records = pd.read_csv(data / "records.csv", dtype=str, keep_default_na=False)
    records.loc[0, "file_sha256"] = ""
    records.to_csv(data / "records.csv", index=False)
    names = records["id"].str.rpartition("/")[2] + ".png"
    labels, found = reviewed(("f" * 64, 4, "K", names[0]), ("e" * 64, 4, "K", names[1]))
    assert found["result"].tolist() == [
        "already so" if records["label"][0] == "4" else "applied", "other file"
    ]  # fmt: skip
    assert labels["label"][0] == 4 and str(labels["label"][1]) == records["label"][1]
    assert names[1] in capsys.readouterr().out


def test_a_name_is_found_with_folders_endings_and_capitals_as_somebody_wrote_it(data, tmp_path):
    records = open_prepared(data).records
    files = records["file"].tolist()
    given = [files[0], f"C:\\clinic\\photos\\{files[1]}".replace("/", "\\"), files[2].upper(),
             files[3].rpartition("/")[2].upper().replace(".PNG", ".jpg"), records["id"][4], f"elsewhere/{files[5][2:]}",
             "photo"]  # fmt: skip
    news = [(int(label) + 1) % 5 for label in records["label"][: len(given)]]
    pd.DataFrame({"id": given, "new": news, "who": "K"}).to_csv(tmp_path / "reviews.csv", index=False)
    foveal.correct(data, reviews=str(tmp_path / "reviews.csv"))
    found = pd.read_csv(data / "reviewed.csv", dtype=str, keep_default_na=False).set_index("name")
    assert found["result"][given].tolist() == [*["applied"] * 5, *["no image"] * 2]
    assert found["id"][given[:5]].tolist() == records["id"][:5].tolist()


def test_of_names_that_differ_in_capitals_the_one_written_so_is_meant(data, tmp_path):
    table = open_prepared(data).records
    table.loc[:1, "id"], table.loc[:1, "file"] = ["0/Eye", "0/eye"], ["0/Eye.png", "0/eye.png"]
    reviews = pd.DataFrame({"id": ["eye.png", "EYE.png"], "new": "1", "who": "K", "why": "", "when": "2026",
                            "file_sha256": "", "place": ""})  # fmt: skip
    opinions = newest_opinions(reviews, list("01234"))
    found = decide(SimpleNamespace(records=table), opinions, reviews[:0], "").set_index("name")
    assert (found["id"]["eye.png"], found["result"]["EYE.png"]) == ("0/eye", "other file")


def test_a_later_correction_stays(reviewed, data):
    image, label = open_prepared(data).records.iloc[0][["id", "label"]]
    foveal.correct(data, image, new=str((int(label) + 2) % 5), why="a")
    table = pd.read_csv(data / "corrections.csv", dtype=str).assign(when="2999-01-01T00:00:00+00:00")
    table.to_csv(data / "corrections.csv", index=False)
    records, found = reviewed((0, (int(label) + 1) % 5, "K"))
    assert found["result"].tolist() == ["decided"] and records["label"][0] == (int(label) + 2) % 5


def test_agreement_has_a_kappa_from_ten_photographs_on(reviewed, data, capsys):
    labels = open_prepared(data).records["label"]
    reviewed(*((k, int(labels[k]), who) for k in range(10) for who in ("A", "B")))
    assert "1.00" in capsys.readouterr().out


def test_times_are_compared_in_utc_and_a_review_without_one_is_of_now(data, tmp_path):
    records = open_prepared(data).records
    names, (first, second) = records["id"][:2] + ".png", (int(label) for label in records["label"][:2])
    rows = [(names[0], (first + 1) % 5, "K", "2026-11-29T10:00:00+08:00"),
            (names[0], (first + 2) % 5, "K", "2026-11-29T03:00"), (names[1], (second + 1) % 5, "K", "")]  # fmt: skip
    pd.DataFrame(rows, columns=["id", "new", "who", "when"]).to_csv(tmp_path / "own.csv", index=False)
    foveal.correct(data, reviews=str(tmp_path / "own.csv"))
    assert open_prepared(data).records["label"][:2].tolist() == [(first + 2) % 5, (second + 1) % 5]
    times = pd.read_csv(data / "corrections.csv", dtype=str)["when"]
    assert times[0] == "2026-11-29T03:00:00+00:00" and times[1] > times[0]


def test_a_table_that_a_spreadsheet_saved_again_is_read(data, tmp_path):
    records = open_prepared(data).records
    names, labels = records["id"][:3] + ".png", records["label"][:3].astype(int)
    news = ["4,0" if label != 4 else "3,0" for label in labels[:2]] + ["PDR" if labels[2] != 4 else "mild"]
    lines = ["id;new;who", *(f"{name};{new};K" for name, new in zip(names, news, strict=True))]
    (tmp_path / "own.csv").write_bytes("\r\n".join(lines).encode("utf-16"))
    foveal.correct(data, reviews=str(tmp_path / "own.csv"))
    expected = [int(new[0]) if new[0].isdigit() else 4 if new == "PDR" else 1 for new in news]
    assert open_prepared(data).records["label"][:3].tolist() == expected


def test_an_empty_grade_is_ungradable_only_in_tables_of_earlier_pages(data, tmp_path):
    name = open_prepared(data).records["id"][0] + ".png"
    header = "id,old,new,who,when,why\n"
    (tmp_path / "old.csv").write_text(f"{header}{name},0,,K,2026-11-29T19:26:45+00:00,\n")
    foveal.correct(data, reviews=str(tmp_path / "old.csv"))
    assert "ungradable" in open_prepared(data).records["flags"][0]


def test_what_is_no_table_of_reviews_is_refused_and_nothing_is_written(data, refuses, tmp_path):
    (tmp_path / "bad.csv").write_text("id,new\nx,9\n")
    (tmp_path / "empty.csv").write_text("id,new\n")
    (tmp_path / "gap.csv").write_text("id,new,file_sha256\na,1,\nb,,\n")
    (tmp_path / "when.csv").write_text("id,new,when\na,1,2026-11-29T19:26:45Z\nb,1,not a date\n")
    for name, code, *named in (
        ("bad.csv", "label.value", "bad.csv", "line 2", "x"), ("gap.csv", "reviews.no_grade", "gap.csv", "line 3", "b"),
        ("when.csv", "reviews.when", "when.csv", "line 3", "'not a date'"), ("empty.csv", "reviews.empty"),
        ("no.csv", "reviews.missing"), ("no.sqlite", "reviews.missing"),
    ):  # fmt: skip
        with refuses(code, *named):
            foveal.correct(data, reviews=str(tmp_path / name))
    with refuses("reviews.unavailable", "database"):
        foveal.correct(data, reviews=str(data / "card.json"))
    assert not (data / "corrections.csv").exists() and not (data / "reviewed.csv").exists()


def test_a_set_that_nobody_has_graded_gets_its_labels_from_reviews(tmp_path, write_phantoms, refuses):
    write_phantoms(tmp_path / "photos", 6)
    bare = foveal.prepare(tmp_path / "photos", out=tmp_path / "bare", size=32, unlabelled=-1)
    reviews = tmp_path / "reviews.csv"
    reviews.write_text("id,new,who,when\n000.png,2,Anna,2026-01-02\n001.png,PDR,Anna,2026-01-02\n")
    with refuses("label.scale", "000.png", "--scale icdr"):
        foveal.correct(bare, reviews=reviews)
    assert not (bare / "corrections.csv").exists()
    data = foveal.prepare(tmp_path / "photos", out=tmp_path / "set", size=32, unlabelled=-1, scale="icdr")
    foveal.correct(data, reviews=reviews)
    records = open_prepared(data).records
    assert dict(records.dropna(subset="label")[["id", "label"]].to_numpy()) == {"0/000": 2, "1/001": 4}
    assert open_prepared(data).card["scale"] == "icdr"
