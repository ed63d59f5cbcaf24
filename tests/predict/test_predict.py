import json
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.predict.model import Answers
from foveal.predict.predictor import Predictor
from foveal.readout.predictions import read_predictions
from foveal.sets.records import open_prepared
from foveal.sources.phantom import draw_phantom


@pytest.fixture
def photographs(tmp_path):
    """Six PNG photographs, one in a folder below, and two files that are none."""
    random = np.random.default_rng(0)
    for number in range(6):
        file = tmp_path / "photos" / ("more" if number == 5 else "") / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), draw_phantom(number % 5, "left", 80, random).image[..., ::-1])
    (tmp_path / "photos" / "letter.jpg").write_text("Dear colleague")
    return tmp_path / "photos"


@pytest.fixture(scope="module")
def photo_run(tmp_path_factory):
    """A grader whose set was prepared from files, with the disc crop."""
    root = tmp_path_factory.mktemp("photo")
    random = np.random.default_rng(1)
    for number in range(40):
        file = root / "photos" / str(number % 5) / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), draw_phantom(number % 5, "left", 80, random).image[..., ::-1])
    data = foveal.prepare(root / "photos", out=root / "data", size=32)
    run = foveal.train(data, out=root / "run", encoder="small_conv", epochs=1, batch_size=8, class_weights="none")
    return root, data, run


@pytest.mark.slow
def test_files_are_treated_exactly_as_in_preparation(photo_run, tmp_path):
    root, data, run = photo_run
    from_files = pd.read_csv(foveal.predict(run, root / "photos", out=tmp_path / "files.csv"))
    from_set = pd.read_csv(foveal.predict(run, data, out=tmp_path / "set.csv"))
    from_files["id"] = [name.split("photos/")[1].removesuffix(".png") for name in from_files["id"]]
    both = from_files.merge(from_set, on="id")
    assert len(both) == 40
    for number in range(5):
        assert both[f"p{number}_x"].to_numpy() == pytest.approx(both[f"p{number}_y"].to_numpy(), abs=1e-6)


def test_a_grader_from_before_ellipses_keeps_to_circles(photo_run, tmp_path, refuses):
    _, data, run = photo_run
    older = shutil.copytree(run, tmp_path / "older")
    said = json.loads((older / "model.json").read_text())
    assert said["preparation"]["crop"] == "ellipse"
    (older / "model.json").write_text(json.dumps(said | {"preparation": said["preparation"] | {"crop": "disc"}}))
    eye = draw_phantom(2, "left", 200, np.random.default_rng(0)).image
    frame = cv2.resize(np.pad(eye, ((20, 20), (20, 20), (0, 0))), (160, 240), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(tmp_path / "squeezed.png"), frame[..., ::-1])
    flags = {}
    for grader in (run, older):
        out = foveal.predict(grader, tmp_path / "squeezed.png", out=tmp_path / "p.csv", ungradable=())
        flags[grader.name] = pd.read_csv(out, keep_default_na=False)["flags"].item().split()
    assert "no-disc" in flags["older"] and "no-disc" not in flags[run.name]
    with refuses("set.preparation", data, "crop ellipse", "crop disc"):
        foveal.predict(older, data, out=tmp_path / "set.csv")


def test_folders_files_and_bad_files(photo_run, photographs, tmp_path):
    out = foveal.predict(photo_run[2], [photographs, photographs / "0.png"], out=tmp_path / "new" / "p.csv")
    table = read_predictions(out)
    assert len(table) == 6 and table["label"].isna().all() and (table["referable"] == (table["grade"] >= 2)).all()
    bad = pd.read_csv(out, keep_default_na=False).set_index("answer").loc["unreadable"]
    assert bad["id"].endswith("letter.jpg") and bad["reason"] and bad["grade"] == bad["p0"] == ""


@pytest.mark.slow
def test_pictures_that_are_no_good_photographs_are_flagged(photo_run, tmp_path, capsys, refuses):
    wide = foveal.prepare(photo_run[0] / "photos", out=tmp_path / "data", size=64)
    run = foveal.train(wide, out=tmp_path / "run", encoder="small_conv", epochs=1, batch_size=8, class_weights="none")
    cv2.imwrite(str(tmp_path / "noise.png"), np.random.default_rng(0).integers(0, 255, (80, 80, 3), np.uint8))
    out = foveal.predict(run, tmp_path / "noise.png", out=tmp_path / "p.csv")
    row = pd.read_csv(out, keep_default_na=False).iloc[0]
    assert "not-a-retina" in row["flags"] and "1 not-a-retina" in capsys.readouterr().out
    assert row["answer"] == "ungradable" and row["grade"] == row["referable"] == "" and row["reason"]
    with refuses("predictions.nothing_graded", out):
        read_predictions(out)
    graded = read_predictions(foveal.predict(run, tmp_path / "noise.png", ungradable=["blurred"], out=out))
    assert len(graded) == 1
    from_set = read_predictions(foveal.predict(run, wide, out=tmp_path / "set.csv")).set_index("id")["flags"]
    records = pd.read_csv(wide / "records.csv", dtype=str, keep_default_na=False).set_index("id")["flags"]
    assert from_set.equals(records[from_set.index])


def test_a_part_of_a_prepared_set(grader_run, phantom_set, tmp_path):
    table = read_predictions(foveal.predict(grader_run, phantom_set, split="test", out=tmp_path / "p.csv"))
    assert set(table["split"]) == {"test"} and table["label"].notna().all()
    trained = read_predictions(grader_run / "predictions.csv")
    both = table.merge(trained, on="id")
    assert len(both) == len(table) and (both["p0_x"] - both["p0_y"]).abs().max() < 2e-6


def test_images_that_were_learned_from_do_not_count_as_test_images(grader_run, phantom_set, tmp_path, capsys):
    other = tmp_path / "other"
    (other / "images").mkdir(parents=True)
    for name in ("card.json", "measures.csv", "duplicates.csv", "images/00000.npy"):
        (other / name).write_bytes((phantom_set / name).read_bytes())
    records = open_prepared(phantom_set).records
    learned = (records["split"] == "train").sum()
    records.assign(split=records["split"].replace({"train": "test"})).to_csv(other / "records.csv", index=False)
    table = read_predictions(foveal.predict(grader_run, other, split="test", out=tmp_path / "p.csv"))
    assert (table["split"] == "train").sum() == learned and f"{learned} of the " in capsys.readouterr().out


def test_labels_on_another_scale_are_left_out(grader_run, tmp_path, capsys):
    other = foveal.prepare("phantom:10", out=tmp_path / "other", size=32, classes="0,1,2,3+4", seed=5)
    table = read_predictions(foveal.predict(grader_run, other, out=tmp_path / "p.csv"))
    assert table["label"].isna().all() and "icdr 0,1,2,3+4" in capsys.readouterr().out


def test_a_set_that_was_prepared_differently_is_refused(grader_run, tmp_path, refuses):
    other = foveal.prepare("phantom:6", out=tmp_path / "other", size=24)
    with refuses("set.preparation", other, "size 24", "size 32"):
        foveal.predict(grader_run, other, out=tmp_path / "p.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


@pytest.mark.parametrize(
    ("images", "options", "code", "value"),
    [
        (["nowhere.jpg"], {}, "image.missing", "nowhere.jpg"),
        ([], {}, "image.none", ""),
        (["{run}"], {}, "image.grader", "grader"),
        (["{set}"], {"split": "unlabelled"}, "set.empty", "unlabelled"),
    ],
)
def test_wrong_inputs_are_named(grader_run, tmp_path, refuses, images, options, code, value):
    data = tmp_path / "data"
    if images == ["{set}"]:
        foveal.prepare("phantom:8", out=data, size=32)
    images = [image.format(run=grader_run, set=data) for image in images]
    with refuses(code, value):
        foveal.predict(grader_run, *images, out=tmp_path / "p.csv", **options)
    assert not (tmp_path / "p.csv").exists()


def test_nothing_readable_is_an_error(grader_run, tmp_path, refuses):
    (tmp_path / "letter.jpg").write_text("Dear colleague")
    with refuses("image.all_unreadable", 1, tmp_path / "letter.jpg"):
        foveal.predict(grader_run, tmp_path / "letter.jpg", out=tmp_path / "p.csv")
    assert [file.name for file in tmp_path.iterdir()] == ["letter.jpg"]  # the same command is refused again


def test_what_is_no_number_is_no_grade(grader_run, photographs, tmp_path, monkeypatch, refuses):
    answers = Answers(probabilities=np.full((1, 5), np.nan, np.float32))
    monkeypatch.setattr(Predictor, "answer", lambda *_: answers)
    with refuses("run.not_finite", "grader"):
        foveal.predict(grader_run, photographs / "0.png", out=tmp_path / "p.csv")
    assert not (tmp_path / "p.csv").exists()


def test_an_encoder_is_no_grader(phantom_set, tmp_path, refuses):
    run = foveal.pretrain(phantom_set, out=tmp_path / "run", encoder="small_conv", epochs=1, batch_size=16)
    with refuses("run.not_a_grader", run):
        Predictor(run)


def test_memory_does_not_depend_on_the_batches(grader_run, phantom_set):
    prepared = open_prepared(phantom_set)
    images = prepared.pixels(prepared.records)
    predictor = Predictor(grader_run)
    whole = predictor.probabilities(np.concatenate([images, images]))
    assert whole.shape == (120, 5) and whole[:60] == pytest.approx(whole[60:], abs=1e-6)
    assert whole.sum(1) == pytest.approx(np.ones(120), abs=1e-5)
