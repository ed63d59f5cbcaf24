"""`foveal serve` as a process: it starts with a clear word or not at all, ends in peace, and cuts off who stalls."""

import concurrent.futures
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

import foveal
import foveal.sets.records
from foveal.sources.phantom import draw_phantom

pytest.importorskip("fastapi")
pytestmark = [pytest.mark.slow, pytest.mark.alone]
ROOT = Path(__file__).parents[2]
START = 120  # seconds
JPEG = {"Content-Type": "image/jpeg"}
# A network that takes a second for a pass, so that requests are in work when the server is told to stop.
SLOW = """
import sys, time
from foveal.predict.predictor import Predictor
quick = Predictor.answer
Predictor.answer = lambda model, *given: (time.sleep(1), quick(model, *given))[1]
from foveal.cli import main
sys.exit(main(sys.argv[1:]))
"""
# A server with a short queue and little patience.
NARROW = """
import importlib, sys
from foveal.serve.options import Limits
importlib.import_module("foveal.serve.serve").build_app.__defaults__ = (Limits(queue=16, images=8, timeout=5),)
from foveal.cli import main
sys.exit(main(sys.argv[1:]))
"""
# A process in which a package cannot be found, as where an extra was not installed.
WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None
from foveal.cli import main
sys.exit(main(sys.argv[2:]))
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment(**more):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FOVEAL_")}
    return kept | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | more


@contextlib.contextmanager
def serving(run, *options, program=("-m", "foveal")):
    """(address, process) of a server that answers."""
    port = free_port()
    command = [sys.executable, *program, "serve", str(run), "--port", str(port), "--device", "cpu", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    address = f"http://127.0.0.1:{port}"
    try:
        end = time.monotonic() + START
        while ask(address, "/readyz")[0] != 200:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end, "the server does not answer"
            time.sleep(0.1)
        yield address, process
    finally:
        process.kill()
        process.communicate()


def ask(address, path, data=None, headers=None, timeout=30):
    """(status, what the answer says); status 0 where nobody answers."""
    request = urllib.request.Request(f"{address}{path}", data, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except (OSError, http.client.HTTPException):  # killed before, or in the middle of, its answer
        return 0, {}


@pytest.fixture(scope="module")
def photograph():
    pixels = draw_phantom(2, "left", 80, np.random.default_rng(0)).image
    return cv2.imencode(".jpg", pixels[..., ::-1])[1].tobytes()


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_work_are_answered_before_it_ends(grader_run, photograph, told):
    with serving(grader_run, "--reviews", "none", program=("-c", SLOW)) as (address, process):
        with concurrent.futures.ThreadPoolExecutor(6) as threads:
            asked = [threads.submit(ask, address, "/v1/grade", photograph, JPEG) for _ in range(6)]
            time.sleep(0.5)
            process.send_signal(told)
            assert [request.result()[0] for request in asked] == [200] * 6
        out, err = process.communicate(timeout=30)
        assert process.returncode == 0 and "stopped" in out and "Traceback" not in err
        assert ask(address, "/healthz")[0] == 0


def drip(address, start, piece, every=0.2):
    """Seconds until the server closes the connection of a client that sends a piece now and then."""
    host, port = address.removeprefix("http://").split(":")
    began = time.monotonic()
    with socket.create_connection((host, int(port))) as client:
        client.sendall(start)
        client.settimeout(every)
        while time.monotonic() - began < 40:
            try:
                if not client.recv(65536):
                    break
            except TimeoutError:
                with contextlib.suppress(OSError):
                    client.sendall(piece)
            except OSError:
                break
        return time.monotonic() - began


def test_who_stalls_is_cut_off_while_others_are_served(grader_run, photograph):
    body = b"POST /v1/grade HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\nContent-Length: 100000\r\n\r\n"
    refused = body.replace(b"image/jpeg", b"text/plain").replace(b"100000", b"10000000")
    with serving(grader_run, "--reviews", "none", program=("-c", NARROW)) as (address, _):
        with concurrent.futures.ThreadPoolExecutor(50) as threads:
            stalled = {
                "body": [threads.submit(drip, address, body, b"x") for _ in range(24)],  # more than the queue holds
                "headers": [threads.submit(drip, address, b"GET / HTTP/1.1\r\nX: ", b"y") for _ in range(8)],
                "silent": [threads.submit(drip, address, b"", b"") for _ in range(4)],
                "refused": [threads.submit(drip, address, refused, b"x") for _ in range(4)],
            }
            time.sleep(1)  # by now all of them have come
            for _ in range(10):
                began = time.monotonic()
                assert ask(address, "/v1/grade", photograph, JPEG)[0] == 200
                assert time.monotonic() - began < 15
            seconds = {name: [one.result() for one in several] for name, several in stalled.items()}
        assert max(max(several) for several in seconds.values()) < 30, seconds  # 20 of keep-alive, and the answer
        assert min(seconds["headers"] + seconds["silent"]) > 15, seconds
        assert ask(address, "/v1/grade", photograph, JPEG)[0] == 200


def test_headers_without_end_are_refused(grader_run):
    with serving(grader_run, "--reviews", "none") as (address, _):
        for header in ("x" * 200_000, "left eye"):
            host, port = address.removeprefix("http://").split(":")
            with socket.create_connection((host, int(port))) as client:
                client.sendall(f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Name: {header}\r\n\r\n".encode())
                said = client.recv(100)
            assert said.startswith(b"HTTP/1.1 400" if len(header) > 100 else b"HTTP/1.1 200")
        assert ask(address, "/healthz")[0] == 200


def test_a_killed_server_loses_no_confirmed_review_and_no_line_of_its_log(grader_run):
    command = [sys.executable, ROOT / "benchmarks" / "serve_kills.py", grader_run, "--kills", "5", "--clients", "3"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=600)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert counts["kills"] == 5 and counts["lost"] == 0 and min(counts["answers"], counts["reviews"]) >= 15


def refused(*arguments, program=("-m", "foveal"), **variables):
    """What a server says that does not start."""
    command = [sys.executable, *program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(**variables), timeout=120)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    return done.stderr


def test_what_cannot_be_served_is_told_in_a_word(grader_run, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused("serve", grader_run, "--port", port, "--reviews", "none")
        assert f"port {port}" in said and "Address already in use" in said and "--port" in said
    said = refused("serve", grader_run, "--host", "no.such.host.invalid", "--reviews", "none")
    assert "no.such.host.invalid" in said
    free = ("--port", free_port())
    assert str(tmp_path / "absent") in refused("serve", tmp_path / "absent", *free)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model.json").write_bytes((grader_run / "model.json").read_bytes())
    assert "broken" in refused("serve", broken, *free, "--reviews", "none")
    said = refused("fastapi", "serve", grader_run, *free, program=("-c", WITHOUT))
    assert "[package.missing]" in said and "fastapi" in said and "foveal[serve]" in said
    unreachable = "postgresql://clinic:secret@127.0.0.1:1/reviews"
    said = refused("serve", grader_run, *free, FOVEAL_REVIEWS=unreachable)
    assert "[reviews.unavailable]" in said and "127.0.0.1:1" in said and "secret" not in said
    assert "[reviews.address]" in refused("serve", grader_run, *free, FOVEAL_REVIEWS=str(tmp_path))


def test_reviews_come_back_into_the_next_grader(tmp_path, write_phantoms):
    write_phantoms(tmp_path / "photos", 60)
    for file in sorted((tmp_path / "photos").rglob("05?.png")):  # ten photographs that the set does not have
        (tmp_path / "later").mkdir(exist_ok=True)
        file.rename(tmp_path / "later" / file.name)
    options = {"encoder": "small_conv", "epochs": 1, "batch_size": 8, "class_weights": "none"}
    prepared = {"size": 32, "scale": "icdr"}
    data = foveal.prepare(tmp_path / "photos", out=tmp_path / "set", **prepared)
    run = foveal.train(data, out=tmp_path / "grader", **options)
    records = foveal.sets.records.open_prepared(data).records.set_index("file_sha256")
    files = [*sorted((tmp_path / "photos").rglob("*.png"))[:20], *sorted((tmp_path / "later").iterdir())]
    wanted = {}
    with serving(run, "--keep-images", tmp_path / "kept") as (address, _):
        for number, file in enumerate(files):
            head = {"Content-Type": "image/png", "X-Name": file.name}
            answer = ask(address, "/v1/grade", file.read_bytes(), head)[1]
            (found,) = answer["answers"]
            grade = wanted[found["sha256"]] = None if number == 3 else number % 5
            review = {"image": found["sha256"], "name": file.name, "given": found["grade"], "grade": grade}
            body = json.dumps(review | {"reviewer": "K", "key": answer["key"]}).encode()
            assert ask(address, "/v1/reviews", body, {"Content-Type": "application/json"})[0] == 201
    foveal.correct(data, reviews=str(run / "reviews.sqlite"))
    after = foveal.sets.records.open_prepared(data).records.set_index("file_sha256")
    for digest, grade in wanted.items():
        if digest in records.index:
            assert pd.isna(after["label"][digest]) if grade is None else after["label"][digest] == grade
    kept = foveal.prepare(tmp_path / "kept", out=tmp_path / "keptset", **prepared | {"val": 0.0, "test": 0.0})
    assert len(foveal.sets.records.open_prepared(kept).records) == len(files)
    new = foveal.train(data, kept, out=tmp_path / "new", **options)
    assert len(pd.read_csv(new / "seen.csv")) > len(pd.read_csv(run / "seen.csv"))
    foveal.evaluate(new, on=data, versus=(run,))
    (comparison,) = (new / "cohorts").rglob("comparison.json")
    assert json.loads(comparison.read_text())
    assert foveal.report(new, on=data).exists()
