"""A second grader works silently: nothing of it is shown, everything is logged and counted, and no failure is seen."""

import time
from contextlib import closing

import pytest
from starlette.testclient import TestClient

import foveal
from foveal.serve.batching import Batcher
from foveal.serve.reviews import existing


def seconds_in(place):
    with closing(existing(place)) as reviews, reviews.lines() as lines:
        return [line.values() for line in lines if line.values()["kind"] == "second"]


def grade(client, photographs, *names):
    answers = client.post("/v1/grade", files=[("images", (name, photographs[name])) for name in names])
    assert answers.status_code == 200
    return answers.json()["answers"]


def test_its_answers_are_logged_and_not_shown(serving, grader_run, photographs, tmp_path):
    place = str(tmp_path / "reviews.sqlite")
    with TestClient(serving(reviews=place, second=grader_run), base_url="http://127.0.0.1") as client:
        answers = grade(client, photographs, "0.jpg", "5.dcm")
        alone = TestClient(serving(reviews="none"), base_url="http://127.0.0.1")
        assert [set(answer) for answer in answers] == [
            set(answer) for answer in grade(alone, photographs, "0.jpg", "5.dcm")
        ]
        end = time.monotonic() + 20
        while 'foveal_second_total{outcome="same"} 2.0' not in client.get("/metrics").text:
            assert time.monotonic() < end
            time.sleep(0.05)
    found = {line["image"]: line for line in seconds_in(place)}
    for answer in answers:
        line = found[answer["sha256"]]
        assert line["agrees"] and (line["grade"], line["referable"]) == (answer["grade"], answer["referable"])
        assert line["patient"] == answer["patient"] and line["key"]
    assert foveal.audit(place)["kinds"] == {"begin": 1, "answer": 2, "second": 2}
    assert (foveal.monitor(place)["rate"] == "second grader differs").any()
    patient = next(answer["patient"] for answer in answers if answer["patient"])
    assert (
        patient and foveal.erase(place, patient="4711", keep_images="none", yes=True)["lines"] == 2
    )  # both graders' lines


def test_its_failures_are_not_seen(serving, grader_run, photographs, tmp_path, monkeypatch):
    place = str(tmp_path / "reviews.sqlite")
    with TestClient(serving(reviews=place, second=grader_run), base_url="http://127.0.0.1") as client:
        batcher, judge = client.app.state.second._batcher, Batcher._judge
        monkeypatch.setattr(Batcher, "_judge", lambda own, batch: 1 / 0 if own is batcher else judge(own, batch))
        grade(client, photographs, "0.jpg")
        batcher.places.held = 1000
        grade(client, photographs, "1.jpg")
        batcher.places.held = 0
    assert sorted(line["error"] for line in seconds_in(place)) == ["server.busy", "server.failed"]


def test_a_grader_of_another_scale_is_refused(serving, grader_run, tmp_path, refuses, monkeypatch):
    from foveal.serve import serve as module

    opened = module.open_model(grader_run, "cpu", "auto")
    monkeypatch.setattr(opened, "scale", "another")
    models = iter([module.open_model(grader_run, "cpu", "auto"), opened])
    monkeypatch.setattr(module, "open_model", lambda *given: next(models))
    with refuses("option.conflict", "--second"):
        serving(second=grader_run)


@pytest.mark.parametrize("option", ["second", "worklist", "keep_images"])
def test_what_needs_reviews_is_refused_without(serving, refuses, option):
    with refuses("option.conflict", "--reviews"):
        serving(reviews="none", **{option: "somewhere"})
