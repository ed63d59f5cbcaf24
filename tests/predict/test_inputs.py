import shutil
import zipfile
from pathlib import Path

import pandas as pd
import pytest

import foveal
from foveal.predict import inputs, model
from foveal.predict.inputs import Photograph, list_photographs, named_origins, sort_inputs
from foveal.predict.model import Model


def ids(*paths):
    return [photograph.id for photograph in list_photographs(sort_inputs(paths)[0])]


def test_names_tell_patient_and_eye_where_nothing_else_does():
    found = named_origins([
        Photograph.at(Path("x/4711_left.jpg")), Photograph("a.jpg", Path("a.jpg"), group="7"),
        Photograph.at(Path("17_OD.png")), Photograph.at(Path("x/P3/OS.png")), Photograph.at(Path("z.png")),
    ])  # fmt: skip
    assert [one.group for one in found] == ["4711", "7", "17", "P3", ""]
    assert [one.eye for one in found] == ["left", "", "right", "left", ""]


def test_patterns_lists_and_archives_name_the_same_photographs(photographs, tmp_path):
    archive = tmp_path / "all.zip"
    with zipfile.ZipFile(archive, "w") as writer:
        for file in sorted(photographs.iterdir()):
            writer.write(file, f"inside/{file.name}")
        writer.writestr("inside/notes.txt", "no picture")
        writer.writestr("__MACOSX/inside/._0.png", "no picture")
    (tmp_path / "list.csv").write_text("who,file\na,photos/0.png\nb,photos/2.png\n")
    (tmp_path / "plain.csv").write_text("photos/1.png\nphotos/absent.png\n")
    assert [name[-5:] for name in ids(archive)] == ["0.png", "1.png", "2.png"]
    assert ids(tmp_path / "list.csv") == [(photographs / name).as_posix() for name in ("0.png", "2.png")]
    assert len(ids(tmp_path / "plain.csv")) == 2
    assert ids(photographs / "[01].png", photographs) == ids(photographs)
    assert ids(tmp_path / "**" / "*.png") == ids(photographs)


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.zip", b"PK no", "file.damaged"),
        ("none.zip", b"PK\5\6" + bytes(18), "image.none"),
        ("a.csv", b"", "table.empty"),
        ("b.csv", b"file\n\xff\xfe.png\n", "table.encoding"),
        ("c.csv", b"who,when\nx,y\n", "table.missing_column"),
        ("d.csv", b"id,photo\n1,2\n", "table.ambiguous_column"),
    ],
)
def test_what_is_not_an_archive_or_a_list_is_refused(tmp_path, refuses, name, content, code):
    (tmp_path / name).write_bytes(content)
    with refuses(code, tmp_path / name) as told:
        ids(tmp_path / name)
    assert "--" not in str(told.value)  # predict has no option for columns


def test_members_of_archives_are_graded_in_memory_whatever_they_are_called(grader_run, photographs, tmp_path):
    archive = tmp_path / "in" / "all.zip"
    archive.parent.mkdir()
    with zipfile.ZipFile(archive, "w") as writer:
        writer.write(photographs / "0.png", "../../escaped.png")
        writer.writestr("cut.png", (photographs / "1.png").read_bytes()[:200])
    table = pd.read_csv(foveal.predict(grader_run, archive, out=tmp_path / "p.csv"), keep_default_na=False)
    assert dict(zip(table["id"].str.split("all.zip/").str[1], table["answer"], strict=True)) == {
        "../../escaped.png": "graded", "cut.png": "unreadable",
    }  # fmt: skip
    alone = pd.read_csv(foveal.predict(grader_run, photographs / "0.png", out=tmp_path / "q.csv"))
    assert table["p0"][0] == str(alone["p0"][0])
    assert not (tmp_path / "escaped.png").exists() and not (tmp_path.parent / "escaped.png").exists()


def test_each_copy_of_a_photograph_has_its_row(grader_run, photographs, tmp_path, capsys):
    (photographs / "sub").mkdir()
    names = ["0.png", "copy.png", "copy.PNG", "copy", "sub/0.png"]
    for name in names[1:]:
        shutil.copy(photographs / "0.png", photographs / name)
    (photographs / "list.csv").write_text("\n".join(["file", *names, "0.png", "0.png", "1.png"]))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as writer, pytest.warns(UserWarning, match="Duplicate"):
        for name in [*names, "0.png"]:
            writer.write(photographs / "0.png", name)
        writer.write(photographs / "1.png", "0.png")  # the third of this name is another photograph
        writer.writestr("notes.txt", "no picture")
    expected = {photographs: 7, photographs / "list.csv": 8, tmp_path / "all.zip": 7}
    for number, (source, rows) in enumerate(expected.items()):
        table = pd.read_csv(foveal.predict(grader_run, source, out=tmp_path / f"{number}.csv"))
        assert len(table) == rows and table["id"].is_unique and (table["answer"] == "graded").all()
        other = table["id"].str.endswith(("/1.png", "/2.png", "zip/0.png (3)"))
        assert table.loc[~other, "p0"].nunique() == 1 and table.loc[~other, "p0"].iloc[0] not in set(table["p0"][other])
    assert "1 .txt" in capsys.readouterr().out


def test_an_interrupted_command_goes_on(grader_run, photographs, tmp_path, monkeypatch, capsys, refuses):
    (photographs / "0.txt.png").write_text("no picture")
    whole = foveal.predict(grader_run, photographs, out=tmp_path / "whole.csv").read_text()
    told = capsys.readouterr().out
    monkeypatch.setattr(model, "BATCH", 1)
    graded = []
    table_of = Model.table_of_photographs

    def stops(self, batch, *answers):
        if len(graded) == 2:
            raise KeyboardInterrupt
        graded.append(batch[0][0].id)
        return table_of(self, batch, *answers)

    monkeypatch.setattr(Model, "table_of_photographs", stops)
    out = tmp_path / "p.csv"
    with pytest.raises(KeyboardInterrupt):
        foveal.predict(grader_run, photographs, out=out)
    assert not out.exists()
    with (tmp_path / "p.csv.partial").open("a") as stream:
        stream.write("half a li")  # as a killed process leaves it
    monkeypatch.setattr(Model, "table_of_photographs", table_of)
    with refuses("output.other_command", tmp_path / "p.csv.partial", "ungradable"):
        foveal.predict(grader_run, photographs, out=out, ungradable=["blurred"])
    capsys.readouterr()
    foveal.predict(grader_run, photographs, out=out)
    assert out.read_text() == whole and not list(tmp_path.glob("*.partial*"))
    table = told[told.index("4 images") : told.index("predictions:")]
    assert table in capsys.readouterr().out and "1 of 4" in table


@pytest.mark.slow
def test_a_cluster_gives_the_same_table(grader_run, photographs, tmp_path, refuses):
    (photographs / "bad.png").write_text("no picture")
    here = foveal.predict(grader_run, photographs, out=tmp_path / "here.csv").read_text()
    there = foveal.predict(grader_run, photographs, out=tmp_path / "there.csv", ray="local").read_text()
    assert here == there
    with refuses("server.unreachable", "127.0.0.1:1"):
        foveal.predict(grader_run, photographs, out=tmp_path / "x.csv", ray="127.0.0.1:1")


@pytest.mark.parametrize(
    "text",
    [
        "id_code,diagnosis\n0,1\n2,0\n",
        "image;level\nphotos\\0.png;1\nphotos\\2.png;0\n",
        "C:\\x\\0.png\nC:\\x\\2.png\n",
        "/far/x/0.png\n/far/x/2.png\n",
        "image,path\na,photos/0.png\nb,photos/2.png\n",
    ],
)
def test_a_list_is_read_as_prepare_reads_a_table(photographs, tmp_path, text):
    (tmp_path / "labels.csv").write_text(text)
    assert ids(tmp_path / "labels.csv") == [(photographs / name).as_posix() for name in ("0.png", "2.png")]


def test_patients_and_eyes_of_a_list_are_kept(grader_run, photographs, tmp_path):
    (tmp_path / "list.csv").write_text("image,patient,eye\nphotos/0,17,OD\nphotos/1,NA,left\nphotos/2,18,\n")
    inputs = [tmp_path / "list.csv", photographs]  # the folder names them again, by the same ids
    table = pd.read_csv(foveal.predict(grader_run, *inputs, out=tmp_path / "p.csv"), dtype=str, keep_default_na=False)
    assert table["group"].tolist() == ["17", "", "18"] and table["eye"].tolist() == ["right", "left", ""]
    assert "eye" not in pd.read_csv(foveal.predict(grader_run, photographs, out=tmp_path / "q.csv"))


def test_names_that_are_no_files_are_kept_and_do_not_stop_the_others(photographs, tmp_path):
    (photographs / "a\\b.png").write_bytes((photographs / "0.png").read_bytes())
    names = ["a\\b.png", "n" * 5000 + ".png", "/" + "n" * 5000 + ".png", "1.png"]
    (photographs / "list.csv").write_text("\n".join(["file", *names]))
    assert ids(photographs / "list.csv") == [str(photographs / name) for name in names]


def test_files_that_are_gone_are_not_searched_for(photographs, tmp_path, monkeypatch):
    names = [str(photographs / "0.png"), str(tmp_path / "gone.png")]
    (tmp_path / "list.csv").write_text("\n".join(["file", *names]))
    monkeypatch.setattr(inputs, "list_pictures", lambda _: pytest.fail("searched"))
    assert ids(tmp_path / "list.csv") == names


def test_each_folder_is_listed_once(grader_run, photographs, tmp_path, monkeypatch):
    listed = []
    list_pictures = inputs.list_pictures
    monkeypatch.setattr(inputs, "list_pictures", lambda folder: listed.append(folder) or list_pictures(folder))
    (tmp_path / "list.csv").write_text("file\nphotos/1.png\nphotos/gone.png\n")
    foveal.predict(grader_run, tmp_path / "list.csv", out=tmp_path / "p.csv")
    assert listed == [tmp_path]


def test_a_list_that_names_nothing_here_is_refused(photographs, tmp_path, refuses):
    (tmp_path / "labels.csv").write_text("id_code,diagnosis\nx0,1\nx2,0\n")
    with refuses("table.unmatched", "labels.csv", "'x0'"):
        ids(tmp_path / "labels.csv")


def test_a_list_tells_only_of_the_pictures_in_it(photographs, tmp_path, capsys, refuses):
    for name in ("notes.pdf", "film.mp4", "photos/.DS_Store", "all.zip"):
        (tmp_path / name).write_bytes(b"x")
    for name, text in (("a.csv", "file\n0\ngone.png\n"), ("b.txt", "0.png\n1.png\n")):
        (tmp_path / name).write_text(text)
        assert photographs / "0.png" in map(Path, ids(tmp_path / name)) and len(ids(tmp_path / name)) == 2
    assert capsys.readouterr().out == ""
    (tmp_path / "labels.json").write_text("{}")
    with refuses("table.unsupported", "labels.json", ".csv"):
        ids(tmp_path / "labels.json")


def test_hidden_files_are_counted_and_an_archive_is_named(photographs, tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "more.zip", "w") as writer:
        for name in ("__MACOSX/._0.png", ".DS_Store", "a/Thumbs.db"):
            writer.writestr(name, b"x")
        writer.write(photographs / "0.png", "0.png")
    (photographs / "._0.png").write_bytes(b"x")
    assert len(ids(tmp_path)) == 3
    told = capsys.readouterr().out
    assert "1 hidden (photos/._0.png)" in told and "1 .zip (more.zip)" in told and "predict" in told
    assert ids(tmp_path / "more.zip") == [f"{tmp_path}/more.zip/0.png"]
    assert "3 hidden" in capsys.readouterr().out
