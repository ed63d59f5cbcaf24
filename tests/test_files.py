import errno
import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from foveal import files
from foveal.errors import FovealError


def test_an_error_has_a_code_and_three_parts_and_survives_pickling():
    error = FovealError("weights.mismatch", "a.pt does not fit", expected="resnet18", fix="give --encoder resnet18")
    again = pickle.loads(pickle.dumps(error))
    assert (again.code, again.what, again.expected, again.fix) == (error.code, error.what, error.expected, error.fix)
    assert str(again) == str(error) and all(part in str(error) for part in (error.what, error.expected, error.fix))
    assert error.subject == "weights" and isinstance(error, ValueError)
    assert str(FovealError("image.empty", "an empty file")) == "an empty file"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_and_leaves_the_old_file(tmp_path, refuses, number):
    (tmp_path / "a").write_text("old")
    with refuses("output.full", tmp_path / "a", os.strerror(number)), files.replacing(tmp_path / "a") as partial:
        partial.write_text("half")
        raise OSError(number, os.strerror(number))
    with pytest.raises(OSError), files.replacing(tmp_path / "a"):
        raise OSError(errno.EIO, "another fault")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


WRITERS = {
    "text": (files.write_text, "new\r\n", lambda path: path.read_bytes() == b"new\r\n"),
    "bytes": (files.write_bytes, b"\0new", lambda path: path.read_bytes() == b"\0new"),
    "json": (files.write_json, {"kappa": 0.5}, lambda path: json.loads(path.read_text()) == {"kappa": 0.5}),
    "table": (files.write_table, pd.DataFrame({"id": ["a"]}), lambda path: path.read_text() == "id\na\n"),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch, kind):
    write, value, is_new = WRITERS[kind]
    path = tmp_path / "file.csv"
    path.write_text("old")

    def fails(*_):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fails)
        with pytest.raises(OSError, match="full"):
            write(path, value)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    write(path, value)
    assert is_new(path) and list(tmp_path.iterdir()) == [path]


def test_numbers_become_ready_for_json():
    assert files.json_ready({"a": (np.float32(0.5), np.nan), "b": np.int64(3)}) == {"a": [0.5, None], "b": 3}


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_a_damaged_json_file_is_named(tmp_path, refuses, text):
    path = tmp_path / "model.json"
    path.write_text(text)
    with refuses("file.damaged", path):
        files.read_json(path)


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert files.whole_lines(path) == []
    path.write_text('{"step": 1}\n{"st')
    assert files.whole_lines(path) == ['{"step": 1}']


def test_an_output_path_must_be_free(tmp_path, refuses):
    files.check_free(tmp_path / "new")
    files.check_free(tmp_path)
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file"):
        with refuses("output.exists", "--out", path):
            files.check_free(path)


def test_a_file_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        files.write_text(tmp_path / "report.html", "a patient")
    finally:
        os.umask(before)
    assert (tmp_path / "report.html").stat().st_mode & 0o777 == 0o640


def test_what_a_killed_process_leaves_is_ignored_and_removed(tmp_path):
    code = "import os, sys, pathlib; from foveal import files; os.replace = lambda *given: os._exit(9);"
    code += "files.write_text(pathlib.Path(sys.argv[1]) / 'config.toml', 'epochs = 3')"
    assert subprocess.run([sys.executable, "-c", code, tmp_path], check=False).returncode == 9
    (left,) = tmp_path.iterdir()
    assert files.is_unfinished(left) and files.is_free(tmp_path)
    files.remove_unfinished(tmp_path)
    assert left.exists()  # another process may be writing it
    os.utime(left, (0, 0))
    files.remove_unfinished(tmp_path)
    assert not left.exists()


def test_a_place_where_no_file_can_be_written_is_refused_before_work(tmp_path, refuses):
    (tmp_path / "file").touch()
    files.check_file(tmp_path / "new" / "table.csv")
    assert not (tmp_path / "new").exists()
    with refuses("output.is_folder", "--out", tmp_path):
        files.check_file(tmp_path)
    with refuses("output.unwritable", "--out", tmp_path / "file"):
        files.check_file(tmp_path / "file" / "table.csv")
