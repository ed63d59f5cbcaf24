"""prepare is killed, runs out of disk, and runs on a cluster whose worker dies: always the same bytes in the end."""

import os
import resource
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

import foveal
from foveal.sources.phantom import draw_phantom

pytestmark = [pytest.mark.slow, pytest.mark.alone]
OPTIONS = ("--size", "320")  # 218 images a shard: three shards
COUNT = 600


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """600 JPEG files of 480 px; drawn small, which is fast, and enlarged."""
    root = tmp_path_factory.mktemp("scale") / "photos"
    root.mkdir()
    random = np.random.default_rng(0)
    for n in range(COUNT):
        picture = cv2.resize(draw_phantom(n % 5, "left", 96, random).image[..., ::-1], (480, 480))
        cv2.imwrite(str(root / f"{n:03d}_left.jpg"), picture)
    return root


@pytest.fixture(scope="module")
def whole(photographs):
    """Bytes of the set that uninterrupted work makes."""
    return tree_of(foveal.prepare(photographs, out=photographs.parent / "whole", size=320))


def tree_of(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def command(photographs, out, *more):
    return [sys.executable, "-m", "foveal", "prepare", str(photographs), "--out", str(out), *OPTIONS, *more]


def test_killing_it_at_any_moment_leaves_what_resumes_to_the_same_bytes(photographs, whole, tmp_path):
    random, kills, partial = np.random.default_rng(0), 0, tmp_path / ".set.partial"
    for shards in (0, 1, 2):  # killed a moment after that many shards are finished, however fast the machine is
        process = subprocess.Popen(command(photographs, tmp_path / "set"), stdout=subprocess.DEVNULL)
        while process.poll() is None and (not partial.is_dir() or len(list(partial.glob("images/*.npy"))) < shards):
            time.sleep(0.002)
        time.sleep(random.random() * 0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (tmp_path / "set").exists():  # it had just finished: then it must be whole
            break
        kills += 1
    else:
        subprocess.run(command(photographs, tmp_path / "set"), check=True, stdout=subprocess.DEVNULL)
    assert kills >= 1
    assert tree_of(tmp_path / "set") == whole
    assert not partial.exists()


def test_a_full_disk_is_one_error_and_nothing_is_lost(photographs, whole, tmp_path):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (30 << 20, 30 << 20))

    done = subprocess.run(command(photographs, tmp_path / "set"), capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 1 and "[output.full]" in done.stderr and "Traceback" not in done.stderr
    subprocess.run(command(photographs, tmp_path / "set"), check=True, stdout=subprocess.DEVNULL)
    assert tree_of(tmp_path / "set") == whole


def test_a_cluster_gives_the_same_bytes_although_a_worker_is_killed(photographs, whole, tmp_path):
    pytest.importorskip("ray", reason="the extra ray is not installed")
    environment = os.environ | {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
    process = subprocess.Popen(
        command(photographs, tmp_path / "set", "--ray", "local"), env=environment, stdout=subprocess.DEVNULL
    )
    killed = False
    while process.poll() is None:
        for name in workers_below(process.pid):
            if not killed and (tmp_path / ".set.partial" / "images").is_dir():
                os.kill(name, signal.SIGKILL)
                killed = True
        time.sleep(0.05)
    assert killed and process.returncode == 0
    assert tree_of(tmp_path / "set") == whole


def workers_below(pid):
    """Process ids of Ray workers that are at work on a shard, below a process."""
    listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
    return [int(line.split()[0]) for line in listed.splitlines() if "ray::write_shard" in line]


def test_memory_does_not_grow_with_the_set(photographs, tmp_path):
    peaks = []
    for count in (100, COUNT):
        root = tmp_path / str(count)
        root.mkdir()
        for file in sorted(photographs.iterdir())[:count]:
            (root / file.name).symlink_to(file)
        script = (
            "import resource, sys; from foveal.cli import main; code = main(sys.argv[1:]);"
            "print(code, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        arguments = command(root, tmp_path / f"set{count}")[3:]
        done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
        code, peak = done.stdout.split("\n")[-2].split()
        assert code == "0"
        peaks.append(int(peak) / 1024)
    assert peaks[1] - peaks[0] < 60  # MiB; 500 images more are 146 MiB of pixels
