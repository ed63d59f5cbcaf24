"""What the server answers, for good requests and bad ones; a server in this process, with a tiny grader."""

import base64
import csv
import hashlib
import json
import os
import re
import struct
import sys
import zlib
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.fundus.preparation import prepare_file
from foveal.fundus.quality import FLAGS
from foveal.page.render import render
from foveal.predict import model as graders
from foveal.predict.model import ALL
from foveal.predict.predictor import Predictor
from foveal.serve.options import Limits, ServeConfig
from foveal.serve.serve import build_app, listen, serve

pytest.importorskip("fastapi")
from starlette.testclient import TestClient

from foveal.serve import work

JPEG = {"Content-Type": "image/jpeg"}


def sent(client, files, path="/v1/grade", **options):
    """The answer to a form with a file for each (name, bytes)."""
    return client.post(path, files=[("images", file) for file in files], **options)


def problem(response, status, code):
    """The words of an error, which must have this code or begin with it."""
    error = response.json()["error"]
    assert response.status_code == status and error["code"].startswith(code), error
    assert set(error) == {"code", "what", "expected", "fix"} and error["what"]
    return " ".join(error.values())


def picture_of(address):
    kind, _, data = address.partition(";base64,")
    assert kind in ("data:image/jpeg", "data:image/png")
    pixels = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return pixels


def png_of(width, height):
    """A PNG file that promises a size and has no pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_answers_are_the_rows_that_predict_writes(client, grader_run, photographs, tmp_path):
    black = cv2.imencode(".png", np.zeros((90, 90, 3), np.uint8))[1].tobytes()
    files = {**photographs, "black.png": black, "bad.jpg": b"no picture"}
    folder = tmp_path / "in"
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    table = pd.read_csv(foveal.predict(grader_run, folder, out=tmp_path / "p.csv"), keep_default_na=False)
    rows = {row["id"].rpartition("/")[2]: row for row in table.to_dict("records")}
    order = list(files)[::-1]
    response = sent(client, [(name, files[name]) for name in order])
    answers = response.json()["answers"]
    assert response.status_code == 200 and response.json()["model"] == "grader"
    assert response.json()["key"] == client.get("/v1/model").json()["key"] == foveal.load(grader_run)._model.key
    assert [answer["name"] for answer in answers] == order
    assert {answer["answer"] for answer in answers} >= {"graded", "unreadable"}
    for answer in answers:
        row = rows[answer["name"]]
        assert (answer["answer"], answer["reason"]) == (row["answer"], row["reason"])
        assert answer["sha256"] == hashlib.sha256(files[answer["name"]]).hexdigest()
        if answer["answer"] == "unreadable":
            assert answer["probabilities"] is answer["grade"] is answer["set"] is answer["width"] is None
            continue
        assert answer["probabilities"] == pytest.approx([float(row[f"p{k}"]) for k in range(5)], abs=1e-6)
        assert [flag["name"] for flag in answer["flags"]] == row["flags"].split()
        assert all(flag["meaning"] != flag["name"] for flag in answer["flags"])
        assert answer["set"] == ([int(one) for one in str(row.get("set", "")).split()] or None)
        graded = answer["answer"] == "graded"
        assert answer["grade"] == (int(row["grade"]) if graded else None)
        assert answer["referable"] == (bool(int(row["referable"])) if graded else None)
        assert answer["refers_by"] == ("grade" if graded else None)
        assert "picture" not in answer and "similar" not in answer


def test_an_ungradable_photograph_has_flags_and_probabilities_and_no_grade(
    browsing, grader_run, photographs, tmp_path, monkeypatch
):
    def flagged(source, *given, name, **options):
        flags = ("no-disc", "too-dark") if name.endswith("0.jpg") else ("too-dark",)
        return replace(prepare_file(source, *given, name=name, **options), flags=flags)

    for module in (work, graders):  # at the 32 px of this grader nothing is flagged by itself
        monkeypatch.setattr(module, "prepare_file", flagged)
    for name in ("0.jpg", "1.jpg"):
        (tmp_path / name).write_bytes(photographs[name])
    images = [tmp_path / "0.jpg", tmp_path / "1.jpg"]
    table = pd.read_csv(foveal.predict(grader_run, *images, out=tmp_path / "p.csv", ungradable=("no-disc",)))
    client = browsing(ungradable=("no-disc",))
    answer, other = sent(client, [(file.name, file.read_bytes()) for file in images]).json()["answers"]
    assert [answer["answer"], other["answer"]] == list(table["answer"]) == ["ungradable", "graded"]
    assert answer["reason"] == table["reason"][0] and answer["reason"].startswith("no-disc: ")
    assert [[flag["name"] for flag in one["flags"]] for one in (answer, other)] == [
        ["no-disc", "too-dark"],
        ["too-dark"],
    ]
    assert other["flags"][0]["meaning"] == FLAGS["too-dark"]
    assert answer["grade"] is answer["grade_name"] is answer["referable"] is answer["set"] is None
    assert answer["probabilities"] == pytest.approx([table[f"p{k}"][0] for k in range(5)], abs=1e-6)
    assert 'foveal_answers_total{answer="ungradable"} 1.0' in client.get("/metrics").text
    report = sent(client, [("0.jpg", photographs["0.jpg"])], "/v1/report", params={"language": "zh"}).text
    said = report.partition('class="verdict')[0]  # below it, all flags are told
    assert "未能识别出圆形视野" in said and "no-disc" not in report and FLAGS["no-disc"] not in report
    assert "病灶可能隐没在暗处" not in said and "病灶可能隐没在暗处" in report


@pytest.mark.parametrize(
    ("name", "kind"), [("0.jpg", "image/jpeg"), ("3.png", "image/png"), ("4.tif", "image/tiff"),
                       ("5.dcm", "application/dicom"), ("0.jpg", "IMAGE/JPEG; x=y"),
                       ("3.png", "application/octet-stream")]
)  # fmt: skip
def test_a_raw_body_gets_the_same_answer_as_a_form(client, photographs, name, kind):
    given = client.post("/v1/grade", content=photographs[name], headers={"Content-Type": kind, "X-Name": name})
    form = sent(client, [(name, photographs[name])])
    assert given.status_code == 200 and given.json() == form.json()


def test_a_dicom_file_without_preamble_is_recognised(client, photographs):
    bare = photographs["5.dcm"][132:]
    alone = client.post("/v1/grade", content=bare, headers={"Content-Type": "application/dicom", "X-Name": "IM1"})
    assert alone.json()["answers"][0]["answer"] == "graded"
    assert sent(client, [("IM1.dcm", bare)]).json()["answers"][0]["answer"] == "graded"
    assert sent(client, [("IM1", bare)]).status_code == 200


@pytest.mark.parametrize(
    ("given", "seen"),
    [("../../etc/passwd", "passwd"), ("C:\\eyes\\left.jpg", "left.jpg"), ("<script>alert(1)</script>", "script>"),
     ("左眼.jpg", "左眼.jpg"), ("a\u202e\x07b.jpg", "ab.jpg"), ("x" * 3000, "x" * 400), ("%2e%2e%2fpasswd", "passwd"),
     ("/", "photograph")],
)  # fmt: skip
def test_names_are_text_and_never_paths(client, photographs, given, seen):
    data = photographs["0.jpg"]
    assert sent(client, [(given, data)]).json()["answers"][0]["name"] == seen
    by_query = client.post("/v1/grade", content=data, headers=JPEG, params={"name": given})
    assert by_query.json()["answers"][0]["name"] == seen
    header = given.encode().replace(b"\x07", b"")
    by_header = client.post("/v1/grade", content=data, headers={**JPEG, b"X-Name": header})
    assert by_header.json()["answers"][0]["name"] == seen


def test_a_bad_photograph_alone_is_an_error_and_among_others_an_answer(client, photographs):
    bad = ("bad.jpg", photographs["0.jpg"][:300])
    assert "cannot be read: truncated" in problem(sent(client, [bad]), 422, "image.")
    both = sent(client, [bad, ("0.jpg", photographs["0.jpg"])]).json()["answers"]
    assert [answer["answer"] for answer in both] == ["unreadable", "graded"]
    empty = client.post("/v1/grade", content=b"", headers=JPEG)
    assert "empty file" in problem(empty, 422, "image.")


def test_pictures_without_maps_have_no_heat(client, photographs):
    (answer,) = sent(client, [("5.dcm", photographs["5.dcm"])], params={"pictures": True}).json()["answers"]
    assert picture_of(answer["picture"]).shape == (80, 80, 3) and answer["heat"] is None
    assert client.get("/v1/model").json()["overlay"] is False


def test_pictures_maps_and_similar_cases(browsing, looking_run, phantom_set, photographs, monkeypatch):
    client = browsing(run=looking_run, cases=phantom_set)
    about = client.get("/v1/model").json()
    assert about["overlay"] is about["similar"] is True and about["name"] == "looking"
    drawn = cv2.imdecode(np.frombuffer(photographs["3.png"], np.uint8), cv2.IMREAD_COLOR)
    wide = cv2.copyMakeBorder(cv2.resize(drawn, (1500, 1500)), 0, 0, 250, 250, cv2.BORDER_CONSTANT)
    data = cv2.imencode(".jpg", wide)[1].tobytes()
    real, passes, raised, cell = Predictor.answer, [], [1], [3, 2]

    def marked(model, images, want):
        passes.append(want)
        answers = real(model, images, want)
        if answers.maps is None:
            return answers
        places = np.zeros((len(images), 8, 8), np.float32)
        places[:, *cell] = raised[0]
        assert len(answers.maps) == len(images)
        return answers._replace(maps=places)

    monkeypatch.setattr(Predictor, "answer", marked)
    (answer,) = sent(client, [("a.jpg", data)], params={"pictures": True, "similar": True}).json()["answers"]
    assert passes == [ALL]  # grade, map and similar cases of one pass
    picture, heat = picture_of(answer["picture"]), picture_of(answer["heat"])
    assert picture.shape == (1200, 1600, 3) and heat.shape == (1200, 1600, 4)
    # The square that is seen has 250 px of black above: the middle of the marked cell is at 625, 625 of 2000 x 1500.
    assert heat[500, 500, 3] > 200 and heat[900, 500, 3] == heat[500, 1000, 3] == heat[500, 60, 3] == 0
    raised[0] = 0  # nothing raises the score: there is no map
    (flat,) = sent(client, [("b.jpg", data)], params={"pictures": True}).json()["answers"]
    assert (
        flat["heat"] is None and flat["heat_at_border"] is False and picture_of(flat["picture"]).shape == picture.shape
    )
    raised[0], cell[:] = 1, [0, 0]  # only the corner outside the retina does
    (corner,) = sent(client, [("c.jpg", data)], params={"pictures": True}).json()["answers"]
    assert corner["heat"] is None and corner["heat_at_border"] is False
    assert len(answer["similar"]) == 4
    likeness = [case["similarity"] for case in answer["similar"]]
    assert likeness == sorted(likeness, reverse=True) and max(likeness) <= 1
    for case in answer["similar"]:
        assert picture_of(case["picture"]).shape == (32, 32, 3)
        assert case["grade_name"] == about["classes"][case["grade"]]
    plain = sent(client, [("a.jpg", data)]).json()["answers"][0]
    assert plain["probabilities"] == pytest.approx(answer["probabilities"], abs=1e-6)


def test_a_report_is_a_page_in_both_languages_with_its_name_as_text(client, photographs):
    file = ("<b>left & right.jpg", photographs["0.jpg"])
    for language, words in (("en", "Research use"), ("zh", "研究")):
        page = sent(client, [file], "/v1/report", params={"language": language})
        assert page.status_code == 200 and page.headers["content-type"] == "text/html; charset=utf-8"
        assert page.headers["content-disposition"].startswith('attachment; filename="report-')
        assert "&lt;b&gt;left &amp; right.jpg" in page.text and "<b>left" not in page.text
        assert words in page.text and "data:image/jpeg;base64," in page.text and "<script" not in page.text
    problem(sent(client, [file], "/v1/report", params={"language": "fr"}), 422, "request.invalid")
    problem(sent(client, [file, file], "/v1/report"), 413, "request.too_many")
    problem(sent(client, [("a.jpg", b"no")], "/v1/report"), 422, "image.")


def test_a_printed_report_says_whose_eye_it_is_or_leaves_lines(browsing, photographs, dicom_file, tmp_path):
    pixels = cv2.imdecode(np.frombuffer(photographs["0.jpg"], np.uint8), cv2.IMREAD_COLOR)
    file = dicom_file(pixels, PatientID="Z4711<b>", ImageLaterality="R", StudyDate="20260503")
    client, blank = browsing(reviews=str(tmp_path / "r.sqlite")), "<i></i>"
    page = sent(client, [("IM1", file)], "/v1/report").text
    assert "Z4711&lt;b&gt;" in page and "2026-05-03" in page and "<bdi>right</bdi>" in page and blank not in page
    assert "Doe" not in page
    page = sent(client, [("a.jpg", photographs["0.jpg"])], "/v1/report").text
    assert page.count(blank) == 3
    client.__exit__(None, None, None)
    assert not [one for one in tmp_path.iterdir() if b"Z4711" in one.read_bytes()]


def test_a_printed_report_has_the_warnings_of_the_page(client, photographs):
    (answer,) = sent(client, [("0.jpg", photographs["0.jpg"])], params={"pictures": True}).json()["answers"]
    about = client.get("/v1/model").json()
    answer |= {"answer": "graded", "set": list(range(5)), "coverage": 0.9, "unlike": ["colour"], "heat_at_border": True}
    answer |= {"grade": 1, "grade_name": about["classes"][1], "referable": False, "heat": answer["picture"]}
    words = json.loads((Path(work.__file__).parent / "static" / "words.en.json").read_text(encoding="utf-8"))
    for failed in (False, True):
        shown = {
            "words": words,
            "answer": answer,
            "printed": {"number": "", "date": ""},
            "model": about | {"maps_failed": failed},
            "record": [],
            "when": "",
        }
        page = render("sheet.html", **shown)
        assert words["set.all"] in page and words["unlike.colour"] in page.partition(words["flags.heading"])[0]
        assert (words["viewer.border"] in page) == (page.count('class="heat"') == 1) == (not failed)


def test_pixels_are_refused_by_the_header(client, photographs):
    huge = sent(client, [("huge.png", png_of(100_000, 100_000))])
    said = problem(huge, 422, "image.")
    assert "100000" in said and "60" in said


def test_the_size_is_counted_not_taken_from_the_header(browsing, photographs):
    client = browsing(limits={"megabytes": 1})
    large = photographs["0.jpg"] + bytes(10**6)
    declared = client.post("/v1/grade", content=large, headers=JPEG)
    assert "1 MB" in problem(declared, 413, "request.too_large")
    problem(sent(client, [("a.jpg", large[: 10**6])]), 413, "request.too_large")  # the form around it counts
    given = []

    def pieces():
        for _ in range(500):
            given.append(1)
            yield bytes(10_000)

    problem(client.post("/v1/grade", content=pieces(), headers=JPEG), 413, "request.too_large")
    assert sent(client, [("0.jpg", photographs["0.jpg"])]).status_code == 200


def test_files_of_one_request_are_counted(browsing, photographs):
    client = browsing(limits={"images": 2})
    files = [("0.jpg", photographs["0.jpg"])] * 3
    assert "2" in problem(sent(client, files), 413, "request.too_many")
    assert len(sent(client, files[:2]).json()["answers"]) == 2


FORM = {"Content-Type": "multipart/form-data; boundary=x"}
PART = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a.jpg"\r\n\r\n'


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        (b"{}", {"Content-Type": "application/json"}, 415, "request.wrong_type"),
        (b"x", {}, 415, "request.wrong_type"),
        (b"x", {b"Content-Type": b"\xff/plain; charset=\xff"}, 415, "request.wrong_type"),
        (b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}, 415, "request.wrong_type"),
        (b"--x--\r\n", FORM, 422, "request.no_photograph"),
        (b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n', FORM, 422, "request.no_photograph"),
        (PART.replace(b"images", b"image") + b"J\r\n--x--\r\n", FORM, 422, "request.wrong_part"),
        (b"", FORM, 400, "request.malformed"),
        (b"nonsense", FORM, 400, "request.malformed"),
        (PART + b"half", FORM, 400, "request.malformed"),
        (PART + b"J\r\n", FORM, 400, "request.malformed"),
        (PART + b"J\r\n--x\r\n", FORM, 400, "request.malformed"),
        (PART.replace(b'name="images"; ', b"") + b"J\r\n--x--\r\n", FORM, 400, "request.malformed"),
        (PART + b"J\r\n--x--\r\n", {"Content-Type": "multipart/form-data"}, 400, "request.malformed"),
        (PART + b"J\r\n--x--\r\n", {"Content-Type": "multipart/form-data; boundary="}, 400, "request.malformed"),
        (b"--x\r\nX: " + b"y" * 100_000 + b"\r\n\r\nJ\r\n--x--\r\n", FORM, 400, "request.malformed"),
        (PART.replace(b"images", b"\\ud800"), {"Content-Type": FORM["Content-Type"] + "; charset=unicode_escape"},
         400, "request.malformed"),
        (PART.replace(b"images", b"\\ud800") + b"J\r\n--x--\r\n",
         {"Content-Type": FORM["Content-Type"] + "; charset=unicode_escape"}, 422, "request.wrong_part"),
    ],
)  # fmt: skip
def test_a_request_without_photograph_is_refused(client, content, headers, status, code):
    problem(client.post("/v1/grade", content=content, headers=headers), status, code)


def test_a_truncated_form_is_refused(client, photographs):
    data = PART + photographs["0.jpg"] + b"\r\n" + PART + photographs["1.jpg"]
    problem(client.post("/v1/grade", content=data, headers=FORM), 400, "request.malformed")
    whole = client.post("/v1/grade", content=data + b"\r\n--x--\r\n", headers=FORM)
    assert len(whole.json()["answers"]) == 2


@pytest.mark.parametrize("token", ["secret", "geheim-ü", "密码", "voilà"])
def test_every_api_address_needs_the_token(browsing, photographs, token):
    client = browsing(token=token)
    right = {b"Authorization": f"Bearer {token}".encode()}
    files = [("0.jpg", photographs["0.jpg"])]
    for headers in (
        {}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {token}".encode()},
        {b"Authorization": b"Bearer \xff\xfe"}, {"Authorization": "Bearer"}, {"Authorization": token.encode()},
    ):  # fmt: skip
        for response in (
            client.get("/v1/model", headers=headers),
            sent(client, files, headers=headers),
            client.get("/v1/reviews", headers=headers),
            client.get("/v1/reviews/corrections.csv", headers=headers),
            client.post("/v1/reviews", json={}, headers=headers),
            client.get("/v1/", headers=headers),
        ):
            problem(response, 401, "request.token")
            assert response.headers["www-authenticate"] == "Bearer"
    assert client.get("/v1/model", headers=right).json()["name"] == "grader"
    assert sent(client, files, headers=right).status_code == 200
    for path in ("/", "/healthz", "/readyz", "/metrics", "/docs", "/static/page.js"):
        assert client.get(path).status_code == 200
    assert "Authorization: Bearer TOKEN" in client.get("/docs").text
    if token == "geheim-ü":  # as a browser sends it
        assert client.get("/v1/model", headers={b"Authorization": f"Bearer {token}".encode("latin-1")}).is_success


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "testserver", "[::2]:8000", "[", "", "a:b:c"]
)
def test_a_local_server_accepts_only_local_host_names(client, host):
    for path in ("/v1/model", "/", "/metrics"):
        problem(client.get(path, headers={"Host": host}), 400, "request.wrong_host")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8000", "LOCALHOST", "[::1]:8000"])
def test_the_names_of_this_machine(client, host):
    assert client.get("/v1/model", headers={"Host": host}).status_code == 200


def test_a_network_server_accepts_any_host_name(browsing):
    assert browsing(host="0.0.0.0", token="t").get("/healthz", headers={"Host": "eyes.hospital"}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v2/model", 404, "request.not_found"),
        ("GET", "/v1/grade", 405, "request.wrong_method"),
        ("DELETE", "/v1/reviews", 405, "request.wrong_method"),
        ("GET", "/static/../app.py", 404, "request.not_found"),
        ("GET", "/static/%2e%2e/app.py", 404, "request.not_found"),
        ("GET", "/static/%00", 404, "request.not_found"),
        ("GET", "/static/" + "x" * 5000, 404, "request.not_found"),
        ("BREW", "/", 405, "request.wrong_method"),
        ("GET", "/v1/reviews?limit=many", 422, "request.invalid"),
        ("GET", "/v1/reviews?offset=-1", 422, "request.invalid"),
        ("GET", "/v1/reviews?offset=99999999999999999999", 422, "reviews.invalid"),
        ("GET", "/redoc", 404, "request.not_found"),
    ],
)
def test_wrong_addresses_are_structured_errors(client, method, path, status, code):
    problem(client.request(method, path), status, code)


def test_every_response_has_its_headers(client, photographs):
    for response in (
        client.get("/"), client.get("/docs"), client.get("/openapi.json"), client.get("/static/page.css"),
        client.get("/healthz"), client.get("/metrics"), client.get("/nowhere"), client.get("/v1/model"),
        client.get("/v1/model", headers={"Host": "evil"}), client.post("/v1/grade"),
        sent(client, [("0.jpg", photographs["0.jpg"])]), sent(client, [("0.jpg", photographs["0.jpg"])], "/v1/report"),
    ):  # fmt: skip
        headers = response.headers
        assert headers["content-security-policy"].startswith("default-src 'none'; script-src 'self';")
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
        assert (headers.get("cache-control") == "no-store") == response.request.url.path.startswith("/v1/")


def test_a_failure_in_the_server_is_an_error_with_headers_and_a_line_in_the_log(client, monkeypatch, caplog):
    from foveal.serve import app

    monkeypatch.setattr(app, "corrections_text", lambda table: 1 / 0)
    response = client.get("/v1/reviews/corrections.csv")
    problem(response, 500, "server.failed")
    assert "content-security-policy" in response.headers and "division by zero" in caplog.text


def test_health_readiness_and_counters(browsing, photographs):
    client = browsing()
    assert client.get("/healthz").json() == {"status": "ok"} and client.get("/readyz").json() == {"status": "ready"}
    sent(client, [(name, photographs[name]) for name in ("0.jpg", "3.png")])
    sent(client, [("bad.jpg", b"no")])
    client.get("/a-name-of-a-patient")
    text = client.get("/metrics").text
    assert 'foveal_request_seconds_count{route="/v1/grade",status="200"} 1.0' in text
    assert 'foveal_request_seconds_count{route="/v1/grade",status="422"} 1.0' in text
    assert 'foveal_request_seconds_count{route="other",status="404"} 1.0' in text
    assert 'foveal_answers_total{answer="unreadable"} 1.0' in text and "foveal_in_work 0.0" in text
    assert sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("foveal_answers_total")) == 3
    assert "patient" not in text and ".jpg" not in text


def test_a_server_that_is_starting_or_stopping_is_not_ready(serving):
    client = TestClient(serving(), base_url="http://127.0.0.1")
    for _ in range(2):
        assert problem(client.get("/readyz"), 503, "server.not_ready")
        assert client.get("/readyz").headers["retry-after"] and client.get("/healthz").is_success
        with client:
            assert client.get("/readyz").is_success


def test_a_port_in_use_is_told_before_the_model_is_loaded(tmp_path, refuses):
    with listen("127.0.0.1", 0) as other:
        port = other.getsockname()[1]
        with refuses("server.port", "127.0.0.1", port):
            serve(ServeConfig(run=tmp_path / "absent", port=port))


def test_the_api_is_described_without_anything_from_elsewhere(client):
    described = client.get("/openapi.json").json()["paths"]
    for path in ("/v1/grade", "/v1/report"):
        body = described[path]["post"]["requestBody"]["content"]
        assert body["multipart/form-data"]["schema"]["properties"]["images"]["items"]["format"] == "binary"
        assert "application/dicom" in body
    review = described["/v1/reviews"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert {"image", "name", "given", "grade", "reviewer"} == set(review["required"])
    longest = {name: field["maxLength"] for name, field in review["properties"].items() if "maxLength" in field}
    assert longest == {"name": 400, "reviewer": 100, "note": 4000} and review["properties"]["image"]["pattern"]
    page = client.get("/docs").text
    assert all(f"{method.upper()} {path}</code>" in page for path, found in described.items() for method in found)
    assert "<script" not in page and "http://" not in page and "https://" not in page
    for address in re.findall(r'(?:src|href)="([^"]+)"', page):
        assert client.get(f"/{address.removeprefix('./')}").status_code == 200


REVIEW = {"image": "a" * 64, "name": "left.jpg", "given": 2, "grade": 3, "reviewer": "Dr. Ü", "note": "microaneurysms"}


def test_reviews_are_kept_listed_and_exported(browsing, photographs, review_of):
    client = browsing()
    corrected = review_of(client, photographs["0.jpg"])
    corrected["grade"] = (corrected["given"] + 1) % 5
    first = client.post("/v1/reviews", json=corrected)
    assert first.status_code == 201 and first.json()["id"] == 1 and first.json()["model"] == "grader"
    assert {key: first.json()[key] for key in corrected} == corrected
    confirmed = review_of(client, photographs["1.jpg"], name="=right.jpg")
    client.post("/v1/reviews", json=confirmed | {"grade": confirmed["given"]})
    client.post("/v1/reviews", json=review_of(client, photographs["2.jpg"], name="c", grade="ungradable"))
    listed = client.get("/v1/reviews", params={"limit": 2}).json()
    assert listed["total"] == 3 and [review["id"] for review in listed["reviews"]] == [3, 2]
    first = first.json()
    decision = first.pop("decision")
    assert (decision["grade"], decision["referable"], decision["disagreement"]) == (
        corrected["grade"],
        corrected["grade"] >= 2,
        False,
    )
    assert client.get("/v1/reviews?offset=2").json()["reviews"] == [first]
    sent_again = client.post("/v1/grade", files=[("images", (name, photographs[name])) for name in ("3.png", "0.jpg")])
    told = [(answer["review"], answer["decision"]) for answer in sent_again.json()["answers"]]
    assert told == [(None, None), (first, decision)]
    table = client.get("/v1/reviews/corrections.csv")
    assert table.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.reader(table.text.splitlines()))
    assert [row[0] for row in rows] == ["id", "left.jpg", "'=right.jpg", "c"] and rows[3][2] == "ungradable"
    assert 'foveal_reviews_total{agrees="yes"} 1.0' in client.get("/metrics").text


@pytest.mark.parametrize(
    "wrong",
    [{"image": "A" * 64}, {"name": ""}, {"name": "x" * 401}, {"grade": 5}, {"grade": -1}, {"grade": "2"},
     {"grade": 2.5}, {"grade": True}, {"given": 10**30}, {"reviewer": "\0"}, {"reviewer": " "}, {"note": "x" * 4001},
     {"probabilities": [2, 0, 0, 0, 0]}, {"probabilities": [0.1]}, {"probabilities": [0.1] * 6},
     {"key": 0}, {"probabilities": "0.1"}, {"model": "another"}],
)  # fmt: skip
def test_reviews_that_cannot_be_kept_are_refused(client, wrong):
    response = client.post("/v1/reviews", json=REVIEW | wrong)
    assert response.json()["error"]["code"] in ("request.invalid", "reviews.invalid") and response.status_code == 422
    assert client.get("/v1/reviews").json()["total"] == 0


def test_a_review_must_be_of_an_answer_of_this_model(browsing, photographs, review_of):
    client = browsing()
    (answer,) = client.post("/v1/grade", files={"images": ("0.jpg", photographs["0.jpg"])}).json()["answers"]
    key, review = client.get("/v1/model").json()["key"], review_of(client, photographs["0.jpg"])
    for other in ("0" * 64, "0" * 65, ""):
        problem(client.post("/v1/reviews", json=review | {"key": other}), 409, "request.another_model")
    for wrong in (
        {"image": "a" * 64}, {"given": (review["given"] + 1) % 5}, {"given": None}, {"probabilities": [0.2] * 5}
    ):  # fmt: skip
        problem(client.post("/v1/reviews", json=review | wrong), 409, "request.no_answer")
    assert client.get("/v1/reviews").json()["total"] == 0
    for right in ({}, {"key": key}, {"probabilities": answer["probabilities"]}):
        kept = client.post("/v1/reviews", json=review | right)
        assert kept.status_code == 201 and kept.json()["model"] == "grader"


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 422, "request.invalid"),
        (b"[]", 422, "request.invalid"),
        (b"{", 422, "request.invalid"),
        (b'{"\\ud800": 1}', 422, "request.invalid"),
        (b"\xff\xfe", 422, "request.invalid"),
        (b'{"probabilities": [NaN]}', 422, "request.invalid"),
        (b"[" * 60_000, 422, "request.invalid"),
        (b" " * 70_000, 413, "request.too_large"),
    ],
)
def test_an_invalid_review_is_refused(client, content, status, code):
    problem(client.post("/v1/reviews", content=content, headers={"Content-Type": "application/json"}), status, code)


def test_a_cross_site_form_cannot_add_a_review(client, photographs, review_of):
    review = json.dumps(review_of(client, photographs["0.jpg"]))
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        response = client.post("/v1/reviews", content=review, headers={"Content-Type": kind})
        problem(response, 415, "request.wrong_type")
    assert client.get("/v1/reviews").json()["total"] == 0


def test_the_longest_review_with_any_characters_is_stored(browsing, photographs, review_of):
    client = browsing()
    review = review_of(client, photographs["0.jpg"], name="😀" * 400, reviewer="😀" * 100, note="😀" * 4000)
    data = json.dumps(review).encode()  # every sign takes twelve bytes
    response = client.post("/v1/reviews", content=data, headers={"Content-Type": "application/json"})
    assert response.status_code == 201 and response.json()["note"] == review["note"]


def test_what_is_held_now_is_what_grading_again_would_say(browsing, photographs, review_of):
    client = browsing()
    answers = {name: client.post("/v1/grade", files={"images": (name, photographs[name])}).json()["answers"][0]
               for name in ("0.jpg", "1.jpg")}  # fmt: skip
    asked = {answer["sha256"]: answer["refers_by"] for answer in answers.values()}

    def current(key=None):
        return client.post("/v1/reviews/current", json={"answers": asked} | ({} if key is None else {"key": key}))

    assert {(one["review"], one["decision"]) for one in current().json()["answers"].values()} == {(None, None)}
    for who, grade in (("Dr. Ü", 0), ("dr. ü ", 3), ("Berta", 1)):
        review = review_of(client, photographs["0.jpg"], reviewer=who, grade=grade)
        assert client.post("/v1/reviews", json=review).status_code == 201
    sent = {"images": ("0.jpg", photographs["0.jpg"])}
    (again,) = client.post("/v1/grade", files=sent).json()["answers"]
    held = current(client.get("/v1/model").json()["key"]).json()["answers"]
    assert {name: held[again["sha256"]][name] for name in ("review", "decision")} == {
        name: again[name] for name in ("review", "decision")
    }
    assert [one["reviewer"] for one in again["decision"]["opinions"]] == ["dr. ü ", "Berta"]  # Dr. Ü's newest
    assert held[answers["1.jpg"]["sha256"]]["review"] is None
    asked[again["sha256"]] = "oedema"  # which no review rules out
    client.post("/v1/reviews", json=review_of(client, photographs["0.jpg"], reviewer="Dr. Ü", grade=0))
    (decision,) = [one["decision"] for digest, one in current().json()["answers"].items() if digest == again["sha256"]]
    assert decision["grade"] == 1 and decision["referable"] is True
    problem(current("0" * 64), 409, "request.another_model")


@pytest.mark.parametrize(
    "wrong",
    [{}, {"answers": ["a" * 64]}, {"answers": {"A" * 64: None}}, {"answers": {"a" * 64: "luck"}},
     {"answers": {f"{number:064x}": None for number in range(501)}}, {"answers": {}, "more": 1}],
)  # fmt: skip
def test_a_question_about_reviews_is_checked(client, wrong):
    problem(client.post("/v1/reviews/current", json=wrong), 422, "request.invalid")
    most = {"answers": {f"{number:064x}": "threshold" for number in range(500)}}
    assert len(client.post("/v1/reviews/current", json=most).json()["answers"]) == 500


def test_a_server_without_reviews_says_so(browsing):
    client = browsing(reviews="none")
    assert client.get("/v1/model").json()["reviews"] is False
    for response in (client.post("/v1/reviews", json=REVIEW), client.get("/v1/reviews")):
        problem(response, 404, "reviews.off")


WRITTEN = []
WATCHING = []


def _watch(event, given):
    """Note what is opened to be written; temporary files are opened with flags."""
    if WATCHING and event == "open":
        path, mode, flags = given
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if isinstance(flags, int) else 0
        if writes or (isinstance(mode, str) and set(mode) & set("wax+")):
            WRITTEN.append(str(path))


@contextmanager
def watched():
    """What is opened to be written meanwhile."""
    if not WRITTEN and "hook" not in vars(watched):
        sys.addaudithook(_watch)
        watched.hook = True
    WRITTEN.clear()
    WATCHING.append(True)
    try:
        yield WRITTEN
    finally:
        WATCHING.clear()


def test_no_photograph_is_written_by_default(browsing, tmp_path, photographs):
    plain, keeping = browsing(reviews="none"), browsing(keep_images=str(tmp_path / "kept"))
    pixels = np.random.default_rng(0).integers(0, 255, (640, 640, 3), dtype=np.uint8)
    large = cv2.imencode(".png", pixels)[1].tobytes()
    assert len(large) > 1.1 * 10**6  # Starlette would lay what is above 1 MB into a temporary file
    files = [("large.png", large), ("../escape.jpg", photographs["0.jpg"]), ("bad.jpg", b"no")]
    with watched() as written:
        assert sent(plain, files, params={"pictures": True}).status_code == 200
        assert sent(plain, files[:1], "/v1/report").status_code == 200
        assert plain.post("/v1/grade", content=large, headers={"Content-Type": "image/png"}).status_code == 200
        assert written == []
        for _ in range(2):
            sent(keeping, [*files, files[0]])
        assert written
    waiting = {hashlib.sha256(data).hexdigest() for _, data in files[:2]}
    assert {file.name.partition(".")[0] for file in (tmp_path / "kept" / ".waiting").iterdir()} == waiting
    assert [file.name for file in (tmp_path / "kept").iterdir()] == [".waiting"]
    assert plain.get("/v1/model").json()["keeps_images"] is False
    assert keeping.get("/v1/model").json()["keeps_images"] is True


def test_an_unusable_folder_for_photographs_is_refused_before_the_model_is_loaded(
    grader_run, tmp_path, monkeypatch, refuses
):
    (tmp_path / "file").write_text("")
    (tmp_path / "shut").mkdir()
    # Root may write anywhere, so that what the system would say of others is said for it.
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path / "shut")
    for name, code in (
        ("file", "exists"),
        ("file/inside", "unwritable"),
        ("shut", "unwritable"),
        ("n" * 300, "unwritable"),
    ):
        with refuses(f"output.{code}", "--keep-images", tmp_path / name):
            build_app(ServeConfig(run=tmp_path / "absent", keep_images=str(tmp_path / name)))


def test_a_run_folder_without_torch_says_what_to_do(grader_run, monkeypatch, refuses):
    monkeypatch.setitem(sys.modules, "torch", None)
    with refuses("package.missing", grader_run, "torch", "foveal export"):
        build_app(ServeConfig(run=grader_run, reviews="none"))


def test_options_come_from_the_environment_and_are_checked(monkeypatch, tmp_path, refuses):
    monkeypatch.delenv("FOVEAL_TOKEN", raising=False)
    monkeypatch.delenv("FOVEAL_REVIEWS", raising=False)
    plain = ServeConfig(run=tmp_path)
    assert (plain.token, plain.reviews_address) == ("", str(tmp_path / "reviews.sqlite"))
    assert ServeConfig(run=tmp_path / "model.onnx").reviews_address == str(tmp_path / "reviews.sqlite")
    monkeypatch.setenv("FOVEAL_TOKEN", "secret")
    monkeypatch.setenv("FOVEAL_REVIEWS", "postgresql://clinic@host/reviews")
    named = ServeConfig(run=tmp_path)
    assert (named.token, named.reviews_address) == ("secret", "postgresql://clinic@host/reviews")
    assert ServeConfig(run=tmp_path, reviews="none").reviews_address == ""
    assert ServeConfig(run=tmp_path, token="t", reviews="a.db").reviews_address == "a.db"
    with refuses("option.value", "--port", 70_000):
        ServeConfig(run=tmp_path, port=70_000)
    with refuses("option.value", "--ungradable", "ugly"):
        ServeConfig(run=tmp_path, ungradable=("ugly",))
    with pytest.raises(AssertionError):
        Limits(queue=4)
