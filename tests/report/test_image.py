"""The sheet on one graded image."""

import json
import re
import shutil

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
    assert "Of 100 images that it refers, about 71 have mild or above, if 67 % of all have it." in page
    assert "It refers what it grades mild or above; the probability of that is 90.0 % here." in page
    assert page.index("would refer") < page.index("with a probability of 80 %")
    assert "Of the 5 images most like it, 2 severe and 1 mild." in page
    assert "0.81 (0.70–0.90)" in page and "83 % (77–95 %)" in page
    assert "not a medical device" in page and "look it up by its id" in page


def test_the_grade_decides_as_in_the_table_and_no_threshold(full_run):
    for name, grade, words in (("i0", 0, "would not refer"), ("i1", 1, "would refer")):
        for threshold in (0.01, 0.99):
            result = json.loads((full_run / "metrics.json").read_text(encoding="utf-8"))
            result["operating_points"][1]["threshold"] = threshold
            (full_run / "metrics.json").write_text(json.dumps(result), encoding="utf-8")
            table = pd.read_csv(full_run / "predictions.csv").set_index("id")
            assert (table.loc[name, "grade"], table.loc[name, "referable"]) == (grade, grade)
            assert f"<strong>The grader {words} this eye.</strong>" in sheet(full_run, name)
    page = sheet(full_run, "i0")
    assert re.search(
        r"Of 100 images with mild or above, it passes about 17 \(\d+ to \d+\), as it passes this one.", page
    )


def test_what_was_measured_before_grades_were_a_point_says_so(full_run):
    result = json.loads((full_run / "metrics.json").read_text(encoding="utf-8"))
    result["operating_points"] = result["operating_points"][1:]
    (full_run / "metrics.json").write_text(json.dumps(result), encoding="utf-8")
    page = sheet(full_run, "i1")
    assert "<strong>The grader would refer this eye.</strong>" in page
    assert "By the grade given; how often that is right has not been measured." in page


def test_without_validation_images_the_grade_decides_and_is_measured(tmp_path, write_grader):
    page = sheet(write_grader(tmp_path / "run", split="val"), "i1")
    assert "<strong>The grader would refer this eye.</strong>" in page and "Of 100 images that it refers" in page


def test_the_pictures_are_those_of_the_run(full_run):
    first = pd.read_csv(full_run / "misgraded.csv")["id"].iloc[0]
    page = sheet(full_run, first)
    assert page.count("<img") == 2 and "look it up by its id" not in page


def test_quality_flags_are_shown(full_run):
    table = pd.read_csv(full_run / "predictions.csv").assign(flags="blurred dark")
    table.to_csv(full_run / "predictions.csv", index=False)
    page = sheet(full_run, "i1")
    assert "<p>blurred: The vessels are not sharp;" in page and "<p>dark</p>" in page


def test_new_photographs_get_a_sheet_with_their_picture(full_run, tmp_path):
    photograph = shutil.copy(full_run / "misgraded" / "00.jpg", tmp_path / "new.jpg")
    table = (
        pd.read_csv(full_run / "predictions.csv").head(2).assign(id=[str(photograph), "gone.dcm"], label="", split="")
    )
    table.assign(flags=["", "not-a-retina"]).to_csv(tmp_path / "p.csv", index=False)
    file = foveal.report(full_run, predictions=tmp_path / "p.csv")
    page = file.read_text(encoding="utf-8")
    assert file == tmp_path / "images.html" and page.count("<article") == 2 and page.count("<img") == 1
    assert (
        "<p>not-a-retina: This does not look like a photograph of a retina;" in page
        and "Label of the data set" not in page
    )
    one = foveal.report(full_run, predictions=tmp_path / "p.csv", image="gone.dcm").read_text(encoding="utf-8")
    assert one.count("<article") == 1 and "look it up by its id" in one
    table.drop(columns="p2").assign(p1=lambda own: 1 - own["p0"], grade=0).to_csv(tmp_path / "p.csv", index=False)
    with pytest.raises(ValueError, match=r"was not made by .*: it has 2 classes, the run has 3"):
        foveal.report(full_run, predictions=tmp_path / "p.csv")


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
    with pytest.raises(ValueError, match="--predictions is for one run, got 2"):
        foveal.report(full_run, tmp_path / "other", predictions=tmp_path / "p.csv")
    with pytest.raises(ValueError, match="--image is for one run, got 2"):
        foveal.report(full_run, write_grader(tmp_path / "other"), image="i1")
