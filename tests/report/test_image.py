"""The sheet on one graded image."""

import json

import pandas as pd
import pytest

import foveal


def sheet(run, *names, **options) -> str:
    page = foveal.report(run, image=names, **options).read_text(encoding="utf-8")
    return page.replace("\N{NO-BREAK SPACE}", " ")


def test_a_sheet_says_grade_referral_neighbours_and_record(full_run):
    page = sheet(full_run, "i1")
    assert "The grader gives mild, with a probability of 80 %." in page
    assert "<strong>The grader would refer this eye.</strong>" in page
    assert "Of 100 images that it refers, about 78 have the disease, where 67 % have it." in page
    assert "gives mild and above a probability of 90.0 %; it refers from 34.5 % on, with the threshold set so" in page
    assert page.index("would refer") < page.index("with a probability of 80 %")
    assert "Of the 5 images most like it, 2 severe and 1 mild." in page
    assert "0.81 (0.70 to 0.90)" in page and "88 % (95 % interval 77 to 95 %)" in page
    assert "not a medical device" in page and "look it up by its id" in page


def test_the_threshold_decides_and_not_the_grade(full_run):
    result = json.loads((full_run / "metrics.json").read_text(encoding="utf-8"))
    result["operating_points"][0]["threshold"] = 0.95
    (full_run / "metrics.json").write_text(json.dumps(result), encoding="utf-8")
    page = sheet(full_run, "i1")
    assert "<strong>The grader would not refer this eye.</strong>" in page
    assert "Of 100 images with the disease, it passes about 12, as it passes this one." in page


def test_without_an_operating_point_the_grade_decides(tmp_path, write_grader):
    run = write_grader(tmp_path / "run", split="val")
    page = sheet(run, "i1")
    assert "<strong>The grader would refer this eye.</strong>" in page and "no operating point has been chosen" in page


def test_the_pictures_are_those_of_the_run(full_run):
    first = pd.read_csv(full_run / "misgraded.csv")["id"].iloc[0]
    page = sheet(full_run, first)
    assert page.count("<img") == 2 and "look it up by its id" not in page


def test_quality_flags_are_shown(full_run):
    table = pd.read_csv(full_run / "predictions.csv").assign(flags="blurred dark")
    table.to_csv(full_run / "predictions.csv", index=False)
    assert "<dd>blurred dark</dd>" in sheet(full_run, "i1")


def test_several_images_are_several_sheets_in_the_order_asked(full_run):
    page = sheet(full_run, "i7", "i2")
    assert page.count("<article") == 2 and page.index("Image i7") < page.index("Image i2")
    assert page == sheet(full_run, "i7", "i2")


def test_a_hostile_id_is_escaped_and_stays_in_the_folder(full_run):
    evil = "../../<script>alert(1)</script>"
    table = pd.read_csv(full_run / "predictions.csv").replace({"id": {"i1": evil}})
    table.to_csv(full_run / "predictions.csv", index=False)
    file = foveal.report(full_run, image=evil)
    assert file.parent == full_run and file.name == "image-script-alert-1-script.html"
    assert "<script" not in file.read_text(encoding="utf-8")


def test_wrong_use(full_run, tmp_path, write_pretraining, write_grader):
    with pytest.raises(ValueError, match="has no image i999"):
        foveal.report(full_run, image="i999")
    with pytest.raises(ValueError, match="graded no image"):
        foveal.report(write_pretraining(tmp_path / "pre"), image="i1")
    with pytest.raises(ValueError, match="--image is for one run, got 2"):
        foveal.report(full_run, write_grader(tmp_path / "other"), image="i1")
