"""The wheel holds every file of the package: code, templates, tables and what the web page needs."""

import importlib.util
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_wheel_holds_all_files_of_the_package(tmp_path):
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("the build backend is not installed")
    copy = tmp_path / "copy"  # building writes into the folder
    shutil.copytree(ROOT / "foveal", copy / "foveal", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    expected = {path.relative_to(copy).as_posix() for path in (copy / "foveal").rglob("*") if path.is_file()}
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--wheel-dir", tmp_path]
    subprocess.run([sys.executable, "-m", "pip", "wheel", copy, *options], check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    assert {name.rpartition(".")[2] for name in expected} >= {"py", "toml", "html", "typed"}
    assert not expected - held
    assert any(name.endswith("entry_points.txt") for name in held)
