"""The page of clusters and neighbours in a real browser: nothing is fetched, nothing overflows, dots can be asked."""

import shutil
from pathlib import Path

import pandas as pd
import pytest

import foveal

pytestmark = pytest.mark.browser
LONG = "a_name_without_any_place_to_break_" * 4

FILLS = "dots => new Set(dots.map(dot => getComputedStyle(dot).fill)).size"


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets with copies of one another, flags, and names that cannot be broken."""
    folder = tmp_path_factory.mktemp("clustered")
    first = foveal.prepare("phantom:60", out=folder / "first", size=32)
    second = Path(shutil.copytree(first, folder / LONG[:100]))
    for name in ("records.csv", "measures.csv"):
        table = pd.read_csv(second / name, dtype=str, keep_default_na=False)
        table["id"] = [f"{LONG}{number}" for number in range(len(table))]
        table.assign(**({"flags": "blurred"} if name == "records.csv" else {})).to_csv(second / name, index=False)
    foveal.cluster(first, second, out=folder / "out")
    return folder / "out" / "cluster.html"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_page_can_be_read(opened, assert_fits, page_file, width, scheme):
    page, troubles = opened(page_file, width, scheme)
    assert_fits(page)
    targets = page.eval_on_selector_all("nav a", "links => links.map(link => link.getAttribute('href'))")
    assert len(targets) >= 4 and all(page.locator(target).count() == 1 for target in targets)
    assert troubles == []


def test_colours_can_be_chosen_and_a_kind_seen_alone(opened, page_file):
    page, _ = opened(page_file)
    assert page.eval_on_selector_all(".sheets svg:first-of-type circle", FILLS) > 2
    page.check("[name=by][value=source]")
    assert page.eval_on_selector_all("svg circle", FILLS) == 2
    page.click("[data-kind=source-0]")
    faint = "dots => dots.filter(dot => getComputedStyle(dot).fillOpacity < 0.1).length"
    assert page.eval_on_selector_all("svg circle", faint) == page.locator("svg circle.source-1").count() > 0
    page.keyboard.press("Escape")
    assert page.eval_on_selector_all("svg circle", faint) == 0


def test_a_dot_says_what_it_is_on_both_maps(opened, page_file):
    page, _ = opened(page_file, reduced_motion="reduce")
    page.locator(".sheets svg").first.scroll_into_view_if_needed()
    page.wait_for_timeout(200)  # to scroll hides what a dot says
    box = page.locator(".sheets svg circle").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    card = page.locator(".asked-dot")
    assert card.is_visible() and card.locator("img").get_attribute("src").startswith("data:image/jpeg")
    assert (
        "/" in card.locator("code").inner_text()
        and page.locator("circle.asked").count() == page.locator(".sheets svg").count()
    )
    edge = card.bounding_box()
    assert edge["x"] >= 0 and edge["x"] + edge["width"] <= 1280
    page.mouse.move(5, 5)
    assert card.is_hidden()


def test_paper_is_white_without_controls(opened, page_file):
    page, _ = opened(page_file, scheme="dark")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("nav").is_hidden() and page.locator(".choice").is_hidden()
