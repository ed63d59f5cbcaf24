"""The reading room in a real browser: keyboard, errors, both languages and colours, safe and readable for all."""

import hashlib
import importlib.util
import itertools
import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pytest

from foveal.sources.source import PICTURES

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytestmark = pytest.mark.browser

HOSTILE = '<img src=x onerror="document.title=1">.jpg'
PHOTOGRAPHS = "#result-items button"


def load_canned() -> Any:
    spec = importlib.util.spec_from_file_location("canned_server", Path(__file__).with_name("canned_server.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


canned = load_canned()
STORED: list[dict[str, Any]] = []  # the reviews of the server


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of a server that follows the contract."""
    with canned.running(canned.make_app(stored=STORED)) as address:
        yield address


@pytest.fixture
def room(browser: Any, server: str) -> Iterator[Callable[..., Any]]:
    """Opens the page. When the test ends, the console must have been silent and no other host asked for anything."""
    contexts, troubles = [], []
    STORED.clear()

    def note(message: Any) -> None:
        # Refusals are what some tests are about; the browser writes them into the console by itself.
        if not message.text.startswith("Failed to load resource:"):
            troubles.append(f"console: {message.text}")

    def open_room(width: int = 1400, scheme: str = "light", locale: str = "en-GB", at: str = server) -> Any:
        size = {"width": width, "height": 900}
        contexts.append(browser.new_context(viewport=size, color_scheme=scheme, locale=locale))
        page = contexts[-1].new_page()
        page.set_default_timeout(15_000)
        page.on("console", note)
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on("request", lambda asked: asked.url.startswith((at, "blob:", "data:")) or troubles.append(asked.url))
        page.goto(at)
        return page

    yield open_room
    for context in contexts:
        context.close()
    assert troubles == []


def photograph(name: str, seed: int = 0) -> dict[str, Any]:
    image = canned.photograph(seed % 5, seed, 64)
    return {"name": name, "mimeType": "image/jpeg", "buffer": canned.jpeg(image)}


def black(name: str = "lid closed.jpg") -> dict[str, Any]:
    return {"name": name, "mimeType": "image/jpeg", "buffer": canned.jpeg(np.zeros((64, 64, 3), np.uint8))}


def graded(page: Any, *files: dict[str, Any]) -> None:
    """Add photographs, wait for their answers and open the first: the one that is answered first is shown by itself."""
    page.locator("#record-lead:not(:empty)").wait_for()
    page.set_input_files("#files", list(files))
    page.locator(PHOTOGRAPHS).nth(len(files) - 1).wait_for()
    page.locator("#answer").wait_for()
    page.select_option("#sort", "added")
    page.locator(PHOTOGRAPHS).first.click()


def expect(element: Any) -> Any:
    from playwright.sync_api import expect as waiting

    return waiting(element)


def test_a_photograph_is_added_with_the_keyboard_alone(room):
    page = room()
    page.on("filechooser", lambda chooser: chooser.set_files([photograph("left eye.jpg")]))
    page.locator("#record-lead:not(:empty)").wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "choose"
    page.keyboard.press("Enter")
    expect(page.locator("#answer-name")).to_have_text("left eye.jpg")
    expect(page.locator("#answer-sentences")).to_contain_text("The grader gives")
    assert page.locator("#bars tbody tr").count() == 5
    assert page.locator("#picture").get_attribute("src").startswith("blob:")


def test_photographs_can_be_dropped_and_pasted(room):
    page = room()
    page.locator("#record-lead:not(:empty)").wait_for()
    give = """([kind, target, bytes]) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([new Uint8Array(bytes)], 'image.jpg', {type: 'image/jpeg'}));
      const options = {bubbles: true, cancelable: true};
      const event = kind === 'paste' ? new ClipboardEvent(kind, {...options, clipboardData: transfer})
        : new DragEvent(kind, {...options, dataTransfer: transfer});
      document.querySelector(target).dispatchEvent(event);
    }"""
    first, second = (list(photograph("x", seed)["buffer"]) for seed in (1, 2))
    page.evaluate(give, ["dragenter", "#drop", first])
    expect(page.locator("#drop")).to_have_class("over")
    page.evaluate(give, ["drop", "#drop", first])
    expect(page.locator(PHOTOGRAPHS)).to_have_count(1)
    expect(page.locator("#drop")).not_to_have_class("over")
    page.evaluate(give, ["paste", "body", second])
    expect(page.locator(PHOTOGRAPHS)).to_have_count(2)
    expect(page.locator(PHOTOGRAPHS).nth(1)).to_contain_text("pasted-1.jpg")


DROP = """names => {
  const file = (name) => ({isFile: true, file: (take) => take(new File(['x'], name))});
  const folder = (...inside) => {
    const parts = [inside, []];
    return {isDirectory: true, createReader: () => ({readEntries: (take) => take(parts.shift())})};
  };
  const inside = folder(folder(...names.map(file)));
  const event = new Event('drop', {bubbles: true, cancelable: true});
  const items = [{kind: 'file', webkitGetAsEntry: () => inside, getAsFile: () => null}];
  Object.defineProperty(event, 'dataTransfer', {value: {types: ['Files'], items}});
  document.body.dispatchEvent(event);
}"""


@pytest.mark.parametrize(("locale", "said"), [("en-GB", "4 files skipped"), ("zh-CN", "已略过 4 个文件")])
def test_of_a_folder_all_that_the_server_reads_is_sent_and_the_rest_counted(room, locale, said):
    page = room(locale=locale)
    page.route("**/v1/grade?*", lambda route: route.fulfill(status=422, json={}))
    page.locator("#record-lead:not(:empty)").wait_for()
    read = [*(f"left{ending.upper()}" for ending in PICTURES), "a.dicom", "IM0001", "1.2.840.113619.2.5", "17_left"]
    page.evaluate(DROP, [*read, "DICOMDIR", "notes.txt", ".DS_Store", "._left"])
    expect(page.locator("#passed")).to_contain_text(said)
    expect(page.locator("#status")).to_contain_text(said)
    expect(page.locator("#queue-items .failed")).to_have_count(len(read))
    assert page.locator("#queue-items .name").all_text_contents() == read
    page.evaluate(DROP, ["notes.txt"])  # alone
    expect(page.locator("#passed")).to_contain_text(said[:4] if locale == "zh-CN" else "1 file skipped")
    page.set_input_files("#files", [photograph("left eye.jpg")])
    expect(page.locator("#passed")).to_be_hidden()


def test_of_two_files_the_bad_one_is_named_and_the_good_one_graded(room):
    page = room()
    bad = {"name": "notes.jpg", "mimeType": "image/jpeg", "buffer": b"not a picture"}
    page.locator("#record-lead:not(:empty)").wait_for()
    page.set_input_files("#files", [bad, photograph("right eye.jpg")])
    expect(page.locator(PHOTOGRAPHS)).to_have_count(1)
    failed = page.locator("#queue-items .failed")
    expect(failed).to_contain_text("notes.jpg")
    expect(failed).to_contain_text("This file cannot be read as a photograph. Send a JPEG")
    expect(page.locator("#alert")).to_contain_text("notes.jpg")
    page.click("#queue-summary")
    failed.get_by_role("button", name="Remove from the list: notes.jpg").click()
    expect(page.locator("#queue")).to_be_hidden()


def test_failed_files_leave_room_for_the_list(room):
    page = room(width=1366)
    page.set_viewport_size({"width": 1366, "height": 768})
    bad = [{"name": f"{k}.jpg", "mimeType": "image/jpeg", "buffer": b"no"} for k in range(2)]
    graded(page, photograph("left eye.jpg", 1), photograph("right eye.jpg", 2))
    page.set_input_files("#files", bad)
    expect(page.locator("#queue-items .failed")).to_have_count(2)
    expect(page.locator("#queue-items")).to_be_hidden()
    assert all(
        box["y"] + box["height"] < 768 for box in (one.bounding_box() for one in page.locator(PHOTOGRAPHS).all())
    )
    page.click("#queue-summary")
    expect(page.locator("#queue-items")).to_be_visible()
    page.set_input_files("#files", [photograph("third.jpg", 3)])
    expect(page.locator(PHOTOGRAPHS)).to_have_count(3)
    expect(page.locator("#queue-items")).to_be_visible()  # as the user left it


@pytest.mark.parametrize("late", ["**/static/page.js", "**/v1/model"])
def test_files_that_are_added_while_the_page_loads_are_graded(room, late):
    page = room()
    page.route(late, lambda route: (page.wait_for_timeout(500), route.continue_()))
    page.goto(page.url, wait_until="commit")
    page.locator("#files").wait_for(state="attached")
    page.set_input_files("#files", [photograph("chosen.jpg", 1)])
    drop = """bytes => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([new Uint8Array(bytes)], 'dropped.jpg', {type: 'image/jpeg'}));
      document.body.dispatchEvent(new DragEvent('drop', {bubbles: true, cancelable: true, dataTransfer: transfer}));
    }"""
    page.evaluate(drop, list(photograph("x", 2)["buffer"]))
    expect(page.locator(PHOTOGRAPHS)).to_have_count(2)


def test_the_page_says_what_the_server_logs_and_keeps(room):
    page = room()
    page.route("**/v1/model", lambda route: route.fulfill(json={**canned.MODEL, "keeps_images": True}))
    page.reload()
    for key in ("keeps.yes", "keeps.reviews"):
        expect(page.locator("#keeps")).to_contain_text(said(key))


def test_a_file_that_is_too_large_is_not_sent(room):
    page = room()
    sent = []
    page.on("request", lambda asked: "grade" in asked.url and sent.append(asked.url))
    model = {**canned.MODEL, "limits": {"bytes": 1000}}
    page.route("**/v1/model", lambda route: route.fulfill(json=model))
    page.reload()
    page.locator("#record-lead:not(:empty)").wait_for()
    page.set_input_files("#files", [photograph("large.jpg", 1)])
    expect(page.locator("#queue-items .failed")).to_contain_text("the server accepts")
    assert sent == []


def test_the_limit_is_told_as_the_server_counts_it(room):
    page = room()
    page.locator("#record-lead:not(:empty)").wait_for()
    expect(page.locator("#intake-limits")).to_contain_text("at most 64 MB each")  # 64,000,000 bytes


def test_what_is_here_already_is_not_counted_as_graded(room):
    page = room()
    graded(page, photograph("left eye.jpg", 1), photograph("right eye.jpg", 2))
    page.set_input_files("#files", [photograph("copy.jpg", 1), photograph("other.jpg", 3)])
    expect(page.locator("#queue-items .same")).to_contain_text("left eye.jpg")
    expect(page.locator("#queue-summary")).to_have_text("1 of 2 graded · 1 already here")
    expect(page.locator("#status")).to_have_text("Finished: 1 of 2 graded.")


@pytest.mark.parametrize(("locale", "said"), [("en-GB", "has changed its grader"), ("zh-CN", "服务器更换了模型")])
def test_a_grade_of_another_grader_is_neither_shown_nor_reviewed(room, monkeypatch, locale, said):
    page = room(locale=locale)
    graded(page, photograph("before.jpg", 1))
    page.fill("#reviewer", "A. Okafor")
    monkeypatch.setitem(canned.MODEL, "key", "1" * 64)  # the server starts anew with another run
    page.click("#confirm")
    expect(page.locator("#review-problem")).to_contain_text(said)
    page.set_input_files("#files", [photograph("after.jpg", 2)])
    expect(page.locator("#queue-items .failed")).to_contain_text(said)
    expect(page.locator(PHOTOGRAPHS)).to_have_count(1)


def test_the_page_waits_for_a_busy_server_and_says_so(room):
    page = room()
    tries = []

    def answer(route):
        tries.append(route)
        if len(tries) == 1:
            route.fulfill(status=503, headers={"Retry-After": "2"}, json={"error": {"code": "server.busy"}})
        else:
            route.continue_()

    page.route("**/v1/grade?*", answer)
    page.locator("#record-lead:not(:empty)").wait_for()
    page.set_input_files("#files", [photograph("left eye.jpg", 3)])
    expect(page.locator("#queue-items .state")).to_contain_text("The server is busy. Trying again in 2")
    expect(page.locator("#status")).to_contain_text("Trying left eye.jpg again")
    expect(page.locator(PHOTOGRAPHS)).to_have_count(1)
    assert len(tries) == 2


def test_what_waits_can_be_stopped_and_tried_again(room):
    page = room()
    page.route("**/v1/grade?*", lambda route: route.fulfill(status=503, headers={"Retry-After": "30"}, body="{}"))
    page.locator("#record-lead:not(:empty)").wait_for()
    page.set_input_files("#files", [photograph(f"{number}.jpg", number) for number in range(4)])
    expect(page.locator("#queue-items .pausing")).to_have_count(2)
    page.click("#stop")
    expect(page.locator("#queue-items .failed")).to_have_count(4)
    page.unroute("**/v1/grade?*")
    page.get_by_role("button", name="Try again: 2.jpg").click()
    expect(page.locator(PHOTOGRAPHS)).to_have_count(1)
    expect(page.locator("#queue-items .failed")).to_have_count(3)


def test_ungradable_is_an_answer_with_a_reason_and_no_grade(room):
    page = room()
    graded(page, black())
    expect(page.locator("#answer-grade")).to_have_text("Ungradable")
    expect(page.locator("#answer-sentences")).to_contain_text("does not look like a photograph of a retina")
    expect(page.locator("#answer-referral")).to_contain_text("does not mean that the eye is healthy")
    assert page.locator("#bars .given").count() == 0 and page.locator("#set").is_hidden()
    assert page.locator("#similar").is_hidden() and page.locator("#strength-field").is_hidden()


@pytest.mark.parametrize("language", ["en", "zh"])
def test_why_there_is_no_grade_is_told_in_the_language_of_the_page_without_codes(room, language):
    words = json.loads((canned.SERVE / "static" / f"words.{language}.json").read_text(encoding="utf-8"))
    page = room(locale={"en": "en-GB", "zh": "zh-CN"}[language])
    graded(page, black())
    said = page.locator("#answer-sentences p")
    lead, *reasons = said.all_text_contents()
    assert lead == words["answer.ungradable.lead"] and len(reasons) == 2  # that it is dark forbids no grade
    with page.expect_download() as saved:
        page.click("#report")
    report = Path(saved.value.path()).read_text(encoding="utf-8").partition('class="verdict')[0].partition("<h2")[2]
    meant = [words[f"flagMeaning.{name}"] if language == "zh" else canned.FLAGS[name] for name in canned.BLACK]
    assert reasons == meant[:2] and all(report.count(text) == 1 for text in meant[:2]) and meant[2] not in report
    assert not [name for name in canned.BLACK if f"{name}:" in page.locator("#answer").inner_text() + report]
    assert "no-disc: " in canned.reason_of(*canned.BLACK)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_photograph_unlike_those_of_the_training_says_in_what(room, language):
    words = json.loads((canned.SERVE / "static" / f"words.{language}.json").read_text(encoding="utf-8"))
    page = room(locale={"en": "en-GB", "zh": "zh-CN"}[language])
    graded(page, photograph("other camera.jpg", 2))
    for word in ("colour", "content"):
        expect(page.locator("#flags")).to_contain_text(words[f"unlike.{word}"])
    usual = room()
    graded(usual, photograph("left eye.jpg", 2))
    assert usual.locator("#flags p").count() == 1  # that there are no flags


def test_the_slider_changes_how_strong_the_map_is(room):
    page = room()
    graded(page, photograph("left eye.jpg", 2))
    opacity = "getComputedStyle(document.querySelector('#heat')).opacity"
    assert float(page.evaluate(opacity)) == 0.5
    page.focus("#strength")
    page.keyboard.press("End")
    assert float(page.evaluate(opacity)) == 1 and page.get_attribute("#strength", "aria-valuetext") == "100\xa0%"
    page.keyboard.press("Home")
    assert float(page.evaluate(opacity)) == 0
    page.keyboard.press("m")
    assert float(page.evaluate(opacity)) == 0.5
    page.keyboard.press("m")
    assert float(page.evaluate(opacity)) == 0


def test_the_picture_is_zoomed_and_moved_by_keys_wheel_and_buttons(room):
    page = room()
    graded(page, photograph("left eye.jpg", 2))
    place = """(() => { const m = new DOMMatrix(getComputedStyle(document.querySelector('#layers')).transform);
        return [m.a, m.e, m.f]; })()"""
    assert page.evaluate(place) == [1, 0, 0]
    page.focus("#stage")
    page.keyboard.press("+")
    page.keyboard.press("+")
    scale, x, y = page.evaluate(place)
    assert scale == pytest.approx(1.5625) and x < 0 and y < 0
    page.keyboard.press("ArrowRight")
    assert page.evaluate(place)[1] == pytest.approx(x - 60)
    for _ in range(40):
        page.keyboard.press("ArrowLeft")
    assert page.evaluate(place)[1] == 0  # it cannot be pushed out of its frame
    page.keyboard.press("0")
    assert page.evaluate(place) == [1, 0, 0]
    page.hover("#stage")
    page.mouse.wheel(0, -300)
    expect(page.locator("#zoom")).not_to_have_text("100\xa0%")
    before = page.evaluate(place)
    box = page.locator("#stage").bounding_box()
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 40, box["y"] + box["height"] / 2 + 10)
    page.mouse.up()
    assert page.evaluate(place)[1] == pytest.approx(before[1] + 40, abs=1)
    page.dblclick("#stage")
    assert page.evaluate(place) == [1, 0, 0]
    page.click("#zoom-in")
    expect(page.locator("#zoom")).to_have_text("125\xa0%")


def test_a_review_needs_a_name_and_is_saved_when_the_server_has_it(room, server):
    page = room()
    graded(page, photograph("confirmed.jpg", 11), photograph("corrected.jpg", 12))
    expect(page.locator("#results-count")).to_have_text("2 photographs, 2 not reviewed")
    page.click("#confirm")
    expect(page.locator("#review-problem")).to_contain_text("Enter your name first")
    assert page.evaluate("document.activeElement.id") == "reviewer"
    page.keyboard.type("A. Okafor")
    page.click("#confirm")
    expect(page.locator("#review-status")).to_contain_text("confirmed")
    expect(page.locator(PHOTOGRAPHS).first).to_contain_text("confirmed")
    page.locator("#answer-name").focus()
    page.keyboard.press("n")
    expect(page.locator("#answer-name")).to_have_text("corrected.jpg")
    page.get_by_role("radio", name="ungradable").check()
    page.fill("#note", "The lid hides the macula.")
    expect(page.locator(PHOTOGRAPHS).nth(1)).to_contain_text("review not saved")
    page.get_by_role("button", name="Save correction").click()
    expect(page.locator("#review-status")).to_contain_text("to ungradable")
    expect(page.locator("#results-count")).to_have_text("2 photographs, 0 not reviewed")
    stored = page.request.get(f"{server}/v1/reviews?limit=2").json()["reviews"]
    assert [row["name"] for row in stored] == ["corrected.jpg", "confirmed.jpg"]
    assert stored[0]["grade"] is None and stored[0]["given"] is not None and stored[1]["grade"] == stored[1]["given"]
    assert stored[0]["note"] == "The lid hides the macula." and len(stored[0]["image"]) == 64
    page.reload()
    expect(page.locator("#reviewer")).to_have_value("A. Okafor")


@pytest.mark.parametrize("status", [500, 200, 0])
def test_a_review_that_is_not_saved_keeps_what_was_written(room, status):
    page = room()
    graded(page, photograph("left eye.jpg", 4))
    failing = {"status": status, "json": {"error": {"what": "the disk is full", "fix": "make room"}}}
    page.route("**/v1/reviews", lambda route: route.fulfill(**failing) if status else route.abort())
    page.fill("#reviewer", "A. Okafor")
    page.get_by_role("radio", name="severe NPDR").check()
    page.fill("#note", "Venous beading.")
    page.click("#correct")
    problem = page.locator("#review-problem")
    expect(problem).to_contain_text("Not saved.")
    expect(problem).to_contain_text(
        {500: "The disk is full. Make room.", 200: "cannot be read", 0: "cannot be reached"}[status]
    )
    expect(page.locator("#note")).to_have_value("Venous beading.")
    assert page.get_by_role("radio", name="severe NPDR").is_checked()
    expect(page.locator("#results-count")).to_have_text("1 photograph, 1 not reviewed")
    page.unroute("**/v1/reviews")
    page.click("#correct")
    expect(page.locator("#review-status")).to_contain_text("Saved as review")
    expect(problem).to_be_hidden()


def test_a_begun_review_survives_looking_at_another_photograph_and_warns(room):
    page = room()
    graded(page, photograph("a.jpg", 5), photograph("b.jpg", 6))
    leaves = """() => { const event = new Event('beforeunload', {cancelable: true});
        window.dispatchEvent(event); return !event.defaultPrevented; }"""
    assert page.evaluate(leaves)
    page.fill("#note", "Look again.")
    page.get_by_role("radio", name="mild NPDR").check()
    assert not page.evaluate(leaves)
    page.locator(PHOTOGRAPHS).nth(1).click()
    expect(page.locator("#note")).to_have_value("")
    page.locator(PHOTOGRAPHS).nth(0).click()
    expect(page.locator("#note")).to_have_value("Look again.")
    assert page.get_by_role("radio", name="mild NPDR").is_checked()


def stored_reviews(count: int) -> list[dict[str, Any]]:
    about = {"when": "2026-11-24T20:00:00+00:00", "model": "grader", "given": 1, "reviewer": HOSTILE, "note": "why"}
    return [{**about, "id": k + 1, "image": f"{k:064x}", "name": f"p{k:03d}.jpg", "grade": 2 if k % 2 else 1}
            for k in range(count)]  # fmt: skip


def test_reviews_are_listed_newest_first_and_saved(room):
    with canned.running(canned.make_app(stored=stored_reviews(120))) as address:
        page = room(at=address)
        page.get_by_role("link", name="Reviews").click()
        rows = page.locator("#review-rows tr")
        expect(rows).to_have_count(50)
        expect(rows.first).to_contain_text("p119.jpg")
        expect(rows.first).to_contain_text("moderate NPDR corrected")
        expect(rows.first).to_contain_text(HOSTILE)
        expect(page.locator("#pages-range")).to_have_text("1 to 50 of 120")
        page.click("#older")
        page.locator("#pages-range", has_text="51 to 100").wait_for()
        page.click("#older")
        expect(rows).to_have_count(20)
        assert page.locator("#older").is_disabled()
        with page.expect_download() as saved:
            page.click("#save-reviews")
        lines = Path(saved.value.path()).read_text(encoding="utf-8").splitlines()
        assert (
            re.fullmatch(r"reviews-grader-[\d-]+\.csv", saved.value.suggested_filename)
            and lines[0] == "id,old,new,who,when,why,file_sha256"
        )
        assert len(lines) == 121
        page.go_back()
        assert page.locator("#photographs-view").is_visible() and page.locator("#reviews-view").is_hidden()


def test_without_reviews_the_page_offers_none(room):
    page = room()
    page.route("**/v1/model", lambda route: route.fulfill(json={**canned.MODEL, "reviews": False, "record": []}))
    page.reload()
    graded(page, photograph("left eye.jpg", 2), photograph("right eye.jpg", 3))
    assert page.locator("#review").is_hidden() and page.locator("#to-reviews").is_hidden()
    assert page.locator("#next").is_hidden()
    expect(page.locator("#record-lead")).to_contain_text("how often this grader is right")


@pytest.mark.parametrize(("locale", "word"), [("en-GB", "Report on one photograph"), ("zh-CN", "单张照片报告")])
def test_the_report_is_saved_and_fits_one_sheet(room, browser, tmp_path, locale, word):
    page = room(locale=locale)
    graded(page, photograph("left eye.jpg", 3))
    with page.expect_download() as saved:
        page.click("#report")
    assert saved.value.suggested_filename == "left eye-report.html"
    file = tmp_path / "report.html"
    saved.value.save_as(file)
    text = file.read_text(encoding="utf-8")
    assert word in text and "<script" not in text and "http" not in text
    sheet = browser.new_page()
    sheet.goto(file.as_uri())
    assert sheet.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    if locale == "zh-CN":
        assert_names_chinese_fonts(sheet)
    assert len(re.findall(rb"/Type\s*/Page\b", sheet.pdf(prefer_css_page_size=True))) == 1
    assert problems_of(sheet) == []
    sheet.close()


def test_a_report_of_an_ungradable_photograph_gives_no_grade():
    pages = jinja2.Environment(loader=jinja2.FileSystemLoader(canned.SERVE / "templates"), autoescape=True)
    words = json.loads((canned.SERVE / "static" / "words.en.json").read_text(encoding="utf-8"))
    answer = canned.answer(HOSTILE, black()["buffer"], 64)
    text = pages.get_template("sheet.html").render(
        words=words, answer=answer, printed={}, model=canned.MODEL, record=[], when="now"
    )
    assert (
        "Ungradable" in text
        and "does not mean that the eye is healthy" in text
        and "The grader gives moderate" not in text
    )
    assert "<img src=x" not in text and "how often this grader is right" in text


def test_language_and_colours_are_switched_and_kept(room):
    page = room()
    graded(page, photograph("left eye.jpg", 2), black())
    assert page.evaluate("document.documentElement.lang") == "en"
    page.fill("#note", "kept")
    page.select_option("#language", "zh")
    expect(page.locator("h1")).to_have_text("阅片室")
    expect(page.locator(".notice")).to_have_text("仅供研究使用。不是医疗器械。由人作出决定。")
    expect(page.locator("#answer-sentences")).to_contain_text("模型给出的分级为")
    expect(page.locator("#note")).to_have_value("kept")
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    paper = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.select_option("#colours", "dark")
    assert page.evaluate(paper) != light
    page.evaluate("window.addEventListener('beforeunload', event => event.stopImmediatePropagation(), {capture: true})")
    page.reload()
    expect(page.locator("h1")).to_have_text("阅片室")
    assert page.evaluate(paper) != light and page.input_value("#colours") == "dark"
    page.select_option("#colours", "auto")
    assert page.evaluate(paper) == light


def assert_names_chinese_fonts(page):
    """Those of macOS, Windows and Linux, before what a browser takes by itself."""
    names = page.evaluate("getComputedStyle(document.body).fontFamily").split(", ")
    for name in ("PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "WenQuanYi Micro Hei"):
        assert names.index(f'"{name}"') < names.index("system-ui"), names


def test_the_language_of_the_browser_comes_first(room):
    page = room(locale="zh-CN", scheme="dark")
    expect(page.locator("h1")).to_have_text("阅片室")
    assert_names_chinese_fonts(page)
    missing = "[...document.querySelectorAll('[data-words]')].filter(e => e.textContent === e.dataset.words).length"
    assert page.evaluate(missing) == 0


def test_both_languages_have_the_same_texts():
    english, chinese = (
        json.loads((canned.SERVE / "static" / f"words.{language}.json").read_text(encoding="utf-8"))
        for language in ("en", "zh")
    )
    assert list(english) == list(chinese)
    for key, text in english.items():
        assert set(re.findall(r"\{\w+\}", text)) == set(re.findall(r"\{\w+\}", chinese[key])), key


def test_every_text_is_used_and_every_text_used_is_there():
    english = json.loads((canned.SERVE / "static" / "words.en.json").read_text(encoding="utf-8"))
    files = [*(canned.SERVE / "static").glob("*.js"), *(canned.SERVE / "templates").glob("*.html")]
    used = "\n".join(file.read_text(encoding="utf-8") for file in files)
    built = (
        "class.",
        "meaning.",
        "flag.",
        "flagMeaning.",
        "flagAdvice.",
        "side.",
        "eyes.",
        "metric.",
        "metricMeaning.",
        "error.",
        "refer.",
        "queue.state.",
        "unlike.",
        "print.",
    )
    plain = [key for key in english if not key.startswith(built)]
    assert [key for key in plain if re.sub(r"\.(one|other)$|Named$|Alone$", "", key) not in used] == []
    named = set(re.findall(r'data-words(?:-label)?="([^"]+)"', used)) | set(re.findall(r'\bsay\("([^"]+\w)"', used))
    assert named <= set(english)


def test_a_hostile_name_is_only_a_name(room):
    page = room()
    graded(page, photograph(HOSTILE, 2))
    expect(page.locator("#answer-name")).to_have_text(HOSTILE)
    expect(page.locator(PHOTOGRAPHS)).to_contain_text(HOSTILE)
    page.fill("#reviewer", HOSTILE)
    page.click("#confirm")
    expect(page.locator("#review-status")).to_contain_text("Saved")
    page.click("#to-reviews")
    expect(page.locator("#review-rows tr").first).to_contain_text(HOSTILE)
    assert page.locator("img[src=x]").count() == 0 and page.title() == "Reading room – Foveal"


KEPT = "sessionStorage.getItem('foveal-token')"


@pytest.mark.parametrize("token", ["open sesame", "芝麻开门 voilà"])
def test_a_token_is_asked_for_once(room, token):
    with canned.running(canned.make_app(token=token)) as address:
        page = room(at=address)
        page.locator("#token[open]").wait_for()
        page.keyboard.insert_text("错误 wrong")
        page.keyboard.press("Enter")
        expect(page.locator("#token-wrong")).to_be_visible()
        assert page.evaluate(KEPT) is None  # it would be sent for ever
        page.keyboard.insert_text(token)
        page.keyboard.press("Enter")
        graded(page, photograph("left eye.jpg", 2))
        page.reload()
        graded(page, photograph("left eye.jpg", 2))
        assert page.locator("#token[open]").count() == 0 and page.evaluate(KEPT) == token


@pytest.mark.parametrize(("locale", "said"), [("en-GB", "Try again and enter it"), ("zh-CN", "请重试并输入令牌")])
def test_without_a_token_the_way_on_is_told_in_words_for_people(room, locale, said):
    with canned.running(canned.make_app(token="open sesame")) as address:
        page = room(at=address, locale=locale)
        page.locator("#token[open]").wait_for()
        page.evaluate("sessionStorage.setItem('foveal-token', 'of another day')")
        page.click("#token-cancel")
        expect(page.locator("#start-alert")).to_contain_text(said)
        expect(page.locator("#start-alert")).not_to_contain_text("Bearer")
        page.reload()  # with a token that was accepted once
        expect(page.locator("#token-wrong")).to_be_visible()
        page.click("#token-cancel")
        assert page.evaluate(KEPT) is None
        page.click("#start-alert button")
        page.locator("#token[open]").wait_for()
        expect(page.locator("#token-wrong")).to_be_hidden()


def test_a_server_that_is_down_is_told_and_tried_again(room):
    page = room()
    page.route("**/v1/model", lambda route: route.abort())
    page.reload()
    expect(page.locator("#start-alert")).to_contain_text("The server cannot be reached")
    page.unroute("**/v1/model")
    page.get_by_role("button", name="Try again").click()
    graded(page, photograph("left eye.jpg", 2))
    expect(page.locator("#start-alert")).to_be_hidden()


def test_keys_are_listed_and_silent_in_fields(room):
    page = room()
    graded(page, photograph("a.jpg", 5), photograph("b.jpg", 6))
    page.keyboard.press("j")
    expect(page.locator("#answer-name")).to_have_text("b.jpg")
    page.focus("#note")
    page.keyboard.type("kkk?")
    expect(page.locator("#note")).to_have_value("kkk?")
    expect(page.locator("#answer-name")).to_have_text("b.jpg")
    page.focus("#stage")
    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.uncheck("#keys-on")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "stage"
    page.keyboard.press("k")
    expect(page.locator("#answer-name")).to_have_text("b.jpg")


def problems_of(page: Any) -> list[tuple[str, list[Any]]]:
    """What axe-core finds; it is told to look at everything that is on the page."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    found = axe.run(page).response["violations"]
    return [(rule["id"], [node["target"] for node in rule["nodes"]]) for rule in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("width", "locale"), [(1400, "en-GB"), (390, "zh-CN"), (360, "en-GB")])
def test_everybody_can_read_every_part(room, assert_fits, width, locale, scheme):
    page = room(width=width, scheme=scheme, locale=locale)
    page.locator("#record-lead:not(:empty)").wait_for()
    assert_fits(page)
    assert problems_of(page) == []
    bad = {"name": "a_name_without_any_place_to_break_" * 4 + ".jpg", "mimeType": "image/jpeg", "buffer": b"no"}
    page.set_input_files("#files", [photograph("a_name_without_any_place_to_break_" * 4, 1), black(), bad])
    page.locator(PHOTOGRAPHS).nth(1).wait_for()
    page.locator("#queue-items .failed").wait_for(state="attached")
    page.click("#queue-summary")
    page.locator("#queue-items .failed").wait_for()
    page.fill("#reviewer", "A. Okafor")
    page.click("#confirm")
    page.locator("#review-status.saved").wait_for()
    assert_fits(page)
    assert problems_of(page) == []
    page.locator(PHOTOGRAPHS).nth(1).click()
    page.click("#correct")
    page.locator("#review-problem").wait_for()
    assert_fits(page)
    assert problems_of(page) == []
    page.click("#open-keys")
    assert problems_of(page) == []
    page.keyboard.press("Escape")
    page.click("#to-reviews")
    page.locator("#review-rows tr").first.wait_for()
    assert_fits(page)
    assert problems_of(page) == []


def test_headings_and_landmarks_are_in_order(room):
    page = room()
    graded(page, photograph("left eye.jpg", 2))
    levels = "[...document.querySelectorAll('h1, h2, h3')].filter(h => h.checkVisibility()).map(h => +h.tagName[1])"
    found = page.evaluate(levels)
    assert found[0] == 1 and found.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(found))
    assert [page.get_by_role(role).count() for role in ("banner", "main", "contentinfo")] == [1, 1, 1]


def names_in(page: Any) -> list[str]:
    return page.locator(f"{PHOTOGRAPHS} .name").all_text_contents()


def listed_room(room: Any) -> Any:
    """Grades 2, 0, 4 and none, of three patients; the last photograph of a patient is the first one's other eye."""
    page = room(width=1366)
    page.locator("#record-lead:not(:empty)").wait_for()
    files = [
        photograph("7_left.jpg", 0),
        photograph("8_left.jpg", 2),
        black("9_left.jpg"),
        photograph("7_right.jpg", 4),
    ]
    page.set_input_files("#files", files)
    page.locator(PHOTOGRAPHS).nth(3).wait_for()
    return page


def test_the_list_is_searched_filtered_and_sorted(room):
    page = listed_room(room)
    kinds = {name: page.locator(PHOTOGRAPHS).filter(has_text=name).locator(".sign").get_attribute("class")
             for name in ("7_left.jpg", "8_left.jpg", "7_right.jpg")}  # fmt: skip
    first = names_in(page)[0]
    assert kinds.get(first) == "sign yes" and page.locator("#answer-name").text_content() == first
    assert abs(names_in(page).index("7_left.jpg") - names_in(page).index("7_right.jpg")) == 1  # both eyes together
    page.select_option("#sort", "added")
    assert names_in(page) == ["7_left.jpg", "8_left.jpg", "9_left.jpg", "7_right.jpg"]
    page.select_option("#filter", "ungradable")
    assert names_in(page) == ["9_left.jpg"] and "3" in page.locator("#hidden-count").text_content()
    page.select_option("#filter", "all")
    page.keyboard.press("/")
    page.focus("#answer-name")
    page.keyboard.press("/")
    page.keyboard.type("8_")
    assert names_in(page) == ["8_left.jpg"]


def test_the_worse_eye_of_a_patient_decides_and_the_other_is_a_key_away(room):
    page = listed_room(room)
    page.locator(PHOTOGRAPHS).filter(has_text="7_left.jpg").click()
    cards = page.locator("#eyes-items button")
    expect(cards).to_have_count(2)
    page.focus("#answer-name")
    page.keyboard.press("o")
    expect(page.locator("#answer-name")).to_have_text("7_right.jpg")
    yes = page.locator("#eyes-items .sign.yes").count()
    assert (page.locator("#eyes-verdict").get_attribute("class") == "sign yes") == (yes > 0)
    page.locator(PHOTOGRAPHS).filter(has_text="8_left.jpg").click()
    expect(cards).to_have_count(0)


def test_a_photograph_of_an_unknown_eye_without_a_grade_leaves_the_patient_open(room):
    page = room()
    files = [photograph("7_left.jpg", 6), photograph("7_right.jpg", 21)]  # neither is referable
    graded(page, *files, black("7_unknown.jpg"))
    expect(page.locator("#eyes-verdict")).to_have_class("sign none")
    other = room()
    graded(other, *files, black("7_left.png"))  # this eye has another photograph with a grade
    expect(other.locator("#eyes-verdict")).to_have_class("sign no")


def test_a_reload_keeps_answers_and_reviews_and_asks_for_the_photographs(room):
    page = room()
    graded(page, photograph("left eye.jpg", 2), photograph("right eye.jpg", 3))
    page.fill("#reviewer", "A. Okafor")
    page.click("#confirm")
    page.locator("#review-status.saved").wait_for()
    page.reload()
    expect(page.locator(PHOTOGRAPHS)).to_have_count(2)
    expect(page.locator("#restored")).to_be_visible()
    expect(page.locator(f"{PHOTOGRAPHS} .review-mark.done")).to_have_count(1)
    expect(page.locator("#no-picture")).to_be_visible()
    assert page.locator("#report").is_hidden() and page.locator("#stage").is_hidden()
    page.set_input_files("#files", [photograph("left eye.jpg", 2), photograph("right eye.jpg", 3)])
    expect(page.locator("#restored")).to_be_hidden()
    expect(page.locator(PHOTOGRAPHS)).to_have_count(2)
    expect(page.locator("#stage")).to_be_visible()


def review_elsewhere(at: str, photo: dict[str, Any], grade: int | None, who: str = "Berta") -> None:
    """Another reader saves a review."""
    about = {"image": hashlib.sha256(photo["buffer"]).hexdigest(), "name": photo["name"], "given": 0, "note": ""}
    body = json.dumps({**about, "grade": grade, "reviewer": who, "key": canned.MODEL["key"]}).encode()
    asked = urllib.request.Request(f"{at}/v1/reviews", body, {"Content-Type": "application/json"})
    assert urllib.request.urlopen(asked).status == 201


CURRENT = "**/v1/reviews/current"
STATES = "[...document.querySelectorAll('#result-items button')].map(row => [row.querySelector('.name').textContent, "
STATES += "row.querySelector('.sign').classList[1], row.querySelector('.review-mark').classList[1]])"


def comes_back(page: Any) -> None:
    page.evaluate("window.dispatchEvent(new Event('focus'))")


@pytest.mark.parametrize("asks", [lambda page: page.reload(), comes_back])
def test_reviews_by_others_are_shown_after_a_reload_and_when_the_window_gets_the_focus(room, server, asks):
    page = room()
    files = [photograph("7_left.jpg", 6), photograph("8_left.jpg", 21)]  # neither is referable
    graded(page, *files)
    page.fill("#reviewer", "Anna")
    page.get_by_role("radio", name="proliferative DR").check()
    page.click("#correct")
    page.locator("#review-status.saved").wait_for()
    review_elsewhere(server, files[0], 0)
    review_elsewhere(server, files[1], 3)
    asks(page)
    shown = [["7_left.jpg", "yes", "disagree"], ["8_left.jpg", "yes", "done"]]
    page.wait_for_function(f"shown => JSON.stringify({STATES}) === JSON.stringify(shown)", arg=shown)
    expect(page.locator("#results-count")).to_have_text("2 photographs, 0 not reviewed")
    expect(page.locator("#answer-referral")).to_contain_text("Berta: no DR")
    page.select_option("#filter", "refer")
    assert names_in(page) == ["7_left.jpg", "8_left.jpg"]
    assert page.locator("#old").is_hidden()


def test_a_photograph_is_opened_with_the_reviews_that_the_server_holds_now(room, server):
    page = room()
    files = [photograph("7_left.jpg", 6), photograph("8_left.jpg", 21)]
    graded(page, *files)
    review_elsewhere(server, files[1], 3)
    page.keyboard.press("j")
    expect(page.locator("#answer-name")).to_have_text("8_left.jpg")
    expect(page.locator("#answer-referral .sign")).to_have_class("sign yes")
    expect(page.locator("#answer-referral")).to_contain_text("Berta")


def test_all_photographs_are_asked_for_at_once_and_what_is_being_written_stays(room, server):
    page = room()
    files = [photograph(f"{number}_left.jpg", number) for number in (5, 6, 10, 11)]
    graded(page, *files)
    page.fill("#note", "half a sentence")
    page.get_by_role("radio", name="mild NPDR").check()
    review_elsewhere(server, files[0], 4)
    page.wait_for_timeout(500)
    asked: list[int] = []
    page.on("request", lambda one: one.url.endswith("/current") and asked.append(len(one.post_data_json["answers"])))
    for _ in range(5):
        comes_back(page)
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#answer-referral")).to_contain_text("Berta")
    expect(page.locator("#note")).to_have_value("half a sentence")
    assert page.get_by_role("radio", name="mild NPDR").is_checked() and asked == [4]


def test_an_older_answer_of_the_server_does_not_replace_a_review_saved_meanwhile(room, server):
    page = room()
    graded(page, photograph("7_left.jpg", 6))
    page.wait_for_timeout(500)
    held: list[Any] = []

    def late(route: Any) -> None:
        held.append((route, route.fetch()))  # what the server holds before the review is saved

    page.route(CURRENT, late, times=1)
    comes_back(page)
    for _ in range(50):
        page.wait_for_timeout(50)
        if held:
            break
    page.fill("#reviewer", "Anna")
    page.get_by_role("radio", name="proliferative DR").check()
    page.click("#correct")
    page.locator("#review-status.saved").wait_for()
    with page.expect_response(CURRENT):
        held[0][0].fulfill(response=held[0][1])
    page.wait_for_timeout(500)
    expect(page.locator("#answer-referral .sign")).to_have_class("sign yes")
    said_before = page.locator("#review-status").text_content()
    review_elsewhere(server, photograph("7_left.jpg", 6), 0)
    comes_back(page)
    expect(page.locator("#answer-referral")).to_contain_text("Berta")
    assert page.locator("#review-status").text_content() == said_before  # it is about my own review


@pytest.mark.parametrize(("locale", "said"), [("en-GB", "cannot be reached"), ("zh-CN", "无法连接服务器")])
def test_a_page_that_cannot_ask_says_that_its_reviews_may_be_old(room, server, locale, said, assert_fits):
    page = room(width=390, locale=locale)
    files = [photograph("7_left.jpg", 6), photograph("8_left.jpg", 21)]
    graded(page, *files)
    page.wait_for_timeout(300)
    page.route(CURRENT, lambda route: route.abort())
    page.locator(PHOTOGRAPHS).last.click()
    expect(page.locator("#old")).to_contain_text(said)
    expect(page.locator("#old")).to_be_in_viewport()
    assert_fits(page)
    assert problems_of(page) == []
    review_elsewhere(server, files[1], 3)
    page.unroute(CURRENT)
    page.click("#old-again")
    expect(page.locator("#old")).to_be_hidden()
    expect(page.locator("#answer-referral .sign")).to_have_class("sign yes")


def refused(status: int, code: str, route: Any) -> None:
    route.fulfill(status=status, json={"error": {"code": code}})


def test_a_page_of_an_earlier_grader_says_so_and_opens_no_dialog_by_itself(room):
    page = room()
    graded(page, photograph("7_left.jpg", 6))
    for status, code in ((409, "request.another_model"), (401, "request.token")):
        page.wait_for_timeout(200)
        page.route(CURRENT, partial(refused, status, code))
        comes_back(page)
        words = json.loads((canned.SERVE / "static" / "words.en.json").read_text(encoding="utf-8"))
        expect(page.locator("#old")).to_contain_text(words[f"error.{status}"])
        assert page.locator("dialog[open]").count() == 0
        page.unroute(CURRENT)


def test_a_reload_keeps_search_filter_order_and_the_open_photograph(room):
    page = listed_room(room)
    page.select_option("#sort", "added")
    page.select_option("#filter", "open")
    page.fill("#search", "left")
    page.locator(PHOTOGRAPHS).nth(1).click()
    before = names_in(page)
    assert before == ["7_left.jpg", "8_left.jpg", "9_left.jpg"]
    page.reload()
    expect(page.locator(PHOTOGRAPHS)).to_have_count(3)
    assert names_in(page) == before
    assert [page.input_value(f"#{tool}") for tool in ("sort", "filter", "search")] == ["added", "open", "left"]
    expect(page.locator("#answer-name")).to_have_text("8_left.jpg")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_why_there_is_no_map_is_told_on_the_page_and_the_sheet(room, language):
    page = room(locale={"en": "en-GB", "zh": "zh-CN"}[language])
    graded(page, photograph("flat.jpg", 6), black())
    for row, key in ((0, "viewer.noMap.flat"), (1, "viewer.noMap.ungradable")):
        page.locator(PHOTOGRAPHS).nth(row).click()
        expect(page.locator("#map-sentence")).to_have_text(said(key, language))
        assert said(key, language) in sheet_of(page)


def test_announcements_follow_the_language(room):
    page = room()
    graded(page, photograph("left eye.jpg", 2), photograph("right eye.jpg", 3))
    page.wait_for_timeout(300)
    page.set_input_files("#files", [photograph("one more.jpg", 4)])
    expect(page.locator("#status")).to_have_text(said("queue.finished", done=1, total=1))
    page.select_option("#language", "zh")
    expect(page.locator("#status")).to_have_text(said("queue.finished", "zh", done=1, total=1))
    page.click("#to-reviews")
    expect(page.locator("#reviews-status")).to_have_text(said("reviews.none", "zh"))
    page.select_option("#language", "en")
    expect(page.locator("#reviews-status")).to_have_text(said("reviews.none"))


def test_a_review_is_found_and_its_photograph_opened(room):
    with canned.running(canned.make_app(stored=stored_reviews(60))) as address:
        page = room(at=address)
        graded(page, photograph("mine.jpg", 2))
        page.fill("#reviewer", "A. Okafor")
        page.click("#confirm")
        page.locator("#review-status.saved").wait_for()
        page.click("#to-reviews")
        page.fill("#reviews-search", "p01")
        expect(page.locator("#review-rows tr")).to_have_count(10)
        page.locator("#review-rows button").first.click()
        expect(page.locator("#reviews-status")).to_contain_text("p01")
        page.fill("#reviews-search", "mine")
        expect(page.locator("#review-rows tr")).to_have_count(1)
        page.locator("#review-rows button").first.click()
        expect(page.locator("#answer-name")).to_be_visible()


def test_a_review_needs_no_mouse(room, server):
    page = room()
    page.locator("#record-lead:not(:empty)").wait_for()
    graded(page, photograph("by keys.jpg", 21))
    page.fill("#reviewer", "A. Okafor")
    page.focus("#answer-name")
    page.keyboard.press("g")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("s")
    page.locator("#review-status.saved").wait_for()
    page.focus("#answer-name")
    page.keyboard.press("c")
    for _ in range(100):
        stored = page.request.get(f"{server}/v1/reviews?limit=2").json()["reviews"]
        if stored[1]["name"] == "by keys.jpg":
            break
        page.wait_for_timeout(100)
    assert stored[0]["grade"] == stored[0]["given"] and stored[1]["grade"] == 1


def test_the_newest_review_decides_on_the_page_the_sheet_and_for_the_next_reviewer(room):
    page = room(width=1366)
    files = [photograph("7_left.jpg", 6), photograph("7_right.jpg", 21)]  # neither is referable
    graded(page, *files)
    kinds = "[...document.querySelectorAll('#answer-referral .sign, #eyes-verdict')].map(one => one.className)"
    assert page.evaluate(kinds) == ["sign no", "sign no"]
    grade = page.locator("#answer-grade").text_content()[1:]  # without the capital
    page.fill("#reviewer", "A. Okafor")
    page.get_by_role("radio", name="severe NPDR").check()
    page.click("#correct")
    page.locator("#review-status.saved").wait_for()
    other = room(width=1366)
    graded(other, *files)  # another browser: the review comes with the answer
    for seen in (page, other):
        assert seen.evaluate(kinds) == ["sign yes", "sign yes"]
        expect(seen.locator("#answer-referral")).to_contain_text("A. Okafor")
        expect(seen.locator("#answer-grade")).to_contain_text(grade)
        seen.select_option("#filter", "refer")
        assert names_in(seen) == ["7_left.jpg"]
    with page.expect_download() as download:
        page.click("#report")
    sheet = download.value.path().read_text(encoding="utf-8")
    assert sheet.index("A. Okafor") < sheet.index("verdict yes") < sheet.index(grade) and "verdict no" not in sheet
    page.get_by_role("radio", name="ungradable").check()
    page.click("#correct")
    expect(page.locator("#eyes-verdict")).to_have_class("sign none")
    page.select_option("#filter", "ungradable")
    assert names_in(page) == ["7_left.jpg"]


def said(key: str, language: str = "en", **values: Any) -> str:
    """A text of the page."""
    words = json.loads((canned.SERVE / "static" / f"words.{language}.json").read_text(encoding="utf-8"))
    return re.sub(r"\{(\w+)\}", lambda found: str(values.get(found[1], found[0])), words[key])


def sheet_of(page: Any) -> str:
    with page.expect_download() as download:
        page.click("#report")
    return download.value.path().read_text(encoding="utf-8")


@pytest.mark.parametrize("language", ["en", "zh"])
def test_an_eye_that_the_threshold_refers_says_so_and_a_review_that_confirms_decides(room, language):
    page = room(width=1366, locale={"en": "en-GB", "zh": "zh-CN"}[language])
    graded(page, photograph("threshold_left.jpg", 6))
    expect(page.locator("#answer-referral .sign")).to_have_class("sign yes")
    told = said("refer.yes.threshold", language, grade=said("class.moderate NPDR", language))
    sheet = sheet_of(page)
    for text in (page.locator("#answer-referral").text_content(), sheet):
        assert told.partition("{")[0] in text
        assert said("refer.yes.meaning", language).partition("{")[0] + "moderate" not in text
    grade = page.locator("#bars .given").count()
    assert grade == 1 and said("meaning.no DR", language) not in page.locator("#answer").text_content() + sheet
    page.fill("#reviewer", "A. Okafor")
    page.click("#confirm")
    page.locator("#review-status.saved").wait_for()
    kinds = "[...document.querySelectorAll('#answer-referral .sign, #result-items .sign')].map(one => one.className)"
    assert page.evaluate(kinds) == ["sign no", "sign no"]
    sheet = sheet_of(page)
    assert "verdict no" in sheet and "verdict yes" not in sheet


def test_reviewers_who_disagree_are_shown_until_they_agree(room):
    page = room(width=1366)
    graded(page, photograph("7_left.jpg", 6), photograph("7_right.jpg", 21))  # neither is referable
    kinds = "[...document.querySelectorAll('#answer-referral .sign, #eyes-verdict')].map(one => one.className)"

    def review(who: str, grade: str) -> None:
        page.fill("#reviewer", who)
        page.get_by_role("radio", name=grade).check()
        with page.expect_response("**/v1/reviews"):
            page.click("#correct")
        expect(page.locator("#correct")).to_have_attribute("aria-disabled", "false")

    review("Dr. A", "moderate NPDR")
    review("dr. a", "proliferative DR")  # the same reviewer, who has changed their mind
    assert page.locator("#result-items strong .disagree").count() == 0
    review("Dr. B", "no DR")
    expect(page.locator("#result-items strong .disagree")).to_have_count(1)
    assert page.evaluate(kinds) == ["sign yes", "sign yes"]
    other = room(width=1366)
    graded(other, photograph("7_left.jpg", 6), photograph("7_right.jpg", 21))
    for seen in (page, other):
        for part in ("dr. a: proliferative DR", "Dr. B: no DR", said("results.worse")):
            expect(seen.locator("#answer-referral")).to_contain_text(part)
        for chosen in ("refer", "disagree"):
            seen.select_option("#filter", chosen)
            assert names_in(seen) == ["7_left.jpg"]
    page.reload()
    expect(page.locator("#result-items strong .disagree")).to_have_count(1)
    sheet = sheet_of(other)
    assert "dr. a" in sheet and "Dr. B" in sheet and "verdict yes" in sheet and said("results.worse") in sheet
    page.locator(PHOTOGRAPHS).filter(has_text="7_left.jpg").click()
    review("Dr. A", "no DR")
    expect(page.locator("#result-items strong .disagree")).to_have_count(0)
    assert page.evaluate(kinds) == ["sign no", "sign no"]


def test_a_map_on_the_border_and_a_set_of_all_grades_are_told(room):
    page = room()
    page.locator("#record-lead:not(:empty)").wait_for()
    graded(page, photograph("border.jpg", 2))
    expect(page.locator("#map-alarm")).to_be_visible()
    page.set_input_files("#files", [photograph("any grade.jpg", 3)])
    page.locator(PHOTOGRAPHS).nth(1).click()
    expect(page.locator("#map-alarm")).to_be_hidden()
    words = json.loads((canned.SERVE / "static" / "words.en.json").read_text(encoding="utf-8"))
    expect(page.locator("#set p")).to_have_text(words["set.all"])


def test_maps_that_failed_their_check_say_so_on_the_picture(room):
    model = {**canned.MODEL, "maps_failed": True}
    page = room()
    page.route("**/v1/model", lambda route: route.fulfill(json=model))
    page.reload()
    page.locator("#record-lead:not(:empty)").wait_for()
    graded(page, photograph("plain.jpg", 2))
    words = json.loads((canned.SERVE / "static" / "words.en.json").read_text(encoding="utf-8"))
    expect(page.locator("#map-alarm")).to_have_text(words["viewer.failed"])


LEADS = """() => ['answer-referral', 'answer-grade', 'picture', 'confirm', 'choices', 'correct'].filter(id => {
  const box = document.getElementById(id).getBoundingClientRect();
  return box.top < 0 || box.bottom > innerHeight || box.width === 0;
})"""


@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
def test_on_a_laptop_two_eyes_with_reasons_to_doubt_need_no_scrolling(room, locale):
    page = room(width=1366, locale=locale)
    page.set_viewport_size({"width": 1366, "height": 768})
    names = ("any threshold other camera_left.jpg", "any threshold other camera_right.jpg")
    graded(page, photograph(names[0], 5), photograph(names[1], 4))
    expect(page.locator("#eyes-items button")).to_have_count(2)
    assert page.locator("#answer-referral p").count() == 3
    page.evaluate("scrollTo(0, 0)")
    assert page.evaluate(LEADS) == []
    page.fill("#reviewer", "A. Okafor")
    page.locator("#choices input").last.check()
    page.click("#correct")
    page.locator("#review-status.saved").wait_for()
    assert page.evaluate("scrollY") == 0 and page.evaluate(LEADS) == []


@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
def test_on_a_laptop_an_ungradable_eye_with_every_flag_needs_no_scrolling(room, monkeypatch, locale):
    flags = ("no-disc", "blurred", "too-dark", "too-bright", "low-contrast", "cut-off", "not-a-retina")
    monkeypatch.setattr(canned, "BLACK", flags)
    page = room(width=1366, locale=locale)
    page.set_viewport_size({"width": 1366, "height": 768})
    graded(page, black("9_left.jpg"), photograph("9_right.jpg", 4))
    expect(page.locator("#advice")).to_be_visible()
    expect(page.locator("#eyes-items button")).to_have_count(2)
    page.evaluate("scrollTo(0, 0)")
    assert page.evaluate(LEADS) == []
    page.fill("#reviewer", "A. Okafor")
    for who, grade in (("A. Okafor", 4), ("Berta Lindqvist", 0), ("Carla", 2)):
        page.fill("#reviewer", who)
        page.locator("#choices input").nth(grade).check()
        with page.expect_response("**/v1/reviews"):
            page.click("#correct")
        expect(page.locator("#correct")).to_have_attribute("aria-disabled", "false")
    assert page.evaluate("scrollY") == 0 and page.evaluate(LEADS) == []
    expect(page.locator("#advice")).to_be_hidden()  # reviewers have graded it


def test_on_a_laptop_nothing_of_the_task_needs_scrolling(room):
    page = listed_room(room)
    page.set_viewport_size({"width": 1366, "height": 768})
    page.locator(PHOTOGRAPHS).first.click()
    page.evaluate("scrollTo(0, 0)")
    assert page.evaluate(LEADS) == []
    page.set_viewport_size({"width": 390, "height": 844})
    tops = page.evaluate(
        "['answer-referral', 'stage', 'results'].map(id => document.getElementById(id).getBoundingClientRect().top)"
    )
    assert tops == sorted(tops)


def test_reasons_to_doubt_an_answer_stand_in_its_verdict(room):
    page = room()
    page.locator("#record-lead:not(:empty)").wait_for()
    graded(page, photograph("any grade.jpg", 3))
    words = json.loads((canned.SERVE / "static" / "words.en.json").read_text(encoding="utf-8"))
    expect(page.locator("#answer-referral")).to_contain_text(words["list.unsure"])
