"""Kill a busy server at random moments, and check that no confirmed review and no answer is missing from its log.

    python benchmarks/serve_kills.py RUN_OR_FILE [--kills 100] [--clients 4] [--database URL]

Each client sends drawn photographs, all different, and confirms or corrects each answer. The server is killed (SIGKILL)
up to two seconds after its first answers, and started again with the same database. At the end, and after every tenth
kill, `foveal audit` must find the log complete, with every answer and review that a client has received. Prints the
counts as JSON. The exit code is 1 if something is lost.
"""

import argparse
import hashlib
import http.client
import json
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np

import foveal
from foveal.console import set_quiet
from foveal.serve.reviews import existing
from foveal.sources.phantom import draw_phantom

START = 120  # seconds


class Client(threading.Thread):
    """Sends and reviews one photograph after the other, until the server has stopped."""

    def __init__(self, port: int, photograph: bytes, name: str) -> None:
        super().__init__(daemon=True)
        self.port, self.photograph, self.name = port, photograph, name
        self.answers: list[str] = []  # digests
        self.reviews: list[int] = []  # ids
        self.begun = threading.Event()

    def run(self) -> None:
        """Use one connection for all requests."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            for number in range(10**9):
                self._grade_and_review(connection, self.photograph + f"{self.name}/{number}".encode())
                self.begun.set()
        except (OSError, http.client.HTTPException, ValueError):
            connection.close()

    def _grade_and_review(self, connection: http.client.HTTPConnection, data: bytes) -> None:
        told = _post(connection, "/v1/grade", data, "image/jpeg")
        answer, digest = told["answers"][0], hashlib.sha256(data).hexdigest()
        assert answer["sha256"] == digest
        self.answers.append(digest)
        review = {"image": digest, "name": "left.jpg", "given": answer["grade"], "grade": 1, "reviewer": self.name}
        told = _post(connection, "/v1/reviews", json.dumps(review).encode(), "application/json")
        self.reviews.append(told["id"])


def _post(connection: http.client.HTTPConnection, path: str, data: bytes, kind: str) -> dict:
    connection.request("POST", path, data, {"Content-Type": kind})
    answer = connection.getresponse()
    told = json.loads(answer.read())
    if answer.status not in (200, 201):
        raise SystemExit(f"{path} was answered {answer.status}: {told}")
    return told


def kill_once(command: list[str], port: int, clients: list[Client], wait: float) -> None:
    """Start a server, let the clients work, and kill it `wait` seconds after each client has its first answers."""
    server = subprocess.Popen(command)
    try:
        end = time.monotonic() + START
        while not _is_ready(port):
            if server.poll() is not None or time.monotonic() > end:
                raise SystemExit("the server did not become ready")
            time.sleep(0.1)
        for client in clients:
            client.start()
        for client in clients:
            if not client.begun.wait(START):
                raise SystemExit("a client got no answer")
        time.sleep(wait)
    finally:
        server.kill()
        server.wait()
    for client in clients:
        client.join(START)


def _is_ready(port: int) -> bool:
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False


def lost(database: str, clients: list[Client]) -> dict[str, int]:
    """Numbers of received answers and reviews that the database lacks; FovealError if the log is damaged."""
    foveal.audit(database)
    with closing(existing(database)) as reviews:
        stored = {review.id for review in reviews.all()}
        with reviews.lines() as lines:
            logged = {line.values().get("image") for line in lines}
    answers = {digest for client in clients for digest in client.answers}
    ids = {number for client in clients for number in client.reviews}
    return {"answers": len(answers), "reviews": len(ids), "lost": len(answers - logged) + len(ids - stored)}


def main() -> None:
    """Kill and check the server repeatedly, and print the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--database", default="", help="database of the server; by default a new SQLite file")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    set_quiet(True)
    moments, everyone, counts = random.Random(given.seed), [], {}
    pixels = draw_phantom(2, "left", 80, np.random.default_rng(given.seed)).image
    photograph = cv2.imencode(".jpg", pixels[..., ::-1])[1].tobytes()
    with tempfile.TemporaryDirectory() as folder:
        database = given.database or str(Path(folder) / "reviews.sqlite")
        for kill in range(1, given.kills + 1):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            options = ["--port", str(port), "--reviews", database, "--device", "cpu", "--quiet"]
            clients = [Client(port, photograph, f"{kill}-{number}") for number in range(given.clients)]
            everyone += clients
            command = [sys.executable, "-m", "foveal", "serve", str(given.run), *options]
            kill_once(command, port, clients, moments.uniform(0, 2))
            if kill % 10 == 0 or kill == given.kills:
                counts = {"kills": kill} | lost(database, everyone)
                print(json.dumps(counts), flush=True)
    sys.exit(counts["lost"] > 0)


if __name__ == "__main__":
    main()
