"""The sheet on one graded image."""

import json
import shutil
from dataclasses import replace

import pandas as pd

import foveal
from foveal.report.evidence import read_evidence
from foveal.report.findings import find
from foveal.report.image import referral, render_images


def sheet(run, *names, **options) -> str:
    page = foveal.report(run, image=names, **options).read_text(encoding="utf-8")
    return page.replace("\N{NO-BREAK SPACE}", " ")


def referral_of(run, name):
    """What the sheet says of referral for one image of a run."""
    evidence = read_evidence(run)
    row = evidence.predictions.set_index("id", drop=False).loc[name].to_dict()
    return referral(evidence, find([evidence])[0], row)


def change_points(run, change) -> None:
    result = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    result["operating_points"] = change(result["operating_points"])
    (run / "metrics.json").write_text(json.dumps(result), encoding="utf-8")


def test_a_sheet_says_grade_referral_neighbours_and_record(full_run):
    page = sheet(full_run, "i1")
    shown = ["<h2>mild</h2>", "80 %", "about 71 have mild or above (if 67 %", "mild or above is 90.0 %",
             "2 severe and 1 mild", "0.81 (0.70–0.90)", "83 % (77–95 %)", "not a medical device"]  # fmt: skip
    assert [words for words in shown if words not in page] == []
    assert page.index('class="verdict bad"') < page.index("probability of 80 %") and "<img" not in page


def test_referral_follows_the_grade_not_a_threshold(full_run):
    for threshold in (0.01, 0.99):
        change_points(full_run, lambda points, value=threshold: [points[0], points[1] | {"threshold": value}])
        assert [referral_of(full_run, name)["refers"] for name in ("i0", "i1")] == [False, True]
    assert "about 17 (5–23)" in sheet(full_run, "i0")


def test_without_an_operating_point_reliability_is_not_shown(full_run):
    change_points(full_run, lambda points: points[1:])
    assert referral_of(full_run, "i1") == {"refers": True, "level": ""}
    assert "about 71" not in sheet(full_run, "i1")


def test_without_validation_images_the_grade_decides_and_is_measured(tmp_path, write_grader):
    found = referral_of(write_grader(tmp_path / "run", split="val"), "i1")
    assert found["refers"] and found["right"]["value"] > 0.5


def test_the_pictures_are_those_of_the_run(full_run):
    first = pd.read_csv(full_run / "misgraded.csv")["id"].iloc[0]
    assert sheet(full_run, first).count("<img") == 2


def test_quality_flags_are_shown(full_run):
    table = pd.read_csv(full_run / "predictions.csv").assign(flags="blurred dark")
    table.to_csv(full_run / "predictions.csv", index=False)
    page = sheet(full_run, "i1")
    assert "<p>blurred: " in page and "<p>dark</p>" in page


def test_new_photographs_get_a_sheet_with_their_picture(full_run, tmp_path, refuses):
    photograph = shutil.copy(full_run / "misgraded" / "00.jpg", tmp_path / "new.jpg")
    table = pd.read_csv(full_run / "predictions.csv").head(2)
    table = table.assign(id=[str(photograph), "gone.dcm"], label="", split="")
    table.assign(flags=["", "not-a-retina"]).to_csv(tmp_path / "p.csv", index=False)
    file = foveal.report(full_run, predictions=tmp_path / "p.csv")
    page = file.read_text(encoding="utf-8")
    assert file == tmp_path / "images.html" and page.count("<article") == 2 and page.count("<img") == 1
    assert "<p>not-a-retina: " in page and "Label of the data set" not in page
    one = foveal.report(full_run, predictions=tmp_path / "p.csv", image="gone.dcm").read_text(encoding="utf-8")
    assert one.count("<article") == 1 and "<img" not in one
    table.drop(columns="p2").assign(p1=lambda own: 1 - own["p0"], grade=0).to_csv(tmp_path / "p.csv", index=False)
    with refuses("predictions.classes", tmp_path / "p.csv", full_run, 2, 3):
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


def test_wrong_use(full_run, tmp_path, write_pretraining, write_grader, refuses):
    with refuses("predictions.no_image", "i999", full_run / "predictions.csv"):
        foveal.report(full_run, image="i999")
    with refuses("predictions.missing", tmp_path / "pre"):
        foveal.report(write_pretraining(tmp_path / "pre"), image="i1")
    with refuses("option.conflict", "--predictions", 2):
        foveal.report(full_run, tmp_path / "other", predictions=tmp_path / "p.csv")
    with refuses("option.conflict", "--image", 2):
        foveal.report(full_run, write_grader(tmp_path / "other"), image="i1")


def test_a_table_with_the_classes_of_another_run_is_named(full_run, refuses):
    run = read_evidence(full_run)
    with refuses("predictions.classes", full_run / "predictions.csv", 2, 3):
        render_images(replace(run, predictions=run.predictions.drop(columns="p2")), ["i1"])
