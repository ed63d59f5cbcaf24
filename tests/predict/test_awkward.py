"""What goes wrong around a job of many photographs: odd names, changed archives, two commands at once, cut files."""

import json
import os
import re
import shutil
import zipfile

import pandas as pd
import pytest

import foveal
from foveal.predict import output
from foveal.predict.inputs import Photograph, list_photographs
from foveal.predict.output import Writer


def two_tasks(folder):
    """A set with a second task, and a grader of both."""
    data = foveal.prepare("phantom:40", out=folder / "data", size=32)
    names = pd.read_csv(data / "records.csv")["id"]
    pd.DataFrame({"id": names, "eye": ["left", "right"] * 20}).to_csv(data / "columns.csv", index=False)
    run = foveal.train(data, out=folder / "run", encoder="strided_conv", epochs=1, batch_size=8, second="eye")
    return data, run


def test_a_set_and_photographs_have_the_same_columns_with_a_second_task(photographs, tmp_path):
    data, run = two_tasks(tmp_path)
    (photographs / "bad.png").write_text("no picture")
    table = pd.read_csv(foveal.predict(run, data, photographs, out=tmp_path / "p.csv", split="test"))
    files = table[table["id"].str.endswith("png")]
    assert files["answer"].tolist() == ["graded"] * 3 + ["unreadable"]
    assert (files[["eye=left", "eye=right"]].sum(axis=1)[:3] - 1).abs().max() < 1e-4 and files["eye"].isna().all()
    assert set(table["eye"].dropna()) == {"left", "right"}


def test_rows_of_other_columns_are_refused(tmp_path, refuses):
    with Writer(tmp_path / "p.csv", {}) as writer:
        writer.write(pd.DataFrame({"id": ["a"], "p0": [1.0]}))
        with refuses("output.columns", "grade", "p0", tmp_path / "p.csv.partial"):
            writer.write(pd.DataFrame({"id": ["b"], "grade": [1]}))


def test_another_archive_of_the_same_name_is_opened_anew(grader_run, photographs, tmp_path, refuses):
    grader, archive = foveal.load(grader_run), tmp_path / "s.zip"

    def answers(name):
        with zipfile.ZipFile(archive, "w") as writer:
            writer.write(photographs / name, "one.png")
        return grader.predict(archive)["p0"][0]

    expected = grader.predict([photographs / "0.png", photographs / "1.png"])["p0"].tolist()
    assert [answers("0.png"), answers("1.png")] == expected and expected[0] != expected[1]
    with refuses("image.missing"):
        Photograph.at(archive, "gone.png").source()


def test_names_that_are_no_text_become_text(grader_run, photographs, tmp_path):
    odd = photographs / os.fsdecode(b"\xe9tude.png")
    shutil.copy(photographs / "0.png", odd)
    (photographs / os.fsdecode(b"\xe9broken.png")).write_bytes(b"no picture")
    table = pd.read_csv(foveal.predict(grader_run, photographs, out=tmp_path / "p.csv"))
    named = table.set_index(table["id"].str.rpartition("/")[2])
    assert named.loc["\\xe9tude.png", "p0"] == named.loc["0.png", "p0"]
    assert named.loc["\\xe9broken.png", "answer"] == "unreadable"
    assert len(table) == 5
    assert foveal.load(grader_run).predict(photographs)["id"].tolist() == table["id"].tolist()


def test_names_with_odd_line_ends_are_known_again(tmp_path):
    names = ["a\u2028b", "c\u0085d", "e\x0bf", 'g"\nh', "plain"]
    out, table = tmp_path / "p.csv", pd.DataFrame({"id": names, "p0": 0.5, "grade": 1, "referable": 0})
    with Writer(out, {}) as writer:
        writer.write(table)
    with Writer(out, {}) as writer:
        assert writer.done == set(names)
        assert [name for part in writer.earlier() for name in part["id"]] == names
        writer.write(table)
        writer.finish()
    assert len(pd.read_csv(out)) == 2 * len(names)


def test_two_commands_do_not_write_one_table(tmp_path, refuses):
    with Writer(tmp_path / "p.csv", {}) as writer:
        writer.write(pd.DataFrame({"id": ["a"]}))
        with refuses("output.busy", tmp_path / "p.csv"):
            Writer(tmp_path / "p.csv", {})
        writer.finish()
    assert (tmp_path / "p.csv").read_text() == "id\na\n" and not list(tmp_path.glob("*.partial*"))


def test_a_table_is_renamed_before_its_lock_is_released(tmp_path, monkeypatch, refuses):
    replace, tried = os.replace, []

    def replacing(source, target, **options):
        if target == tmp_path / "p.csv":
            with refuses("output.busy", target):
                Writer(tmp_path / "p.csv", {})
            tried.append(target)
        replace(source, target, **options)

    with Writer(tmp_path / "p.csv", {}) as writer:
        writer.write(pd.DataFrame({"id": ["a"]}))
        monkeypatch.setattr(os, "replace", replacing)
        writer.finish()
    assert tried and (tmp_path / "p.csv").read_text() == "id\na\n"


def test_earlier_rows_are_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(output, "ROWS_AT_ONCE", 2)
    table = pd.DataFrame({"id": list("abcde"), "p0": 0.5})
    with Writer(tmp_path / "p.csv", {}) as writer:
        writer.write(table)
    with Writer(tmp_path / "p.csv", {}) as writer:
        assert [len(part) for part in writer.earlier()] == [2, 2, 1] and writer.done == set("abcde")


def test_an_encrypted_member_is_refused(grader_run, photographs, tmp_path, refuses):
    with zipfile.ZipFile(tmp_path / "s.zip", "w") as writer:
        writer.write(photographs / "0.png", "0.png")
        writer.write(photographs / "1.png", "1.png")
    data = bytearray((tmp_path / "s.zip").read_bytes())
    for signature, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):  # in both headers of the first member
        data[data.index(signature) + flags] |= 1
    (tmp_path / "s.zip").write_bytes(data)
    with refuses("image.encrypted"):
        Photograph.at(tmp_path / "s.zip", "0.png").source()
    table = pd.read_csv(foveal.predict(grader_run, tmp_path / "s.zip", out=tmp_path / "p.csv"))
    assert table["answer"].tolist() == ["unreadable", "graded"]


def test_the_table_takes_no_photographs_place(grader_run, photographs, tmp_path, refuses):
    (tmp_path / "list.csv").write_text("photos/0.png\n")
    before = (photographs / "0.png").read_bytes()
    for file, code in ((photographs / "0.png", "option.value"), (tmp_path / "list.csv", "option.conflict")):
        with refuses(code, "--out", file):
            foveal.predict(grader_run, file, out=file)
    assert (photographs / "0.png").read_bytes() == before and (tmp_path / "list.csv").read_text() == "photos/0.png\n"


def test_sets_with_images_of_the_same_name_are_refused(grader_run, phantom_set, tmp_path, refuses):
    shutil.copytree(phantom_set, tmp_path / "other")
    with refuses("set.same_ids", phantom_set, tmp_path / "other"):
        foveal.predict(grader_run, phantom_set, tmp_path / "other", out=tmp_path / "p.csv")


def test_a_pattern_may_stand_for_folders(photographs, tmp_path):
    found = list(list_photographs([tmp_path / "phot*"]))
    assert [photograph.file.name for photograph in found] == ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize("line", ["who", "camera;label", "clinic,grade"])
def test_a_header_without_a_column_of_files_is_refused(tmp_path, refuses, line):
    (tmp_path / "list.csv").write_text(f"{line}\na\n")
    with refuses("table.missing_column", tmp_path / "list.csv", *re.split("[,;]", line)):
        list(list_photographs([tmp_path / "list.csv"]))


def test_blank_lines_of_a_list_are_skipped_and_rows_without_a_name_are_told(tmp_path, capsys):
    (tmp_path / "list.csv").write_text("\n\na.png\n\nb.png\n")
    (tmp_path / "a.png").touch()
    assert [photograph.file.name for photograph in list_photographs([tmp_path / "list.csv"])] == ["a.png", "b.png"]
    assert not "".join(capsys.readouterr())
    (tmp_path / "list.csv").write_text("file,who\na.png,1\n,2\n,\n")
    assert len(list_photographs([tmp_path / "list.csv"])) == 1
    assert "1 row" in "".join(capsys.readouterr())


@pytest.mark.skipif(os.name == "nt", reason="folders have no such modes there")
def test_a_folder_that_cannot_be_opened_is_told(photographs, monkeypatch, capsys):
    walk = os.walk

    def without_rights(root, onerror, **options):
        onerror(PermissionError(13, "Permission denied", str(photographs / "sub")))
        return walk(root, onerror=onerror, **options)

    monkeypatch.setattr(os, "walk", without_rights)
    assert len(list(list_photographs([photographs]))) == 3
    said = capsys.readouterr()
    assert str(photographs / "sub") in (said.out + said.err).replace("\n", "")


@pytest.mark.parametrize(
    ("file", "text", "code"),
    [
        ("model.json", '{"kind": "gra', "file.damaged"),
        ("model.json", "{}", "run.damaged"),
        ("readout.json", "", "file.damaged"),
    ],
)
def test_a_damaged_run_is_named(grader_run, tmp_path, refuses, file, text, code):
    run = tmp_path / "run"
    shutil.copytree(grader_run, run)
    (run / file).write_text(text)
    with refuses(code, run / file):
        foveal.load(run)


def test_a_run_without_its_readout_does_not_answer_otherwise(grader_run, tmp_path, refuses):
    run = tmp_path / "run"
    shutil.copytree(grader_run, run)
    (run / "readout.json").unlink(missing_ok=True)
    said = json.loads((run / "model.json").read_text())
    (run / "model.json").write_text(json.dumps(said | {"readout": True}))
    with refuses("run.damaged", run / "readout.json"):
        foveal.load(run)


@pytest.mark.slow
def test_an_exported_folder_may_be_called_as_a_file(exported, tmp_path, refuses):
    shutil.copytree(exported, tmp_path / "grader.onnx")
    assert foveal.load(tmp_path / "grader.onnx").classes == foveal.load(exported).classes
    about = tmp_path / "grader.onnx" / "foveal.json"
    about.write_text(about.read_text()[:100])
    with refuses("file.damaged", about):
        foveal.load(tmp_path / "grader.onnx")
