"""The page of evidence in a real browser: nothing is fetched, nothing overflows, everything can be read."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

import foveal

pytestmark = pytest.mark.browser
LONG = "a_name_without_any_place_to_break_" * 4


# Texts with a contrast below 4.5 to 1 (WCAG 2, level AA) to all that is painted under them.
FAINT = """() => {
  const parse = text => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const linear = v => v <= 10.3 ? v / 3294.6 : ((v / 255 + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
  const over = (below, [r, g, b, a = 1]) => [r, g, b].map((v, i) => v * a + below[i] * (1 - a));
  const under = e => {
    const chain = [];
    for (; e; e = e.parentElement) chain.unshift(parse(getComputedStyle(e).backgroundColor));
    return chain.reduce(over, [255, 255, 255]);
  };
  const own = e => e.tagName !== 'title' && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  return [...document.querySelectorAll('body *')].filter(own).map(e => {
    const style = getComputedStyle(e), ink = parse(e.closest('svg') ? style.fill : style.color);
    const [a, b] = [light(ink), light(under(e))].sort((x, y) => y - x);
    return [e.textContent.trim().slice(0, 40), (a + .05) / (b + .05)];
  }).filter(([text, ratio]) => ratio < 4.5);
}"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, grader_run: Path, phantom_set: Path) -> dict[str, Path]:
    """A grader that was pre-trained, two graders side by side (one with unbreakable names), and an encoder alone."""
    folder = tmp_path_factory.mktemp("pages")
    encoder = foveal.pretrain(phantom_set, out=folder / "encoder", encoder="small_conv", epochs=2, batch_size=8)
    first, second = folder / "first", folder / LONG
    for copy in (first, second):
        shutil.copytree(grader_run, copy)
        lines = (copy / "config.toml").read_text(encoding="utf-8").replace('init = "random"', f'init = "{encoder}"')
        (copy / "config.toml").write_text(lines, encoding="utf-8")
    lengthen(second)
    add_companions(second)
    maps = foveal.explain(grader_run, phantom_set, out=folder / "maps", method="occlusion")
    return {
        "full": foveal.report(second, out=folder / "full.html"),
        "one": foveal.report(first, out=folder / "one.html"),
        "two": foveal.report(first, second, out=folder / "two.html"),
        "encoder": foveal.report(encoder, out=folder / "encoder.html"),
        "explained": maps.with_name("explain.html"),
    }


def lengthen(run: Path) -> None:
    """Put names and facts that cannot be broken wherever they come from the outside."""
    card = json.loads((run / "card.json").read_text(encoding="utf-8"))
    card |= {"title": LONG, "reference": f"https://example.org/{LONG}", "content_hash": LONG}
    (run / "card.json").write_text(json.dumps(card), encoding="utf-8")
    table = pd.read_csv(run / "misgraded.csv", dtype=str, keep_default_na=False)
    table["id"] = [f"{LONG}{number}.jpg" for number in range(len(table))]
    table.to_csv(run / "misgraded.csv", index=False)


def add_companions(run: Path) -> None:
    """Overlays of the misgraded images, with names that cannot be broken."""
    shutil.copytree(run / "misgraded", run / "explain")
    ids = pd.read_csv(run / "misgraded.csv", dtype=str, keep_default_na=False)["id"].tolist()
    pictures = sorted(file.name for file in (run / "explain").iterdir())
    images = [{"id": name if k % 2 else LONG, "overlay": picture, "grade": 0, "label": 1, "border_energy": 0.5,
               "alarm": True} for k, (name, picture) in enumerate(zip(ids, pictures, strict=False))]  # fmt: skip
    explained = {"method": "gradcam", "target": LONG, "images": images, "cannot_show": LONG}
    (run / "explain" / "explain.json").write_text(json.dumps(explained), encoding="utf-8")


@pytest.fixture
def unfolded(opened):
    """As `opened`, with all that is folded away on the screen unfolded."""

    def open_page(*args, **options):
        page, troubles = opened(*args, **options)
        page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
        return page, troubles

    return open_page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["one", "two", "encoder", "full", "explained"])
def test_page_can_be_read(unfolded, assert_fits, pages, name, width, scheme):
    page, troubles = unfolded(pages[name], width, scheme)
    assert_fits(page)
    assert page.evaluate(FAINT) == []
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert troubles == []


def test_links_of_the_head_lead_somewhere(unfolded, pages):
    page, _ = unfolded(pages["one"], 1280, "light")
    targets = page.eval_on_selector_all("nav a", "links => links.map(link => link.getAttribute('href'))")
    assert len(targets) == len(set(targets)) == page.locator("main section").count()
    assert all(page.locator(target).count() == 1 for target in targets)


def test_paper_is_white_and_shows_what_the_reader_has_opened(unfolded, pages):
    page, _ = unfolded(pages["two"], 800, "dark")
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = false)")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("nav").is_hidden()
    assert page.locator("#summary").is_visible() and page.locator("#provenance").is_hidden()
    page.evaluate("document.querySelectorAll('#provenance details').forEach(part => part.open = true)")
    assert page.locator("#provenance dl").first.is_visible()
    assert page.evaluate(FAINT) == []


def test_the_report_can_be_read_in_ten_minutes(unfolded, pages):
    page, _ = unfolded(pages["full"], 1280, "light")
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = false)")
    assert page.evaluate("document.body.innerText.split(/\\s+/).length") <= 1500
    assert page.locator("#summary .tile").count() == page.locator("#summary .strip").count() >= 3
    first = page.evaluate("document.querySelector('#summary .level').getBoundingClientRect().top")
    assert first < page.evaluate("innerHeight")
    assert len(re.findall(rb"/Type\s*/Page\b", page.pdf(prefer_css_page_size=True))) <= 6


def test_the_keyboard_reaches_the_contents_and_every_frame_that_scrolls(unfolded, pages):
    page, _ = unfolded(pages["full"], 390, "light")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#summary"
    assert page.evaluate("[...document.querySelectorAll('.scroll')].every(e => e.tabIndex === 0 && e.ariaLabel)")
    named = "[...document.querySelectorAll('img, svg[role]')].every(e => e.alt || e.getAttribute('aria-label'))"
    assert page.evaluate(named)
