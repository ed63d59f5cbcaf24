"""The page of an inspection in a real browser: nothing is fetched, nothing overflows, all pictures are there."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

import foveal

pytestmark = pytest.mark.browser
LONG = "a_name_without_any_place_to_break_" * 4

LOADED = "[...document.images].every(image => image.complete && image.naturalWidth > 0)"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets with copies of one another, flags, and names that cannot be broken."""
    folder = tmp_path_factory.mktemp("inspected")
    first = foveal.prepare("phantom:60", out=folder / "first", size=64)
    second = Path(shutil.copytree(first, folder / LONG[:100]))
    for name in ("records.csv", "measures.csv"):
        table = pd.read_csv(second / name, dtype=str, keep_default_na=False)
        table["id"] = [f"{LONG}{number}" for number in range(len(table))]
        table.assign(**({"flags": "blurred"} if name == "records.csv" else {})).to_csv(second / name, index=False)
    foveal.inspect(first, second, page=folder / "page.html")
    return folder / "page.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_page_can_be_read(opened, assert_fits, page_file, width, scheme):
    page, troubles = opened(page_file, width, scheme)
    assert_fits(page)
    page.evaluate("[...document.images].forEach(image => image.loading = 'eager')")
    page.wait_for_function(LOADED)
    targets = page.eval_on_selector_all("nav a", "links => links.map(link => link.getAttribute('href'))")
    assert len(targets) == 6 and all(page.locator(target).count() == 1 for target in targets)
    assert troubles == []


def test_paper_is_white(opened, page_file):
    page, _ = opened(page_file, scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("nav").is_hidden()
