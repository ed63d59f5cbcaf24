import hashlib
import importlib.util
import json
import re
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.explain import attribution, tiles, trial
from foveal.explain.explain import CANNOT_SHOW, note, safe_name
from foveal.explain.pictures import worst_first
from foveal.explain.trial import draw_with_lesions
from foveal.fundus.preparation import Preparation
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


def test_a_part_of_a_set_the_worst_mistakes_first(grader_run, phantom_set, tmp_path):
    out = foveal.explain(grader_run, phantom_set, out=tmp_path / "maps", method="gradcam", limit=3)
    result = read(out)
    assert (result["method"], result["target"], result["cannot_show"]) == ("gradcam", "grade", CANNOT_SHOW)
    table = pd.read_csv(grader_run / "predictions.csv").query("split == 'test'").set_index("id")
    distances = (table["grade"] - table["label"]).abs()
    assert [distances[image["id"]] for image in result["images"]] == sorted(distances, reverse=True)[:3]
    for image in result["images"]:
        assert image["grade"] == table["grade"][image["id"]] and image["label"] == table["label"][image["id"]]
        assert 0 <= image["border_energy"] <= 1 and bool(image["alarm"]) == (image["border_energy"] >= 0.25)
        assert cv2.imread(str(tmp_path / "maps" / image["overlay"])).shape[1] >= 640
        assert "of it on the border" in image["note"] or "there is no map" in image["note"]
    page = (tmp_path / "maps" / "explain.html").read_text(encoding="utf-8")
    assert page.count("<figure>") == 3 and all(image["note"] in page for image in result["images"])
    links = re.findall(r"""(?:src|href)=["'](?!data:|#)([^"']*)""", page)
    assert links == [image["overlay"] for image in result["images"]]


def test_the_value_is_that_of_the_prediction_and_the_overlay_is_the_photograph(grader_run, photograph, tmp_path):
    foveal.predict(grader_run, photograph, out=tmp_path / "p.csv")
    row = pd.read_csv(tmp_path / "p.csv").iloc[0]
    expected = {"grade": sum(k * row[f"p{k}"] for k in range(5)), "referable": row["p2"] + row["p3"] + row["p4"]}
    for target, value in expected.items():
        (image,) = read(
            foveal.explain(grader_run, photograph.parent, out=tmp_path / "o", method="saliency", target=target)
        )["images"]
        assert image["value"] == pytest.approx(value, abs=1e-4) and image["label"] is None
        assert image["overlay"] == "maps/000_an-eye-1.jpg"
    shape = cv2.imread(str(tmp_path / "o" / image["overlay"])).shape
    assert shape[:2] == (4 * 200, 4 * 320)


@pytest.mark.slow
def test_the_trial_scores_all_methods_and_keeps_the_maps_made_before(grader_run, photograph, tmp_path, monkeypatch):
    monkeypatch.setattr(attribution, "WINDOWS", 2)
    monkeypatch.setattr(attribution, "STEPS", 2)
    monkeypatch.setattr(tiles, "WINDOWS", (2, 4))
    monkeypatch.setattr(tiles, "TRIED", (1, 1 / 4))
    monkeypatch.setattr(trial, "CORRELATED", 2)
    foveal.explain(grader_run, photograph, out=tmp_path / "o", method="saliency")
    result = read(foveal.explain(grader_run, out=tmp_path / "o", phantom=6))
    assert len(result["images"]) == 1 and result["method"] == "saliency"
    score = result["score"]
    assert set(score["methods"]) == {
        "gradcam",
        "gradcam++",
        "hirescam",
        "layercam",
        "integrated-gradients",
        "occlusion",
        "occlusion with tiles",
        "saliency",
        "gradient-x-input",
        "contrast",
    }
    assert score["images"] >= 2 and "random weights" in score["verdict"]
    assert score["methods"]["occlusion with tiles"]["trained"] != score["methods"]["occlusion"]["trained"]
    entry = score["methods"]["gradcam"]
    assert entry["trained"]["auc"]["n"] == entry["random"]["auc"]["n"] == score["images"]
    assert set(score["correlation"]["gradcam"]) == {"head", "head and last half", "all"}
    assert (tmp_path / "o" / "phantoms.jpg").is_file()


def test_maps_of_other_weights_are_not_kept(grader_run, photograph, tmp_path):
    file = foveal.explain(grader_run, photograph, out=tmp_path / "o", method="saliency")
    weights = hashlib.sha256((grader_run / "best.pt").read_bytes()).hexdigest()
    assert weights.startswith(read(file)["weights"])
    file.write_text(json.dumps(read(file) | {"weights": "other", "score": {"verdict": "old"}}), encoding="utf-8")
    assert "score" not in read(foveal.explain(grader_run, photograph, out=tmp_path / "o", method="saliency"))


def test_drawn_lesions_follow_the_crop():
    whole = list(draw_with_lesions(6, Preparation(size=64, crop="none"), 1))
    cropped = list(draw_with_lesions(6, Preparation(size=64, crop="disc"), 1))
    assert whole and all(picture.lesions.any() and picture.grade > 0 for picture in whole)
    for picture in cropped:  # where red blood was drawn, the prepared pixels are darker than the retina
        green = picture.pixels[..., 1].astype(float)
        assert abs(green[picture.lesions > 0].mean() - np.median(green[picture.lesions == 0])) > 3


def test_the_worst_come_first_and_the_unlabelled_last():
    table = pd.DataFrame({
        "label": pd.array([0, 1, 0, None, 2], dtype="Int64"), "grade": [0, 2, 2, 1, 1],
        "p0": [0.9, 0.1, 0.1, 0.1, 0.1], "p1": [0.05, 0.4, 0.1, 0.8, 0.7], "p2": [0.05, 0.5, 0.8, 0.1, 0.2],
    })  # fmt: skip
    assert worst_first(table) == [2, 4, 1, 0, 3]


def test_without_captum_nothing_is_begun(grader_run, photograph, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="explain needs captum"):
        foveal.explain(grader_run, photograph, out=tmp_path / "o")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "or --phantom COUNT"),
        ({"phantom": 4, "tiles": True, "method": "saliency"}, "--tiles is a way of occlusion"),
        ({"phantom": -1}, "counts from 0 on"),
        ({"phantom": 4, "target": "glaucoma"}, "choose grade, referable or a class: no DR"),
    ],
)
def test_wrong_use_is_named(grader_run, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        foveal.explain(grader_run, out=tmp_path / "o", **options)
    assert not (tmp_path / "o").exists()


def test_a_folder_of_something_else_is_left_alone(grader_run, photograph):
    with pytest.raises(ValueError, match=r"exists and holds no explain\.json"):
        foveal.explain(grader_run, photograph, out=photograph.parent, method="saliency")


def test_nothing_readable_is_an_error(grader_run, tmp_path):
    (tmp_path / "letter.jpg").write_text("Dear colleague")
    with pytest.raises(ValueError, match="none of the pictures could be read"):
        foveal.explain(grader_run, tmp_path / "letter.jpg", out=tmp_path / "o")


def test_names_of_files_are_safe():
    assert safe_name("../a b/é:1") == "a-b-1" and safe_name("///") == "picture" and len(safe_name("x" * 300)) == 80


@pytest.mark.parametrize(("delta", "begins"), [(0.05, "what raises"), (0.2, "what raises"), (0.4, "do not rely")])
def test_a_map_that_does_not_add_up_is_said_to_be_no_help(delta, begins):
    target = SimpleNamespace(name="expected grade", classes=())
    found = SimpleNamespace(heat=np.ones((2, 2)), border_energy=0.1, delta=delta, target=target, value=1.0)
    text = note(found)
    assert text.startswith(begins) and ("misses the change" in text) == (delta > 0.1)
