"""The programs in examples/ run as they are, in an empty folder."""

import ast
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
WRITES = {  # program -> a file that it writes below runs/
    "own_data": "own_data/grader/metrics.json", "own_backbone": "own_backbone/grader/predictions.csv",
    "own_loss": "own_loss/encoder/encoder.safetensors", "own_augmentation": "own_augmentation/pair/views.jpg",
    "metrics_of_other_predictions": "metrics_of_other_predictions/metrics.json",
    "sweep_with_optuna": "sweep/trial2/predictions.csv", "views_in_a_plain_loop": "",
}  # fmt: skip


def test_every_example_is_short_says_what_it_shows_and_is_listed():
    programs = {path.stem: path.read_text("utf-8") for path in EXAMPLES.glob("*.py")}
    assert programs.keys() == WRITES.keys()
    listed = (EXAMPLES.parent / "docs" / "howto" / "own_objects.md").read_text("utf-8")
    for name, text in programs.items():
        assert len(text.splitlines()) <= 40 and ast.get_docstring(ast.parse(text))
        assert f"../../examples/{name}.py" in listed
    assert "../../examples/sweep.sh" in listed and len((EXAMPLES / "sweep.sh").read_text("utf-8").splitlines()) <= 40


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITES)
def test_an_example_runs(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert capsys.readouterr().out
    assert not WRITES[name] or (tmp_path / "runs" / WRITES[name]).is_file()


@pytest.mark.slow
def test_the_shell_loop_runs(tmp_path):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(["sh", EXAMPLES / "sweep.sh"], cwd=tmp_path, env={**os.environ, "PATH": path}, check=True)
    table = pd.read_csv(tmp_path / "runs" / "sweep_sh" / "probe.csv")
    assert table["init"].nunique() == 2
