"""Reading predictions.csv: every wrong table is refused, with what is wrong in it."""

import numpy as np
import pandas as pd
import pytest

from foveal.readout.predictions import read_predictions
from foveal.sets.splits import group_codes


def table(n=6):
    grades = np.arange(n) % 3
    columns = {f"p{k}": np.where(grades == k, 0.6, 0.2) for k in range(3)}
    known = {"id": [f"i{k}" for k in range(n)], "label": grades, "grade": grades, "referable": 0, "split": "test"}
    return pd.DataFrame({**known, **columns, "group": [f"g{k // 2}" for k in range(n)]})


def written(path, rows):
    rows.to_csv(path / "p.csv", index=False)
    return path / "p.csv"


@pytest.mark.parametrize(
    ("code", "change", "values"),
    [
        ("missing_column", lambda t: t.drop(columns="group"), ["group"]),
        ("missing_column", lambda t: t.drop(columns=["p1", "p2"]), ["p1"]),
        ("missing_column", lambda t: t.rename(columns={"p2": "p3"}), ["p2", "p0, p1, p3"]),
        ("empty", lambda t: t.head(0), []),
        ("missing_id", lambda t: t.assign(id=["", *t["id"][1:]]), [1]),
        ("duplicate_id", lambda t: t.assign(id="same"), ["same"]),
        ("value", lambda t: t.assign(split="tset"), ["split", "tset", "train, val, test, unlabelled"]),
        ("value", lambda t: t.assign(answer="perhaps"), ["answer", "perhaps", "graded"]),
        ("nothing_graded", lambda t: t.assign(answer="unreadable"), [6]),
        ("probability", lambda t: t.assign(p0=np.nan), ["i0", "nothing"]),
        ("probability", lambda t: t.assign(p0=0.9), ["i0", "0.9, 0.2, 0.2"]),
        ("probability", lambda t: t.assign(p0=np.inf), ["i0", "inf"]),
        ("probability", lambda t: t.assign(p0="much"), ["i0", "much"]),
        ("probability", lambda t: t.assign(p0=-0.1, p1=0.3), ["i0", "-0.1"]),
        ("value", lambda t: t.assign(label=7), ["label", 7, "0..2"]),
        ("value", lambda t: t.assign(label=-1), ["label", -1]),
        ("value", lambda t: t.assign(label=np.inf), ["label", "inf"]),
        ("value", lambda t: t.assign(label="mild"), ["label", "mild"]),
        ("value", lambda t: t.assign(grade=1.5), ["grade", 1.5]),
        ("value", lambda t: t.assign(grade=None), ["grade"]),
        ("value", lambda t: t.assign(referable=2), ["referable", 2, "0..1"]),
    ],
)
def test_wrong_tables_are_refused(tmp_path, refuses, code, change, values):
    file = written(tmp_path, change(table()))
    with refuses(f"predictions.{code}", file, *values):
        read_predictions(file)


@pytest.mark.parametrize(
    ("code", "change", "value"),
    [
        ("separator", lambda text: text.replace(",", ";"), "semicolons"),
        ("separator", lambda text: text.replace(",", "\t"), "tabs"),
        ("duplicate_column", lambda text: text.replace("grade", "label", 1), "label"),
    ],
)
def test_tables_that_a_spreadsheet_wrote_otherwise_are_refused(tmp_path, refuses, code, change, value):
    file = written(tmp_path, table())
    text = file.read_text(encoding="utf-8")
    file.write_text(change(text), encoding="utf-8")
    with refuses(f"predictions.{code}", file, value):
        read_predictions(file)
    for encoding in ("utf-8-sig", "utf-16"):  # spreadsheets put a mark before the first name
        file.write_text(text, encoding=encoding)
        assert read_predictions(file).equals(read_predictions(written(tmp_path, table())))
        file.write_text(change(text), encoding=encoding)
        with refuses(f"predictions.{code}", file, value):
            read_predictions(file)


@pytest.mark.parametrize(
    ("code", "content"),
    [
        ("empty", b""),
        ("damaged", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
        ("damaged", b"id,label\n\xff\xfe,1\n"),
        ("damaged", b"id,label\na,1\nb,1,2,3\n"),
        ("missing", None),
    ],
)
def test_files_that_are_not_tables_are_refused(tmp_path, refuses, code, content):
    if content is not None:
        (tmp_path / "p.csv").write_bytes(content)
    with refuses(f"predictions.{code}", tmp_path / "p.csv"):
        read_predictions(tmp_path / "p.csv")


def test_images_without_a_grade_are_left_out_and_counted(tmp_path, capsys):
    rows = table().assign(answer=["graded"] * 4 + ["ungradable", "unreadable"])
    rows.loc[4, ["grade", "p0", "p1", "p2"]], rows.loc[5, "label"] = None, None
    assert read_predictions(written(tmp_path, rows))["id"].tolist() == ["i0", "i1", "i2", "i3"]
    said = capsys.readouterr().out
    assert all(value in said for value in ("p.csv", "1 ungradable", "1 unreadable", "1 of them"))


def test_images_without_a_group_are_drawn_alone(tmp_path):
    rows = table().assign(group=["a", "a", "", "", "b", "b"])
    assert len(set(group_codes(read_predictions(written(tmp_path, rows))["group"]))) == 4
    assert len(set(group_codes(pd.Series(["a", "a", None, np.nan, "b", "b"])))) == 4
