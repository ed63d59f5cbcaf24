"""predict is killed and resumed with the same table; its memory does not grow with the number of photographs."""

import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from foveal.sources.phantom import draw_phantom

pytestmark = [pytest.mark.slow, pytest.mark.alone]
FILES = 20


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Makes a folder with so many links to the same 20 photographs of 720 px."""
    root = tmp_path_factory.mktemp("scale")
    random = np.random.default_rng(0)
    (root / "files").mkdir()
    for number in range(FILES):
        picture = cv2.resize(draw_phantom(number % 5, "left", 96, random).image[..., ::-1], (720, 720))
        cv2.imwrite(str(root / "files" / f"{number}.jpg"), picture)

    def linked(count):
        folder = root / str(count)
        if not folder.exists():
            folder.mkdir()
            for number in range(count):
                (folder / f"{number:05d}.jpg").symlink_to(root / "files" / f"{number % FILES}.jpg")
        return folder

    return linked


def command(model, folder, out):
    return [sys.executable, "-m", "foveal", "predict", str(model), str(folder), "--out", str(out)]


def lines_in(file):
    return file.read_bytes().count(b"\n") if file.exists() else 0


def test_killed_again_and_again_it_ends_with_the_same_table(exported, photographs, tmp_path):
    folder = photographs(600)
    subprocess.run(command(exported, folder, tmp_path / "whole.csv"), check=True, capture_output=True)
    out, kills = tmp_path / "p.csv", 0
    partial = tmp_path / "p.csv.partial"
    for rows in (1, 130, 260):  # killed a moment after so many rows are on the disk
        process = subprocess.Popen(command(exported, folder, out), stdout=subprocess.DEVNULL)
        while process.poll() is None and lines_in(partial) < rows:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not out.exists() and lines_in(partial) >= rows
        kills += 1
    done = subprocess.run(command(exported, folder, out), check=True, capture_output=True, text=True)
    assert kills == 3 and str(partial) in done.stdout.replace("\n", "")
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([out.name, "whole.csv"])


@pytest.mark.parametrize("kind", ["run", "file"])
def test_memory_does_not_grow_with_the_photographs(exported, grader_run, photographs, tmp_path, kind):
    model = {"run": grader_run, "file": exported}[kind]
    code = (
        "import resource, sys; from foveal.cli import main; code = main(sys.argv[1:]);"
        "print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for count in (200, 1000):
        arguments = command(model, photographs(count), tmp_path / f"{count}.csv")[3:]
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        status, peak = done.stdout.splitlines()[-1].split()
        assert status == "0" and lines_in(tmp_path / f"{count}.csv") == count + 1
        peaks.append(int(peak) / 1024)
    assert peaks[1] - peaks[0] < 50  # MiB; 800 photographs more are 1,200 MiB of pixels
