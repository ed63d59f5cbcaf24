"""Make the pictures of the README and the tutorials: screenshots of Foveal's pages in Chromium (`make system`).

    python docs/make_pictures.py [WORK]

Trains a grader on drawn photographs, opens its report, and grades new photographs in the reading room. Results that are
already in WORK are used again. Writes docs/pictures/*.webp.
"""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from playwright.sync_api import Page, sync_playwright

import foveal
from foveal.sources.phantom import draw_phantom

OUT = Path(__file__).with_name("pictures")
LARGEST = 120_000  # bytes of a picture
EYES = (("4711", 3, 3), ("4712", 0, 0), ("4713", 2, 2), ("4714", 0, 1), ("4715", 4, 4))  # patient, left, right
OPENED = "4711_left.jpg"
FONT = "html, body, .matrix text { font-family: Arial, 'Liberation Sans', sans-serif }"  # as on most computers


def photographs() -> Iterator[dict[str, Any]]:
    """Drawn photographs of both eyes, as a browser sends files."""
    random = np.random.default_rng(5)
    for patient, *grades in EYES:
        for eye, grade in zip(("left", "right"), grades, strict=True):
            drawn = draw_phantom(grade, eye, 768, random).image[..., ::-1]
            data = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()
            yield {"name": f"{patient}_{eye}.jpg", "mimeType": "image/jpeg", "buffer": data}


def trained(work: Path) -> Path:
    """A grader of drawn photographs, evaluated and with a report; takes a few minutes."""
    run = work / "grader"
    if not run.is_dir():
        data = foveal.prepare("phantom:600", out=work / "data", size=128)
        foveal.train(data, out=run, encoder="resnet10t", epochs=10, batch_size=16, learning_rate=1e-3)
        foveal.evaluate(run)
    foveal.report(run)
    return run


@contextmanager
def served(run: Path, *options: str | Path) -> Iterator[str]:
    """The address of `foveal serve` for a run, until the block ends."""
    command = [sys.executable, "-m", "foveal", "serve", run, "--port", "0", *options]
    with subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield next(line.split()[1] for line in server.stdout if line.startswith("page:"))
        finally:
            server.terminate()


def show_reading_room(page: Page, address: str) -> None:
    """Open the reading room, grade the photographs and open one of them."""
    page.goto(address)
    page.locator("#record-lead:not(:empty)").wait_for()
    page.set_input_files("#files", list(photographs()))
    rows = page.locator("#result-items button")
    rows.nth(2 * len(EYES) - 1).wait_for()
    rows.filter(has_text=OPENED).click()
    page.wait_for_function("document.querySelector('#heat').naturalWidth > 0")


def save(page: Page, name: str) -> None:
    """Write what the window shows as a WebP file."""
    page.add_style_tag(content=FONT)
    picture = cv2.imdecode(np.frombuffer(page.screenshot(), np.uint8), cv2.IMREAD_COLOR)
    for quality in (85, 75, 65, 55):
        data = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
        if len(data) <= LARGEST:
            break
    (OUT / f"{name}.webp").write_bytes(data)


def main(work: Path) -> None:
    """Make all pictures."""
    run = trained(work)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_context(device_scale_factor=1.5, locale="en-GB", bypass_csp=True).new_page()
        page.set_default_timeout(300_000)  # on a busy machine
        page.set_viewport_size({"width": 1280, "height": 768})
        page.goto((run / "report.html").absolute().as_uri())
        save(page, "report")
        with served(run, "--cases", work / "data") as address:
            show_reading_room(page, address)
            save(page, "reading_room")
        browser.close()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
