import subprocess
import sys
import zipfile
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import foveal
from foveal.fundus.decode import pixels_of
from foveal.predict.inputs import Photograph
from foveal.sources.phantom import draw_phantom


@pytest.fixture(scope="module")
def pixels():
    """Four photographs, uint8 [4, 80, 80, 3]."""
    random = np.random.default_rng(0)
    return np.stack([draw_phantom(number, "left", 80, random).image for number in range(4)])


@pytest.fixture
def photographs(tmp_path, pixels):
    """The same as PNG files in a folder."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def grader(grader_run):
    return foveal.load(grader_run)


def of_verb(run, *images, out, **options):
    return foveal.predict(run, *images, out=out, **options).read_text()


def as_text(table):
    return table.to_csv(index=False, lineterminator="\n")


def test_files_folders_archives_lists_and_sets_have_the_rows_of_the_verb(
    grader, grader_run, phantom_set, photographs, tmp_path
):
    (photographs / "letter.jpg").write_text("Dear colleague")
    (tmp_path / "list.csv").write_text("file\nphotos/1.png\nphotos/absent.png\n")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(photographs / "3.png", "3.png")
    for number, given in enumerate(
        [photographs, photographs / "2.png", tmp_path / "list.csv", tmp_path / "all.zip", tmp_path / "**" / "*.png"]
    ):
        assert as_text(grader.predict(given)) == of_verb(grader_run, given, out=tmp_path / f"{number}.csv")
    many = [phantom_set, str(photographs), photographs / "0.png"]
    table = grader.predict(many)
    assert as_text(table) == of_verb(grader_run, *many, out=tmp_path / "many.csv")
    assert len(table) == 65 and set(table["answer"]) == {"graded", "unreadable"}
    assert table["label"].notna().any() and grader.classes[0] == "no DR" and grader.name == "grader"


def test_pictures_in_memory_have_the_rows_of_their_files(grader, photographs, pixels):
    expected = grader.predict(photographs).drop(columns="id")
    tensor = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    pillow = [Image.open(file) for file in sorted(photographs.iterdir())]
    for given in (
        pixels,
        list(pixels),
        tensor,
        list(tensor),
        tensor / 255,
        pixels / 255,
        pillow,
        [pixels[:2], tensor[2], pillow[3]],
    ):
        table = grader.predict(given)
        assert list(table["id"]) == [f"image {number}" for number in range(4)]
        pd.testing.assert_frame_equal(table.drop(columns="id"), expected)
    one = grader.predict(pixels[0])
    assert len(one) == len(grader.predict(tensor[0])) == len(grader.predict(pillow[0])) == 1
    assert one["p0"][0] == expected["p0"][0]


def test_grey_arrays_are_grey_photographs(grader, pixels, tmp_path):
    grey = cv2.cvtColor(pixels[0], cv2.COLOR_RGB2GRAY)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    files = grader.predict(tmp_path / "grey.png")
    for given in (grey, grey[..., None], Image.fromarray(grey)):
        assert grader.predict(given)["p2"][0] == files["p2"][0]


def test_mixed_images_keep_their_order_and_bad_ones_are_rows(grader, photographs, pixels):
    cut = (photographs / "1.png").read_bytes()[:-200]
    floats = Image.fromarray(np.zeros((8, 8), np.float32))
    given = [pixels[0], photographs / "2.png", Image.open(BytesIO(cut)), pixels[:0], floats, pixels[1]]
    table = grader.predict(iter(given))
    assert list(table["id"]) == ["image 0", (photographs / "2.png").as_posix(), "image 1", "image 2", "image 3"]
    assert list(table["answer"]) == ["graded", "graded", "unreadable", "unreadable", "graded"]
    assert table["reason"][2:4].all() and table["grade"][2:4].isna().all()
    assert grader.predict(np.zeros((0, 5, 3), np.uint8))["answer"][0] == "unreadable"
    assert grader.predict(np.zeros((1, 1, 3), np.uint8))["answer"][0] == "graded"


def test_pixels_in_memory_are_let_go_once_they_are_prepared(grader, pixels):
    given = [Photograph("a", Path("a"), pixels=pixels[0])]
    assert [(photograph.id, photograph.pixels) for photograph, _ in grader._model.read(given)] == [("a", None)]


def test_a_set_that_is_given_twice_has_its_rows_twice(grader, phantom_set):
    once = grader.predict(phantom_set)
    assert list(grader.predict([phantom_set, phantom_set])["id"]) == [*once["id"], *once["id"]]


def test_no_images_are_an_empty_table_with_all_columns(grader, pixels):
    grey = np.ascontiguousarray(pixels[..., 1])
    pd.testing.assert_frame_equal(grader.predict(grey), grader.predict(list(grey)))
    assert len(grader.predict(grey)) == 4
    assert list(grader.predict([]).columns) == list(grader.predict(pixels[0]).columns) and grader.predict([]).empty


@pytest.mark.parametrize(
    ("images", "code", "value"),
    [
        (np.full((8, 8, 3), 2.0), "image.array", "float64"),
        (torch.full((3, 8, 8), -1.0), "image.array", "float32"),
        (np.zeros((8, 8, 3), np.uint16), "image.array", "uint16"),
        (np.zeros((3, 8, 8), np.uint8), "image.array", "[3, 8, 8]"),
        (np.zeros((8, 8, 4), np.uint8), "image.array", "[8, 8, 4]"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), "image.array", "[8, 8, 3]"),
        (["nowhere.jpg"], "image.missing", "nowhere.jpg"),
        (7, "image.type", "int"),
        ([["a.jpg"]], "image.type", "list"),
        (b"\xff\xd8\xff", "image.type", "bytes"),
    ],
)
def test_what_is_not_a_photograph_is_refused_before_any_work(grader, refuses, images, code, value, monkeypatch):
    monkeypatch.setattr(type(grader), "_tables", lambda *_: pytest.fail("worked"))
    with refuses(code, value):
        grader.predict(images)


def test_pictures_are_turned_upright(pixels):
    image = Image.fromarray(pixels[0][:40])
    image.getexif()[0x0112] = 6
    assert (pixels_of(image) == np.rot90(pixels[0][:40], -1)).all()
    assert (pixels_of(Image.fromarray(np.full((2, 2), 4095, np.uint16))) == 255).all()


def test_options_are_those_of_the_verb(grader_run, photographs, tmp_path, refuses):
    flips = foveal.load(grader_run, tta="flips", ungradable=())
    table = as_text(flips.predict(photographs))
    expected = of_verb(grader_run, photographs, out=tmp_path / "p.csv", tta="flips", ungradable=())
    assert table == expected
    with refuses("option.value", "dull", "no-disc"):
        foveal.load(grader_run, ungradable=["dull"])
    with refuses("option.value", "--tta", "many"):
        foveal.load(grader_run, tta="many")
    with refuses("run.not_a_run", tmp_path):
        foveal.load(tmp_path)
    with pytest.raises(TypeError, match="run"):
        foveal.load()


def test_flagged_photographs_have_no_grade_unless_asked(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (90, 90, 3), np.uint8)
    data = foveal.prepare("phantom:20", out=tmp_path / "data", size=64)
    run = foveal.train(data, out=tmp_path / "run", encoder="small_conv", epochs=1, batch_size=8)
    strict, lax = foveal.load(run).predict(noise), foveal.load(run, ungradable=()).predict(noise)
    assert strict["answer"][0] == "ungradable" and strict["grade"].isna()[0] and "not-a-retina" in strict["reason"][0]
    assert lax["answer"][0] == "graded" and lax["p0"][0] == strict["p0"][0]


def test_neither_torch_nor_numpy_is_imported_for_the_name():
    code = "import sys, foveal; foveal.load; sys.exit(bool({'torch', 'numpy', 'pandas', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
