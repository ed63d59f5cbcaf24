"""The program behind docs/ideas/crops.md: its table, and that no pixel of a photograph enters the drawing."""

import importlib.util
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from foveal.sources.phantom import draw_phantom

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def program() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_crops", DOCS / "make_crops.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_table_and_drawing(
    program: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data" / "a"
    folder.mkdir(parents=True)
    eye = draw_phantom(1, "left", 200, np.random.default_rng(0)).image
    cv2.imwrite(str(folder / "eye.png"), np.pad(eye, ((20, 20), (60, 60), (0, 0)))[..., ::-1])
    large = np.pad(cv2.resize(eye, (400, 400)), ((20, 20), (20, 20), (0, 0)))
    cv2.imwrite(str(folder / "squeezed.png"), cv2.resize(large, (300, 440))[..., ::-1])
    cv2.imwrite(str(folder / "noise.png"), np.random.default_rng(0).integers(0, 255, (90, 90, 3), dtype=np.uint8))
    (folder / "letter.jpg").write_text("Dear colleague")
    out, photographs = tmp_path / "out.png", tmp_path / "photographs.png"
    arguments = ["make_crops", str(tmp_path / "data"), "--out", str(out), "--photographs", str(photographs)]
    monkeypatch.setattr("sys.argv", arguments)
    program.main()
    printed = capsys.readouterr().out.splitlines()
    assert "letter.jpg" in printed[0]
    assert printed[1].startswith("| 1 | `a/eye.png` | 320\u00a0×\u00a0240 | 0.50") and printed[1].endswith("| found |")
    assert printed[2] == "| 2 | `a/noise.png` | 90\u00a0×\u00a090 | – | – | – | no-disc |"
    assert printed[3].startswith("| 3 | `a/squeezed.png` | 300\u00a0×\u00a0440 | 0.50") and " × 0.6" in printed[3]
    drawing = cv2.imread(str(out))
    assert np.array_equal(drawing[95, 60], program.GREY) and not np.array_equal(drawing, cv2.imread(str(photographs)))


def test_the_published_drawing_holds_no_photograph() -> None:
    """Black, grey and white, green and red circles, and their smoothed edges: none of them is dark and warm."""
    pixels = cv2.imread(str(DOCS / "crops.png"))[..., ::-1].astype(int)
    flat = (pixels == 255).all(axis=2) | (pixels == 205).all(axis=2)
    assert flat.mean() > 0.96
