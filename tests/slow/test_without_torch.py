"""An exported grader needs neither torch nor anything else that only training needs: blocked, and in a bare venv."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import foveal
from foveal.sources.phantom import draw_phantom

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
BLOCKED = {"torch", "torchvision", "timm", "safetensors", "captum", "sklearn", "matplotlib", "onnx", "onnxscript"}
BLOCK = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BLOCKED}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
"""
SERVE = """
from pathlib import Path
from foveal.serve.options import ServeConfig
from foveal.serve.serve import build_app
app = build_app(ServeConfig(run=Path(sys.argv[1]), reviews=sys.argv[2]))
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, phantom_set):
    """Every kind of input: a folder with JPEG, PNG, DICOM and a bad file, an archive, a list and a prepared set."""
    root = tmp_path_factory.mktemp("inputs")
    random = np.random.default_rng(0)
    (root / "photos").mkdir()
    pictures = [Image.fromarray(draw_phantom(number, "left", 80, random).image) for number in range(4)]
    pictures[0].save(root / "photos" / "0.jpg", quality=95)
    pictures[1].save(root / "photos" / "1.png")
    (root / "photos" / "2.dcm").write_bytes(dicom(np.asarray(pictures[2])))
    (root / "photos" / "bad.jpg").write_text("Dear colleague")
    pictures[3].save(root / "listed.png")
    (root / "list.csv").write_text("file\nlisted.png\nabsent.png\n")
    with zipfile.ZipFile(root / "all.zip", "w") as archive:
        archive.write(root / "photos" / "1.png", "inside/1.png")
    return [str(path) for path in (root / "photos", root / "all.zip", root / "list.csv", phantom_set)]


def dicom(pixels):
    """The bytes of an uncompressed DICOM file of uint8 [h, w, 3]."""
    pytest.importorskip("pydicom")
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.5.1"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = pixels.shape
    dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB"
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def expected(exported, inputs, tmp_path_factory):
    """The table that is written where torch is installed."""
    text = foveal.predict(exported, *inputs, out=tmp_path_factory.mktemp("with") / "p.csv").read_text()
    assert text.count(",graded,") == 65 and text.count(",unreadable,") == 2
    return text


def run(python, code, *arguments, **options):
    done = subprocess.run([python, "-c", code, *map(str, arguments)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["model.onnx", "model.fp16.onnx"])
def test_predict_from_a_file_never_imports_torch(exported, inputs, expected, tmp_path, name):
    code = f"{BLOCK}from foveal.cli import main; sys.exit(main(sys.argv[1:]))"
    run(sys.executable, code, "predict", exported / name, *inputs, "--out", tmp_path / "p.csv")
    text = (tmp_path / "p.csv").read_text()
    assert text == expected if name == "model.onnx" else text.count("\n") == expected.count("\n")


def test_a_loaded_file_never_imports_torch(exported, inputs, expected, tmp_path):
    code = f"{BLOCK}import foveal; foveal.load(sys.argv[1]).predict(sys.argv[3:]).to_csv(sys.argv[2], index=False)"
    run(sys.executable, code, exported, tmp_path / "p.csv", *reversed(inputs))
    assert sorted((tmp_path / "p.csv").read_text().splitlines()) == sorted(expected.splitlines())


def test_serve_of_a_file_never_imports_torch(exported, inputs, expected, tmp_path):
    pytest.importorskip("fastapi", reason="the extra serve is not installed")
    pytest.importorskip("httpx", reason="the extra dev is not installed")
    ask = """
from fastapi.testclient import TestClient
with TestClient(app, base_url="http://127.0.0.1") as client:
    answers = client.post("/v1/grade", files=[("images", Path(name).read_bytes()) for name in sys.argv[3:]])
    print(answers.status_code, *(answer["probabilities"][0] for answer in answers.json()["answers"]))
"""
    photographs = sorted(Path(inputs[0]).iterdir())[:2]
    said = run(sys.executable, BLOCK + SERVE + ask, exported, tmp_path / "reviews.sqlite", *photographs)
    rows = {row.split(",")[0]: row.split(",")[2] for row in expected.splitlines()}
    assert said.splitlines()[-1].split() == ["200", *(rows[file.as_posix()] for file in photographs)]


@pytest.fixture(scope="module")
def bare(tmp_path_factory, exported):
    """The Python of a new environment that has what requirements.txt names, and Foveal without its dependencies."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is None:
        pytest.skip("no uv here, which makes the environment")
    folder = tmp_path_factory.mktemp("bare")
    python = folder / "venv" / "bin" / "python"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder / "venv"], check=True)
    install = [uv, "pip", "install", "--quiet", "--python", python]
    reached = subprocess.run([*install, "setuptools"], capture_output=True, text=True)
    if reached.returncode:
        pytest.skip(f"no registry of packages can be reached: {reached.stderr.strip()[-200:]}")
    for name in ("pyproject.toml", "README.md", "LICENSE"):  # a copy, as a build leaves files beside the source
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "foveal", folder / "foveal", ignore=shutil.ignore_patterns("__pycache__"))
    for what in (["--no-deps", folder], ["-r", exported / "requirements.txt"]):
        done = subprocess.run([*install, *what], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return python


def alone(tmp_path):
    """The working folder and the environment of a process that sees nothing of this checkout."""
    hidden = ("PYTHONPATH", "VIRTUAL_ENV")
    return {"cwd": tmp_path, "env": {name: value for name, value in os.environ.items() if name not in hidden}}


def test_the_requirements_are_enough_in_an_environment_without_torch(bare, exported, inputs, expected, tmp_path):
    there = "import importlib.util; print(*(n for n in sys.argv[1:] if importlib.util.find_spec(n)), foveal.__file__)"
    found = run(bare, f"import sys, foveal; {there}", *sorted(BLOCKED), **alone(tmp_path))
    assert len(found.split()) == 1 and str(ROOT) not in found
    command = [bare, "-m", "foveal", "predict", exported, *inputs, "--out", "p.csv"]
    done = subprocess.run(command, capture_output=True, text=True, **alone(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "p.csv").read_text() == expected
    run(bare, f"import sys\n{SERVE}", exported, tmp_path / "reviews.sqlite", **alone(tmp_path))


def test_every_requirement_is_needed(exported):
    lines = [line for line in (exported / "requirements.txt").read_text().splitlines() if line[0] != "#"]
    names = [line.partition("==")[0] for line in lines]
    assert {"onnxruntime", "fastapi"} < set(names)
    source = "\n".join(path.read_text() for path in (ROOT / "foveal").rglob("*.py"))
    modules = {"opencv-python-headless": "cv2", "pillow": "PIL", "python-multipart": "python_multipart"}
    for name in names:
        module = modules.get(name, name.replace("-", "_"))
        assert re.search(rf"^ *(import|from) {module}\b|\"{module}\"", source, re.MULTILINE), name
