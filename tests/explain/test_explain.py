import importlib.util
import json
import re
import shutil
from types import SimpleNamespace
from zipfile import ZipFile

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

import foveal
from foveal.errors import FovealError
from foveal.explain import explain as module
from foveal.explain import explainer
from foveal.explain.explain import CANNOT_SHOW, words_of, worst_first
from foveal.explain.explainer import EXPECTED, Explainer
from foveal.fundus.crop import crop_square
from foveal.fundus.overlay import ALARM
from foveal.fundus.preparation import Preparation, prepare_file
from foveal.predict.inputs import Photograph
from foveal.sources.phantom import draw_phantom


def read(file):
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.fixture
def photograph(tmp_path):
    """A phantom photograph off-centre in a wide frame."""
    frame = np.zeros((200, 320, 3), np.uint8)
    frame[20:180, 90:250] = draw_phantom(3, "left", 160, np.random.default_rng(0)).image
    file = tmp_path / "photos" / "an eye (1).png"
    file.parent.mkdir()
    cv2.imwrite(str(file), frame[..., ::-1])
    return file


def test_a_part_of_a_set_the_worst_mistakes_first(grader_run, phantom_set, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WORST", 3)
    out = foveal.explain(grader_run, phantom_set, out=tmp_path / "maps", method="occlusion")
    result = read(out)
    assert (result["method"], result["target"], result["cannot_show"]) == ("occlusion", "grade", CANNOT_SHOW)
    table = pd.read_csv(grader_run / "predictions.csv").query("split == 'test'").set_index("id")
    distances = (table["grade"] - table["label"]).abs()
    assert [distances[image["id"]] for image in result["images"]] == sorted(distances, reverse=True)[:3]
    for image in result["images"]:
        assert image["grade"] == table["grade"][image["id"]] and image["label"] == table["label"][image["id"]]
        assert 0 <= image["border_energy"] <= 1 and bool(image["alarm"]) == (image["border_energy"] >= 0.25)
        assert cv2.imread(str(tmp_path / "maps" / image["overlay"])).shape[1] >= 640
        assert f"{image['border_energy']:.0%}" in image["note"] or image["border_energy"] == 0
    page = (tmp_path / "maps" / "explain.html").read_text(encoding="utf-8")
    assert page.count("<figure") == 3 and all(image["note"] in page for image in result["images"])
    links = re.findall(r"""(?:src|href)=["'](?!data:|#)([^"']*)""", page)
    assert links == [image["overlay"] for image in result["images"]]


def test_the_value_is_that_of_the_prediction_and_the_overlay_is_the_photograph(grader_run, photograph, tmp_path):
    row, given = (
        pd.read_csv(foveal.predict(grader_run, photograph, out=tmp_path / f"{tta}.csv", tta=tta)).iloc[0]
        for tta in ("none", "auto")
    )
    expected = {"grade": sum(k * row[f"p{k}"] for k in range(5)), "referable": row["p2"] + row["p3"] + row["p4"]}
    for target, value in expected.items():
        (image,) = read(
            foveal.explain(grader_run, photograph.parent, out=tmp_path / "o", method="occlusion", target=target)
        )["images"]
        assert image["value"] == pytest.approx(value, abs=1e-4) and image["label"] is None
        assert image["grade"] == given["grade"]
        assert re.fullmatch(r"maps/000_an_eye_1_\.[0-9a-f]{8}\.jpg", image["overlay"])
    shape = cv2.imread(str(tmp_path / "o" / image["overlay"])).shape
    assert shape[:2] == (4 * 200, 4 * 320)


def test_a_later_call_replaces_the_maps(grader_run, photograph, phantom_set, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WORST", 3)
    for images, count in ((phantom_set, 3), (photograph, 1)):
        result = read(foveal.explain(grader_run, images, out=tmp_path / "o", method="occlusion"))
        assert len(result["images"]) == len(list((tmp_path / "o" / "maps").iterdir())) == count


@pytest.mark.parametrize("crop", ["ellipse", "disc", "none"])
@pytest.mark.parametrize("fit", ["pad", "cut"])
def test_the_square_in_the_photograph_is_the_one_that_preparation_cuts(photograph, crop, fit):
    preparation = Preparation(size=96, crop=crop, fit=fit)
    prepared = prepare_file(photograph, preparation)
    picture = module.Picture(id="a", file="a", pixels=prepared.pixels, original=Photograph.at(photograph))
    assert (crop_square(*picture.frame(preparation), 96) == prepared.square).all()


def test_the_worst_come_first_and_the_unlabelled_last():
    table = pd.DataFrame({
        "label": pd.array([0, 1, 0, None, 2], dtype="Int64"), "grade": [0, 2, 2, 1, 1],
        "p0": [0.9, 0.1, 0.1, 0.1, 0.1], "p1": [0.05, 0.4, 0.1, 0.8, 0.7], "p2": [0.05, 0.5, 0.8, 0.1, 0.2],
    })  # fmt: skip
    assert worst_first(table) == [2, 4, 1, 0, 3]


def test_without_captum_nothing_is_written(grader_run, photograph, tmp_path, monkeypatch, refuses):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with refuses("package.missing", "captum", "foveal[explain]"):
        foveal.explain(grader_run, photograph, out=tmp_path / "o")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("options", "code", "value"),
    [
        ({"images": ()}, "option.missing", "IMAGES"),
        ({"target": "glaucoma"}, "option.value", "no DR"),
    ],
)
def test_wrong_use_is_refused(grader_run, phantom_set, tmp_path, options, code, value, refuses):
    images = options.pop("images", (phantom_set,))
    with refuses(code, value):
        foveal.explain(grader_run, *images, out=tmp_path / "o", **options)
    assert not any(tmp_path.rglob("*.json"))


def test_a_folder_with_other_files_is_refused(grader_run, photograph, refuses):
    with refuses("output.exists", photograph.parent):
        foveal.explain(grader_run, photograph, out=photograph.parent, method="occlusion")


def test_a_set_without_the_part_is_refused(grader_run, phantom_set, tmp_path, refuses):
    fewer = shutil.copytree(phantom_set, tmp_path / "fewer")
    records = pd.read_csv(fewer / "records.csv", dtype=str, keep_default_na=False)
    records[records["split"] != "test"].to_csv(fewer / "records.csv", index=False)
    with refuses("set.too_small", fewer, "test"):
        foveal.explain(grader_run, fewer, out=tmp_path / "o")


def test_nothing_readable_is_an_error(grader_run, tmp_path, refuses):
    (tmp_path / "letter.jpg").write_text("Dear colleague")
    with refuses("image.damaged", tmp_path / "letter.jpg"):
        foveal.explain(grader_run, tmp_path / "letter.jpg", out=tmp_path / "o")


def test_an_unreadable_photograph_has_its_place(tmp_path):
    def read(photographs):
        return [(photograph, FovealError("image.damaged", "cut off")) for photograph in photographs]

    photographs = [Photograph.at(tmp_path / "letter.jpg")]
    assert list(module.from_photographs(photographs, SimpleNamespace(read=read))) == [None]


def test_photographs_in_an_archive_are_explained(grader_run, photograph, tmp_path):
    with ZipFile(tmp_path / "eyes.zip", "w") as archive:
        archive.write(photograph, "eye.png")
    (image,) = read(foveal.explain(grader_run, tmp_path / "eyes.zip", out=tmp_path / "o", method="occlusion"))["images"]
    assert image["id"].endswith("eyes.zip/eye.png") and (tmp_path / "o" / image["overlay"]).is_file()


def test_grad_cam_is_the_map_that_predict_lays_over_photographs(looking_run, phantom_set):
    explainer = Explainer(looking_run, "grade")
    pixels = explainer.predictor.blank(1)
    pixels[0, 8:24, 8:24] = np.random.default_rng(0).integers(0, 255, (16, 16, 3))
    (places,) = explainer.predictor.answer(pixels, ("map",)).maps
    found = explainer.explain(pixels[0], "gradcam")
    assert found.cells == len(places) == 2 and found.heat.shape == (64, 64)
    assert found.heat.max() == pytest.approx(places.max(), rel=1e-5)
    other = explainer.explain(pixels[0], "gradcam", EXPECTED)
    assert explainer.predictor.decision != "most_probable" or other.heat.max() != found.heat.max()


def test_grad_cam_of_an_encoder_without_maps_is_refused(grader_run, photograph, tmp_path, refuses):
    with refuses("run.no_maps", "--method gradcam"):
        foveal.explain(grader_run, photograph, out=tmp_path / "o", method="gradcam")
    assert not (tmp_path / "o").exists()


def test_a_map_outside_the_retina_alone_is_no_map(grader_run, photograph, tmp_path, monkeypatch):
    def corner(method, score, image, empty):
        heat = torch.zeros(image.shape[2:])
        heat[:2, :2] = 1
        return heat, heat.numel(), None

    monkeypatch.setattr(explainer, "attribute", corner)
    (image,) = read(foveal.explain(grader_run, photograph, out=tmp_path / "o"))["images"]
    assert image["border_energy"] == 0 and image["alarm"] == ""


def test_a_map_with_a_large_error_gets_a_warning():
    target, notes = SimpleNamespace(name="expected grade", classes=()), {}
    for delta in (0.05, 0.2, 0.4):
        found = SimpleNamespace(heat=np.ones((2, 2)), border_energy=0.1, delta=delta, target=target, value=1.0)
        notes[delta], alarm = words_of(found)
        assert alarm == ""
    assert all("1.00" in text and "10%" in text for text in notes.values())
    assert "5%" not in notes[0.05] and notes[0.2].startswith(notes[0.05]) and "20%" in notes[0.2]
    assert "40%" in notes[0.4] and not notes[0.4].startswith(notes[0.05])


def test_an_alarm_names_the_share_and_an_empty_map_its_target():
    target, alarms = SimpleNamespace(name="referable", classes=(2, 3)), {}
    for share in (ALARM - 0.01, ALARM, 0.4):
        found = SimpleNamespace(heat=np.zeros((2, 2)), border_energy=share, delta=None, target=target, value=0.3)
        note, alarms[share] = words_of(found)
        assert "referable (0.30)" in note and "%" not in note
    assert alarms[ALARM - 0.01] == "" and f"{ALARM:.0%}" in alarms[ALARM] and "40%" in alarms[0.4]
