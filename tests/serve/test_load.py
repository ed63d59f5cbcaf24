"""The program that puts the server under load: it counts what goes wrong, and compares all that it is answered."""

import http.server
import importlib.util
import json
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "serve_load.py"


@pytest.fixture
def program(monkeypatch):
    spec = importlib.util.spec_from_file_location("serve_load", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "serve_load", module)  # where its data classes look for their types
    spec.loader.exec_module(module)
    return module


def answer(name, grade):
    return {"name": name, "answer": "graded", "grade": grade, "probabilities": [0.25, 0.75]}


class Odd(http.server.BaseHTTPRequestHandler):
    """Answers well, then otherwise, then with half an answer, then with what is no JSON, and so on."""

    protocol_version = "HTTP/1.1"
    turn = 0

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        turn, Odd.turn = Odd.turn % 4, Odd.turn + 1
        body = json.dumps({"answers": [answer(self.headers["X-Name"], 1 if turn == 0 else 0)]}).encode()
        body = b"{" if turn == 3 else body
        self.send_response(200)
        self.send_header("Content-Length", str(len(body) + 10 * (turn == 2)))
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = turn == 2

    def log_message(self, *_):
        pass


@pytest.mark.slow
def test_every_answer_is_compared_and_every_failure_counted(program, monkeypatch):
    table = pd.DataFrame({"answer": ["graded"], "grade": pd.array([1], "Int64"), "p0": [0.25], "p1": [0.75]})
    load = program.Load()
    with http.server.HTTPServer(("127.0.0.1", 0), Odd) as server:
        monkeypatch.setattr(program, "PORT", server.server_address[1])
        threading.Thread(target=server.serve_forever, daemon=True).start()
        program.client(0, [("0.jpg", b"x")], time.monotonic() + 0.5, load, threading.Lock())
        server.shutdown()
    assert set(load.statuses) == {200, "IncompleteRead", "JSONDecodeError"}
    assert len(load.answers) == len(load.seconds) == load.statuses[200] > 2  # it went on after a failure
    unequal, worst = program.compare(load.answers, table)
    assert unequal == load.statuses[200] // 2 and worst == 0
    table["p1"] = 0.5
    assert program.compare(load.answers, table)[1] == 0.25
