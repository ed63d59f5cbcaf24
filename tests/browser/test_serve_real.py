"""The reading room and the real server together: a grader with maps and cases, reviews that outlive a reload."""

import csv
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import foveal
from foveal.sources.phantom import draw_phantom

pytest.importorskip("fastapi")
pydicom, httpx = pytest.importorskip("pydicom"), pytest.importorskip("httpx")
pytestmark = pytest.mark.browser
PHOTOGRAPHS = "#result-items button"


@pytest.fixture(scope="module")
def server(phantom_set: Path, tmp_path_factory: Any) -> Iterator[str]:
    """The address of `foveal serve`, in a thread."""
    import uvicorn

    from foveal.serve.guard import Hurried
    from foveal.serve.options import ServeConfig
    from foveal.serve.serve import build_app, listen

    folder = tmp_path_factory.mktemp("server")
    run = foveal.train(phantom_set, out=folder / "looking", encoder="resnet10t", epochs=6, batch_size=8, image_size=64)
    foveal.select(phantom_set, run=run, number=3, out=folder / "worklist.csv")
    given = {"reviews": str(folder / "reviews.sqlite"), "worklist": folder / "worklist.csv", "cases": phantom_set}
    app = build_app(ServeConfig(run=run, device="cpu", **given))
    with listen("127.0.0.1", 0) as socket:
        running = uvicorn.Server(uvicorn.Config(app, http=Hurried, ws="none", log_level="warning"))
        thread = threading.Thread(target=running.run, kwargs={"sockets": [socket]}, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
        running.should_exit = True
        thread.join(20)


@pytest.fixture
def page(browser: Any, server: str) -> Iterator[Any]:
    """The page. When the test ends, the console must have been silent and no other host asked for anything."""
    troubles: list[str] = []
    context = browser.new_context(viewport={"width": 1400, "height": 900}, locale="en-GB", accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(15_000)
    page.on("console", lambda message: troubles.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
    page.on("request", lambda asked: asked.url.startswith((server, "blob:", "data:")) or troubles.append(asked.url))
    page.goto(server)
    page.locator("#record-lead:not(:empty)").wait_for()
    yield page
    context.close()
    assert troubles == []


def drawn(seed: int) -> np.ndarray:
    return cv2.resize(draw_phantom(seed % 5, "left", 80, np.random.default_rng(seed)).image, (640, 640))


def jpeg(name: str, seed: int) -> dict[str, Any]:
    data = cv2.imencode(".jpg", drawn(seed)[..., ::-1])[1].tobytes()
    return {"name": name, "mimeType": "image/jpeg", "buffer": data}


def has_map(server: str, seed: int) -> bool:
    sent = {"images": ("left.jpg", jpeg("left.jpg", seed)["buffer"], "image/jpeg")}
    answers = httpx.post(f"{server}/v1/grade?pictures=true", files=sent, timeout=60).json()["answers"]
    return answers[0]["heat"] is not None


def dicom(name: str, seed: int) -> dict[str, Any]:
    pixels, dataset = drawn(seed), pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.5.1"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = *pixels.shape[:2], 3
    dataset.PhotometricInterpretation, dataset.PlanarConfiguration = "RGB", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB"
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return {"name": name, "mimeType": "application/dicom", "buffer": buffer.getvalue()}


def test_photographs_are_graded_reviewed_and_the_reviews_saved(page, server, tmp_path):
    from playwright.sync_api import expect

    mapped = [has_map(server, seed) for seed in range(10)]
    page.set_input_files("#files", [jpeg("left eye.jpg", mapped.index(False)), dicom("IM0001", mapped.index(True))])
    expect(page.locator(PHOTOGRAPHS)).to_have_count(2)
    for name in ("left eye.jpg", "IM0001"):
        page.locator(PHOTOGRAPHS).filter(has_text=name).click()
        expect(page.locator("#answer-name")).to_have_text(name)
        expect(page.locator("#answer-grade")).not_to_be_empty()
        shown = page.locator("#picture").evaluate("image => image.decode().then(() => image.naturalWidth)")
        assert shown == 640
        expect(page.locator("#similar-items img")).to_have_count(4)
        if name == "left eye.jpg":  # nothing in it raises the grade: there is no map
            expect(page.locator("#strength")).to_be_hidden()
            continue
        heat = page.locator("#heat").evaluate("image => image.decode().then(() => image.naturalWidth)")
        assert heat == 640
    opacity = "getComputedStyle(document.querySelector('#heat')).opacity"
    page.focus("#strength")
    page.keyboard.press("End")
    assert float(page.evaluate(opacity)) == 1
    page.keyboard.press("Home")
    assert float(page.evaluate(opacity)) == 0

    page.fill("#reviewer", "A. Okafor")
    page.click("#confirm")
    expect(page.locator("#review-status")).to_contain_text("confirmed")
    page.locator(PHOTOGRAPHS).filter(has_text="left eye.jpg").click()
    page.get_by_role("radio", name="ungradable").check()
    page.fill("#note", 'The lid, and "haze".')
    page.click("#correct")
    expect(page.locator("#review-status")).to_contain_text("to ungradable")

    page.reload()
    page.get_by_role("link", name="Reviews").click()
    rows = page.locator("#review-rows tr")
    expect(rows).to_have_count(2)
    expect(rows.first).to_contain_text("left eye.jpg")
    expect(rows.nth(1)).to_contain_text("IM0001")
    expect(rows.nth(1)).to_contain_text("A. Okafor")
    with page.expect_download() as download:
        page.click("#save-reviews")
    download.value.save_as(tmp_path / "reviews.csv")
    _, row = csv.DictReader((tmp_path / "reviews.csv").read_text(encoding="utf-8").splitlines())
    found = [row[key] for key in ("id", "new", "who", "why")]
    assert found == ["left eye.jpg", "ungradable", "A. Okafor", 'The lid, and "haze".']
    assert row["old"] in set("01234")


def test_the_description_of_the_api_is_a_page_like_the_others(page, server):
    page.goto(f"{server}/docs")
    assert page.locator("h2").count() >= 6
    assert page.evaluate("getComputedStyle(document.body).fontFamily").startswith("system-ui")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_worklist_is_opened_in_its_order_with_reasons(page):
    from playwright.sync_api import expect

    page.click("#open-worklist")
    expect(page.locator(PHOTOGRAPHS)).to_have_count(3)
    page.locator(PHOTOGRAPHS).first.click()
    expect(page.locator("#answer-why")).to_be_visible()
    expect(page.locator("#open-worklist")).to_be_disabled()
    assert page.locator("#answer-why [lang=en]").count() == 0  # in the words of the page
    get = "address => fetch(address).then((answer) => answer.json())"
    first, classes = page.evaluate(get, "v1/worklist")["photographs"][0], page.evaluate(get, "v1/model")["classes"]
    in_words = "async (given) => (await import('./static/worklist.js')).reasonOf(...given)"
    expect(page.locator("#answer-why")).to_contain_text(page.evaluate(in_words, [first, classes]))
    row = {"why": "unlike even", "unlike": "colour content", "grade": "1", "camera": "", "source": "clinic"}
    unlike, even = page.evaluate(in_words, [row, ["first", "second"]]).split("; ")
    assert "colour" in unlike and "content" in unlike and "clinic" in even and "second" in even and "first" not in even
    page.fill("#reviewer", "A. Okafor")
    page.click("#confirm")
    page.locator("#review-status.saved").wait_for()
    in_order = page.locator(f"{PHOTOGRAPHS} .name").all_text_contents()
    page.reload()  # the open photograph comes from the server again
    expect(page.locator(PHOTOGRAPHS)).to_have_count(3)
    expect(page.locator("#stage")).to_be_visible()
    expect(page.locator("#restored")).to_be_hidden()
    assert page.input_value("#sort") == "added" and page.locator(f"{PHOTOGRAPHS} .name").all_text_contents() == in_order
    expect(page.locator("#answer-why")).to_contain_text("1 of 3")
    other = page.context.browser.new_page(base_url=page.url)
    other.goto("/")  # another reader opens what is reviewed
    other.click("#open-worklist")
    expect(other.locator(PHOTOGRAPHS)).to_have_count(3)
    expect(other.locator(f"{PHOTOGRAPHS} .review-mark.done")).to_have_count(1)
    other.close()
    third = page.context.browser.new_page(base_url=page.url)
    late = "const get = fetch; const wait = () => new Promise((go) => setTimeout(go, 1500));"
    late += "window.fetch = async (...a) => { if (`${a[0]}`.endsWith('worklist')) await wait(); return get(...a); };"
    third.add_init_script(late)  # the worklist is not known yet when a review is opened
    third.goto("/#reviews")
    third.locator("#review-rows button").first.click()
    expect(third.locator("#stage")).to_be_visible()
    third.close()
