"""The kit of every page: words for numbers, parts, charts and pictures."""

import base64
import io
import re

import numpy as np
import pytest
from markupsafe import Markup
from PIL import Image

from foveal.page.charts import SHAPES, Level, Line, Mark, Panel, fitted, ticks
from foveal.page.parts import (
    Cell,
    Columns,
    Gallery,
    Heading,
    Html,
    Note,
    Picture,
    Section,
    Table,
    Verdict,
    difference_cell,
    percent_cell,
)  # fmt: skip
from foveal.page.pictures import embedded, embedded_file
from foveal.page.render import ENVIRONMENT, page, render
from foveal.page.words import (
    capital,
    counted,
    difference_with_interval,
    interval,
    listed,
    number,
    percent,
    percent_interval,
    percent_with_interval,
    signed,
    value_with_interval,
)  # fmt: skip

macros = ENVIRONMENT.get_template("parts.html").module
EVIL = "<script>alert(1)</script>"


def entry(value, low, high):
    return {"value": value, "low": low, "high": high}


@pytest.mark.parametrize("none", [None, float("nan")])
def test_a_missing_number_is_a_dash(none):
    assert {number(none), signed(none), percent(none), interval(entry(0.5, none, none))} == {"–"}
    assert [number(-0.001), number(-0.006), signed(0.0)] == ["0.00", "−0.01", "+0.000"]
    assert percent_interval(entry(0.5, none, none)) == value_with_interval(entry(none, none, none)) == "–"
    assert value_with_interval(entry(0.5, none, none)) == "0.50 (no interval)"


def test_values_with_their_intervals():
    shown = [value_with_interval(entry(0.84, 0.79, 0.88)), value_with_interval(entry(0.01, -0.02, 0.05)),
             percent_with_interval(entry(0.84, 0.79, 0.88)),
             difference_with_interval(entry(-0.01, -0.05, 0.02), 2)]  # fmt: skip
    assert [text.replace("\N{NO-BREAK SPACE}", " ") for text in shown] == [
        "0.84 (0.79–0.88)", "0.01 (−0.02 to 0.05)", "84 % (79–88 %)", "−0.01 (−0.05 to +0.02)",
    ]  # fmt: skip
    cell = difference_cell(entry(0.041, 0.01, 0.072) | {"answer": "better"})
    assert (cell.text, cell.small, cell.tone) == ("+0.041 better", "+0.010 to +0.072", "good")
    assert percent_cell(entry(0.5, None, None)).small == ""


def test_counts_and_lists():
    assert (counted(1, "image"), counted(1744, "image")) == ("1 image", "1,744 images")
    assert (listed([]), listed(["a"]), listed(["a", "b", "c"])) == ("", "a", "a, b and c")
    assert capital("so") == "So" and capital("") == ""


def every_part(text):
    panel = Panel(title=text, lines=[Line(label=text, x=[1, 2], y=[0.5, 0.7]), Line(label=text, x=[1, 2], y=[0, 1])],
                  levels=[Level(label=text, value=0.4)],
                  marks=[Mark(label=text, x=1, y=0.2)], x_label=text)  # fmt: skip
    table = Table(columns=["", text], rows=[[Cell(text=text, picture="data:,"), Cell(text=text, small=text)]],
                  caption=text, notes=[text], groups=[("", 1), (text, 1)])  # fmt: skip
    strip = Table(
        columns=["a", "b"],
        rows=[[Cell(text="x"), Cell(text="y", strip={"low": -1, "high": 2, "value": 0.5, "against": None})]],
    )
    picture = Picture(source="data:,", id=text, text=text, lines=[text], alarm=text, overlay="data:,", link="#")
    return [text, table, strip, Verdict(tone="good", text=text, grounds=text), Heading(text, text), Note(text),
            Markup("<b>{}</b>").format(text), Gallery([picture]), Columns([[text], [Note(text)]]),
            *map(Html, [macros.chart(panel), macros.charts([panel]), macros.facts([(text, text)])])]  # fmt: skip


def test_a_page_draws_every_part_and_escapes_its_words():
    sections = [Section(name="first", title=EVIL, parts=every_part(EVIL)), Section(name="next", title="B", parts=[])]
    html = page(sections, title=EVIL, kind="Foveal test", subtitle=EVIL, about=EVIL, footer=EVIL)
    assert "<script" not in html and html.count("&lt;script&gt;") > 45
    assert re.findall(r'<a href="#(\w+)">', html) == re.findall(r'<section id="(\w+)">', html) == ["first", "next"]
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", html)


def test_a_template_that_lacks_a_word_is_an_error():
    import jinja2

    with pytest.raises(jinja2.UndefinedError):
        render("sections.html", sections=[])


@pytest.mark.parametrize(
    ("low", "high", "whole", "found"),
    [
        (0.0, 1.0, False, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (-1.0, 1.0, False, [-1, -0.5, 0, 0.5, 1]),
        (0.97, 1.03, True, [1]), (0.9, 20.3, True, [5, 10, 15, 20]),
        (0.031, 0.032, False, [0.031, 0.0312, 0.0314, 0.0316, 0.0318, 0.032]),
    ],
)  # fmt: skip
def test_ticks_are_round(low, high, whole, found):
    assert ticks(low, high, 5, whole=whole) == pytest.approx(found)


def test_a_chart_shows_its_values_and_breaks_where_there_is_none():
    line = Line(label="loss", x=[1, 2, 3, 4], y=[3.0, None, float("nan"), 1.0])
    drawn = macros.chart(Panel(title="Loss", lines=[line], levels=[Level(label="chance", value=2.5)], best=4))
    assert 'aria-label="Loss by epoch: loss from 3.00 to 1.00."' in drawn
    assert drawn.count("M", drawn.index("line series-1"), drawn.index("ring")) == 2 and "nan" not in drawn
    assert macros.chart(Panel(title="Loss", lines=[Line(label="a", x=[], y=[])]))
    assert 'class="dot series-1"' in macros.chart(Panel(title="Loss", lines=[Line(label="a", x=[1], y=[2.0])]))
    roc = Panel(title="ROC", lines=[line], square=True, x_label="x", y_label="y", marks=[Mark(label="m", x=0.5, y=0)])
    assert "Marked: m at 0.50, 0.00." in macros.chart(roc) and SHAPES["circle"] in macros.chart(roc)


def test_places_keep_their_proportions_and_stay_inside():
    found = fitted(np.array([[0.0, 0.0], [10.0, 0.0], [10.0, 4.0]]), 400, 10, 0.0)
    assert found[1, 0] - found[0, 0] == pytest.approx(380)
    assert found[0, 1] - found[2, 1] == pytest.approx(152)  # y grows upwards
    far = np.vstack([np.random.default_rng(0).normal(size=(1000, 2)), [[1e6, 0]]])
    squeezed = fitted(far, 400, 10, 0.002)
    assert squeezed[:1000, 0].std() > 20 and squeezed.max() <= 390
    assert np.isfinite(fitted(np.zeros((3, 2)), 400, 10, 0.0)).all()


def opened(address):
    return Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/jpeg;base64,"))))


@pytest.mark.parametrize(
    ("shape", "size"), [((300, 300, 3), (128, 128)), ((28, 28, 1), (28, 28)), ((60, 256, 3), (128, 30))]
)
def test_pictures_are_made_small(shape, size):
    assert opened(embedded(np.full(shape, 90, np.uint8))).size == size


def test_a_picture_file_is_taken_as_it_is_where_it_is_small(tmp_path):
    Image.new("RGB", (200, 100), (90, 10, 10)).save(tmp_path / "a.jpg")
    Image.new("RGBA", (200, 100), (90, 10, 10, 255)).save(tmp_path / "a.png")
    same = base64.b64decode(embedded_file(tmp_path / "a.jpg", 200).partition(",")[2])
    assert same == (tmp_path / "a.jpg").read_bytes()
    assert {opened(embedded_file(tmp_path / name, 50)).size for name in ("a.jpg", "a.png")} == {(50, 25)}
    (tmp_path / "a.dcm").write_bytes(b"DICM")
    with pytest.raises(OSError):
        embedded_file(tmp_path / "a.dcm", 50)
