"""Progress in logs, where there is no bar."""

import importlib.util
import io
import sys

import pytest

from foveal import console
from foveal.console import progress_bar


def test_a_log_gets_a_line_each_half_minute_and_where_one_is_asked_for(monkeypatch, capsys):
    clock = iter([0.0, 10.0, 31.0, 40.0, 80.0, 81.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(clock))
    with progress_bar("train", 400) as bar:
        bar.advance(100, "loss 2.5")
        assert capsys.readouterr().out == ""
        bar.advance(100)
        printed = capsys.readouterr().out
        assert all(said in printed for said in ("200 of 400 images", "31 s left", "loss 2.5"))
        bar.advance(100)
        assert capsys.readouterr().out == ""
        bar.advance(0, "loss 2.0")
        assert capsys.readouterr().out == ""  # a note alone prints nothing
        bar.advance(0, "loss 1.5", line=True)
    printed = capsys.readouterr().out
    assert all(said in printed for said in ("300 of 400", "27 s left", "loss 1.5"))


@pytest.mark.parametrize(("seconds", "said"), [(89, "89 s"), (91, "2 min"), (5401, "1.5 h"), (180000, "2.1 days")])
def test_times_are_told_in_the_unit_that_fits(seconds, said):
    assert console.duration(seconds) == said


def test_a_notebook_gets_plain_lines_though_it_says_that_it_is_a_terminal(monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(shown, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setitem(sys.modules, "ipykernel", console)
    spec = importlib.util.spec_from_file_location("console_of_a_notebook", console.__file__)
    in_notebook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(in_notebook)
    in_notebook.warn("a" * 100)
    with in_notebook.progress_bar("train", 2) as bar:
        bar.advance(2)
    assert shown.getvalue().count("\n") == 1 and "\x1b" not in shown.getvalue()
