"""A command that is stopped anywhere gives, when it is repeated, the table of one that was not."""

import os

import pandas as pd
import pytest

import foveal
from foveal.predict import model
from foveal.predict.output import Writer


class Killed(BaseException):
    """The process ends here."""


def killed_at(monkeypatch, number, done):
    """The process is killed at the replacement of that number (0 = the first), when it is `done` or just before."""
    replace, count = os.replace, iter(range(1000))

    def killing(source, target, **options):
        last = next(count) == number
        if last and not done:
            raise Killed
        replace(source, target, **options)
        if last:
            raise Killed

    monkeypatch.setattr(os, "replace", killing)


@pytest.mark.slow
@pytest.mark.parametrize("done", [False, True])
def test_every_replacement_may_fail(looking_run, photographs, tmp_path, monkeypatch, done):
    (photographs / "letter.png").write_text("Dear colleague")
    monkeypatch.setattr(model, "BATCH", 1)

    def predict(folder):
        return foveal.predict(looking_run, photographs, out=folder / "p.csv")

    expected = predict(tmp_path / "whole").read_bytes()
    for number in range(2):  # the description, the table
        folder = tmp_path / str(number)
        with monkeypatch.context() as patched, pytest.raises(Killed):
            killed_at(patched, number, done)
            predict(folder)
        assert (folder / "p.csv").exists() == (done and number == 1)
        assert predict(folder).read_bytes() == expected
        assert {file.name for file in folder.iterdir()} == {"p.csv"}
    with monkeypatch.context() as patched:
        killed_at(patched, 2, done)
        predict(tmp_path / "none")


def test_a_torn_last_line_is_graded_again(grader_run, photographs, tmp_path, monkeypatch):
    (photographs / "letter.png").write_text("Dear colleague")
    out = tmp_path / "p.csv"
    partial = tmp_path / "p.csv.partial"
    with monkeypatch.context() as patched, pytest.raises(Killed):
        killed_at(patched, 1, done=False)
        foveal.predict(grader_run, photographs, out=out)
    rows, about = partial.read_bytes(), (tmp_path / "p.csv.partial.json").read_bytes()
    last = rows.rstrip(b"\n").rfind(b"\n") + 1
    for cut in (0, 1, 7, last - 1, last, last + 1, (last + len(rows)) // 2, len(rows) - 1, len(rows)):
        partial.write_bytes(rows[:cut])
        (tmp_path / "p.csv.partial.json").write_bytes(about)
        assert foveal.predict(grader_run, photographs, out=out).read_bytes() == rows
        assert not list(tmp_path.glob("*.partial*"))


@pytest.mark.slow
def test_rows_with_odd_names_may_be_torn_at_any_byte(tmp_path):
    table = pd.DataFrame({"id": ["é\u2028b", 'g"\nh', "\n\n,", '"', "plain"], "p0": 0.5})
    out, partial = tmp_path / "p.csv", tmp_path / "p.csv.partial"
    with Writer(out, {}) as writer:
        writer.write(table)
    rows = partial.read_bytes()
    for cut in range(len(rows) + 1):
        partial.write_bytes(rows[:cut])
        with Writer(out, {}) as writer:
            assert [name for part in writer.earlier() for name in part["id"]] == list(table["id"][: len(writer.done)])
            rest = table[~table["id"].isin(writer.done)]
            if len(rest):
                writer.write(rest)
            writer.finish()
        assert out.read_bytes() == rows and not partial.exists()
        (tmp_path / "p.csv.partial.json").write_text("{}")


def test_what_a_finished_command_left_stops_no_other(grader_run, photographs, tmp_path, monkeypatch):
    with monkeypatch.context() as patched, pytest.raises(Killed):
        killed_at(patched, 1, done=True)
        foveal.predict(grader_run, photographs, out=tmp_path / "p.csv")
    assert (tmp_path / "p.csv.partial.json").exists()
    foveal.predict(grader_run, photographs / "0.png", out=tmp_path / "p.csv")
    assert len(pd.read_csv(tmp_path / "p.csv")) == 1 and not list(tmp_path.glob("*.partial*"))
