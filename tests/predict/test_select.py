"""Which photographs to grade next: unsure, far from what is known, spread over patients and cells; the worklist."""

import re
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.predict.choose import choose, unsureness
from foveal.predict.select import COLUMNS, _worklist
from foveal.sources.phantom import draw_phantom


def shares_of(*margins):
    """Probabilities of two classes with these margins."""
    return np.array([[(1 + margin) / 2, (1 - margin) / 2] for margin in margins])


def alone(n):
    """Every photograph in one cell, and of a patient of its own."""
    return {"cells": np.zeros(n), "patients": np.arange(n)}


def test_unsureness_is_one_minus_the_margin():
    assert unsureness(np.array([[0.5, 0.5, 0], [0, 1, 0], [0.2, 0.3, 0.5]])) == pytest.approx([1, 0, 0.8])


def test_the_most_unsure_comes_first_where_all_are_equally_far():
    features = np.eye(4)
    found, distance = choose(4, shares_of(0.9, 0.1, 0.5, 0.3), features, features[:0], **alone(4))
    assert found.tolist() == [1, 3, 2, 0] and distance == pytest.approx([1, 1, 1, 1])


def test_what_is_near_a_known_or_chosen_photograph_comes_last():
    features = np.array([[1, 0, 0], [1, 0.01, 0], [0, 1, 0], [0, 0, 1.0]])
    found, distance = choose(3, shares_of(0.1, 0.1, 0.2, 0.3), features, features[3:], **alone(4))
    assert found.tolist() == [0, 2, 1] and distance[2] < 0.001
    assert 3 not in found


def test_patients_and_cells_are_used_equally():
    generator = np.random.default_rng(0)
    features, shares = generator.normal(size=(60, 5)), generator.dirichlet(np.ones(5), 60)
    patients, cells = np.repeat(np.arange(20), 3), np.array(["a"] * 45 + ["b"] * 15)
    found = choose(20, shares, features, features[:0], cells, patients)[0]
    assert len(set(patients[found])) == 20  # one of each patient
    found = choose(10, shares, features, features[:0], cells, patients)[0]
    assert (cells[found] == "b").sum() == 5 and len(set(found)) == 10
    assert len(choose(100, shares, features, features[:0], cells, patients)[0]) == 60


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    """Photographs of 12 patients; the first four photographs have a grade in labels.csv."""
    folder, random, rows = tmp_path_factory.mktemp("clinic"), np.random.default_rng(5), []
    for number in range(24):
        patient, side = divmod(number, 2)
        name = f"{patient:02d}_{side}.png"
        cv2.imwrite(str(folder / name), draw_phantom(number % 5, ("left", "right")[side], 64, random).image[..., ::-1])
        rows.append({"image": name, "patient": patient, "grade": number if number < 4 else ""})
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def run(grader_run, tmp_path_factory):
    return shutil.copytree(grader_run, tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(scope="module")
def worklist(run, clinic, tmp_path_factory):
    out = tmp_path_factory.mktemp("worklist") / "worklist.csv"
    foveal.select(clinic / "labels.csv", run=run, number=8, out=out)
    return out


def test_the_worklist_names_ungraded_photographs_with_reasons(worklist, run, clinic):
    table = pd.read_csv(worklist, dtype=str, keep_default_na=False)
    assert list(table.columns) == list(COLUMNS) and table["rank"].tolist() == [str(k) for k in range(1, 9)]
    assert (table["reason"] != "").all() and table["group"].nunique() == 8
    starts = {"unsure": "unsure between ", "unlike": "unlike the ", "even": "to cover cameras "}
    for why, reason in zip(table["why"], table["reason"], strict=True):
        pairs = zip(why.split(), reason.split("; "), strict=True)
        assert all(part.startswith(starts[word]) for word, part in pairs)
    assert ((table["unlike"] != "") == table["why"].str.contains("unlike")).all()
    assert not {"00_0", "00_1", "01_0", "01_1"} & set(table["id"].str.removesuffix(".png"))
    assert {path.rpartition("/")[0] for path in table["file"]} == {str(clinic)}
    graded = pd.read_csv(foveal.predict(run, *table["file"], out=worklist.with_name("p.csv"))).sort_values("id")
    told = table.sort_values("file")[["grade", "probability"]].astype(float).to_numpy()
    assert told[:, 0].tolist() == graded["grade"].tolist()
    given = [row[f"p{row['grade']}"] for _, row in graded.iterrows()]
    assert told[:, 1] == pytest.approx(np.array(given), abs=2e-4)
    assert (table["grade"] != table["second_grade"]).all()
    for reason in table["reason"]:
        shares = re.findall(r"\((\d\.\d+)\)", reason)
        assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize(
    ("shares", "grade", "said", "columns"),
    [
        ([0.29, 0.14, 0.21, 0.09, 0.27], 2, "042", ("0", "4")),
        ([0.29, 0.09, 0.21, 0.14, 0.27], 0, "04", ("4", "2")),
        ([0.45, 0.55], 0, "10", ("1", "")),
    ],
)
def test_the_most_probable_grades_are_named_and_the_given_one(worklist, shares, grade, said, columns):
    chosen = pd.read_csv(worklist, dtype=str, keep_default_na=False)[:1].assign(unlike="")
    prepared, names = SimpleNamespace(path=worklist, card={}), list("01234")[: len(shares)]
    table = _worklist(prepared, chosen, np.array([shares]), np.array([grade]), names)
    row = table.iloc[0]
    assert "".join(re.findall(r"(\d) \(", row["reason"])) == said
    assert (str(row["second_grade"]), str(row["third_grade"])) == columns
    assert row["second_probability"] == shares[row["second_grade"]]


def test_a_folder_of_ungraded_photographs_is_enough(run, clinic, tmp_path):
    (tmp_path / "pool").mkdir()
    for file in sorted(clinic.glob("*.png"))[:6]:
        shutil.copy(file, tmp_path / "pool")
    table = foveal.select(tmp_path / "pool", run=run, number=4, out=tmp_path / "worklist.csv")
    assert table["rank"].tolist() == [1, 2, 3, 4] and (table["reason"] != "").all() and table["id"].is_unique


def test_a_table_of_photographs_without_grades_is_enough(run, clinic, tmp_path):
    shutil.copytree(clinic, tmp_path / "new")
    table = pd.read_csv(clinic / "labels.csv", dtype=str).drop(columns="grade")
    table.to_csv(tmp_path / "new" / "labels.csv", index=False)
    for number, source in enumerate((tmp_path / "new", tmp_path / "new" / "labels.csv")):
        found = foveal.select(source, run=run, number=4, out=tmp_path / f"{number}.csv")
        assert set(found["group"]) <= set(table["patient"]) and found["group"].nunique() == 4


def test_photographs_without_a_retina_are_counted_if_they_have_no_grade(run, clinic, tmp_path, capsys):
    data = foveal.prepare(clinic, out=tmp_path / "set", size=32, crop="none", val=0, test=0)
    table = pd.read_csv(data / "records.csv", dtype=str, keep_default_na=False).set_index("id")
    table.loc[["00_0", "01_1", "07_0", "07_1", "08_0"], "flags"] = "not-a-retina"  # the first two have a grade
    table.to_csv(data / "records.csv")
    capsys.readouterr()
    table = foveal.select(data, run=run, number=50, out=tmp_path / "worklist.csv")
    assert len(table) == 17
    assert re.findall(r"^(\d+) photographs? ", capsys.readouterr().out, flags=re.MULTILINE) == ["3"]


def test_what_cannot_be_selected_is_refused(run, clinic, tmp_path, refuses):
    shutil.copytree(clinic, tmp_path / "graded")
    table = pd.read_csv(clinic / "labels.csv").assign(grade=lambda rows: rows.index % 5)
    table.to_csv(tmp_path / "graded" / "labels.csv", index=False)
    with refuses("option.value", "--number"):
        foveal.select(clinic, run=run, number=0)
    with refuses("label.all", tmp_path / "graded"):
        foveal.select(tmp_path / "graded", run=run, out=tmp_path / "worklist.csv")


def test_the_server_gives_the_worklist_in_order_with_what_is_reviewed(worklist, run, tmp_path):
    testclient = pytest.importorskip("starlette.testclient")
    from foveal.serve.options import ServeConfig
    from foveal.serve.serve import build_app

    table = pd.read_csv(worklist, dtype=str)
    table.loc[1, "file"] = ""  # this one is taken from the prepared set
    table.to_csv(tmp_path / "worklist.csv", index=False)
    config = ServeConfig(run=run, reviews=str(tmp_path / "r.sqlite"), worklist=tmp_path / "worklist.csv", device="cpu")
    with testclient.TestClient(build_app(config), base_url="http://127.0.0.1") as client:
        assert client.get("/v1/model").json()["worklist"] == 8
        told = client.get("/v1/worklist").json()
        assert [row["rank"] for row in told["photographs"]] == list(range(1, 9))
        for name in ("reason", "why", "grade", "third_grade", "camera"):
            assert [row[name] for row in told["photographs"]] == table[name].fillna("").tolist()
        for rank, side in ((1, 64), (2, 32)):
            data = client.get(f"/v1/worklist/{rank}").content
            assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (side, side, 3)
            answer = client.post("/v1/grade", content=data, headers={"Content-Type": "image/png"}).json()["answers"][0]
            review = {"image": answer["sha256"], "name": "a", "given": answer["grade"], "grade": 1, "reviewer": "K"}
            assert client.post("/v1/reviews", json=review).status_code == 201
            told = client.get("/v1/worklist").json()["photographs"]
            assert told[rank - 1]["sha256"] == answer["sha256"]
        assert [(row["rank"], row["reviewed"]) for row in told] == [(rank, rank < 3) for rank in range(1, 9)]
        assert client.get("/v1/worklist/9").json()["error"]["code"] == "request.not_found"


def test_a_file_that_is_no_worklist_is_refused(worklist, tmp_path, refuses):
    pytest.importorskip("fastapi")
    from foveal.serve.worklist import read_worklist

    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    for file in (tmp_path / "other.csv", tmp_path / "absent.csv", tmp_path):
        with refuses("worklist.unreadable", file):
            read_worklist(file)
    pd.read_csv(worklist, dtype=str).assign(file="gone.png", set="gone").to_csv(tmp_path / "old.csv", index=False)
    with refuses("worklist.missing", "gone.png"):
        read_worklist(tmp_path / "old.csv")
