"""Matrices as SVG."""

from xml.etree import ElementTree

from foveal.page.matrix import Matrix, Square

SEEN, LOST = {"value": 0.8, "low": 0.71, "high": 0.9, "n": 60}, {"value": None, "low": None, "high": None, "n": 1}
MATRIX = Matrix(
    title="Quadratic kappa", rows=["all", "all but a & b"], columns=["a & b", "c"],
    squares=[[Square(SEEN), Square({**SEEN, "value": -0.2, "low": -0.4})], [Square(SEEN, True), None]],
)  # fmt: skip


def test_a_cell_shows_value_interval_and_n_and_marks_what_was_not_trained_on():
    drawing = ElementTree.fromstring(MATRIX.drawing)
    words = [text.text for text in drawing.iter("text")]
    assert words.count("0.80") == 2 and "0.71–0.90" in words and "−0.40 to 0.90" in words and words.count("n = 60") == 3
    squares = [one.get("class") for one in drawing.iter("rect")]
    assert squares == ["square", "square", "square abroad"]
    assert [one.get("style") for one in drawing.iter("rect")] == ["--share: 0.800", "--share: 0.000", "--share: 0.800"]
    assert "all but a & b" in words and "trained on all, tested on c" in drawing.get("aria-label")


def test_everything_is_inside_the_drawing_and_what_is_unknown_is_a_dash():
    drawing = ElementTree.fromstring(MATRIX.drawing)
    for rect in drawing.iter("rect"):
        right, bottom = (float(rect.get(a)) + float(rect.get(b)) for a, b in (("x", "width"), ("y", "height")))
        assert right <= float(drawing.get("width")) and bottom <= float(drawing.get("height"))
    assert Square(LOST).lines[:2] == ["–", "–"] and Square(LOST).share == 0
    long = Matrix(title="t", rows=["r" * 90], columns=["c" * 90], squares=[[Square(SEEN)]])
    names = [text.text for text in ElementTree.fromstring(long.drawing).iter("text") if text.get("class") == "name"]
    assert names[1].endswith("…") and len(names[0]) < 20 < len(names[1])
