import json
import shutil

import pandas as pd
import pytest

import foveal
from foveal.sets.corrections import later_names, read_corrections
from foveal.sets.records import open_prepared


@pytest.fixture
def data(tmp_path, phantom_set):
    return shutil.copytree(phantom_set, tmp_path / "set")


def test_a_correction_is_kept_beside_the_set_and_applied_whenever_it_is_opened(data, capsys):
    before = open_prepared(data)
    bytes_before = (data / "records.csv").read_bytes()
    image, label = before.part("test").iloc[0][["id", "label"]]
    new = (int(label) + 1) % 5
    foveal.correct(data, image, new=str(new), why="seen again", who="K")
    after = open_prepared(data)
    assert after.records.set_index("id").loc[image, "label"] == new
    assert (data / "records.csv").read_bytes() == bytes_before
    assert after.card["content_hash"] != before.card["content_hash"] and after.card["corrections"] == 1
    assert f"{data}: 1 correction of labels" in capsys.readouterr().out
    row = pd.read_csv(data / "corrections.csv").iloc[0]
    assert (row["id"], row["old"], row["new"], row["who"], row["why"]) == (image, label, new, "K", "seen again")


def test_a_name_will_do_a_second_correction_follows_the_first_and_none_removes_the_label(refuses, data):
    image = open_prepared(data).part("train")["id"].iloc[0]
    foveal.correct(data, image, new="severe NPDR", why="a")
    foveal.correct(data, image, new="none", why="b")
    record = open_prepared(data).records.set_index("id").loc[image]
    assert pd.isna(record["label"]) and record["split"] == "unlabelled"
    foveal.correct(data, image, new="1", why="c")
    record = open_prepared(data).records.set_index("id").loc[image]
    assert record["label"] == 1 and record["split"] == "train"
    with refuses("corrections.unchanged", image, "mild NPDR"):
        foveal.correct(data, image, new="1", why="d")


def test_a_text_that_a_spreadsheet_would_run_is_text_there_and_unchanged_here(data):
    image = open_prepared(data).part("train")["id"].iloc[0]
    texts = ["=1+1", "-1 or -2", "'=1", "'s", "'"]
    for number, why in enumerate(texts):
        foveal.correct(data, image, new="none" if number % 2 == 0 else "1", why=why, who="@K")
    assert read_corrections(data / "corrections.csv")["why"].tolist() == texts
    kept = pd.read_csv(data / "corrections.csv", dtype=str)
    assert kept["why"].tolist() == ["'=1+1", "'-1 or -2", "''=1", "'s", "'"] and set(kept["who"]) == {"'@K"}


def test_a_first_label_is_learned_from_unless_the_patient_is_in_another_part(data):
    before = open_prepared(data)
    alone, other = before.part("unlabelled")["id"].iloc[:2]
    records = pd.read_csv(data / "records.csv", dtype=str, keep_default_na=False).set_index("id")
    records.loc[alone, "group"] = "nobody"
    records.loc[other, "group"] = before.part("test")["group"].iloc[0]
    records.reset_index()[before.records.columns].to_csv(data / "records.csv", index=False)
    for image in (alone, other):
        foveal.correct(data, image, new="1", why="c")
    after = open_prepared(data).records.set_index("id")
    assert after.loc[[alone, other], "label"].tolist() == [1, 1]
    assert after.loc[[alone, other], "split"].tolist() == ["train", "test"]


def test_an_ungradable_image_has_the_flag_and_no_label_until_somebody_grades_it(data):
    image = open_prepared(data).part("test")["id"].iloc[0]
    foveal.correct(data, image, new="ungradable", why="a")
    record = open_prepared(data).records.set_index("id").loc[image]
    assert pd.isna(record["label"]) and record["flags"].split()[-1] == "ungradable" and record["split"] == "unlabelled"
    foveal.correct(data, image, new="3", why="b")
    record = open_prepared(data).records.set_index("id").loc[image]
    assert record["label"] == 3 and "ungradable" not in record["flags"] and record["split"] == "test"


def test_an_image_without_a_label_can_be_made_ungradable_and_back(data, refuses, capsys):
    image = open_prepared(data).part("unlabelled")["id"].iloc[0]
    for new, others in (("ungradable", "none"), ("none", "ungradable"), ("ungradable", "none")):
        capsys.readouterr()
        foveal.correct(data, image, new=new, why="a")
        said = capsys.readouterr().out.replace("no label", "none")
        assert f"{image}: {others} -> {new}" in said and said.count("corrections.csv") == 1
        record = open_prepared(data).records.set_index("id").loc[image]
        assert pd.isna(record["label"]) and record["split"] == "unlabelled"
        assert ("ungradable" in record["flags"].split()) == (new == "ungradable")
        with refuses("corrections.unchanged", image, new.replace("none", "no label")):
            foveal.correct(data, image, new=new, why="a")
    assert read_corrections(data / "corrections.csv")[["old", "new"]].to_numpy().tolist() == [
        ["", "ungradable"], ["ungradable", ""], ["", "ungradable"]
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "code", "named"),
    [
        ("id,old,new\nnobody,0,1\n", "corrections.image", "line 2: nobody"),
        ("id,old\nx,0\n", "table.missing_column", "corrections.csv new"),
        ("", "table.damaged", "corrections.csv"),
        ("id,old,new\n{image},{other},1\n", "corrections.label", "line 2: {image} {label} {other}"),
        ("id,old,new\n{image},{label},9\n", "label.value", "'9' 4"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(refuses, data, text, code, named):
    image, label = open_prepared(data).part("test").iloc[0][["id", "label"]]
    values = {"image": image, "label": label, "other": (int(label) + 1) % 5}
    (data / "corrections.csv").write_text(text.format(**values))
    with refuses(code, *named.format(**values).split()):
        open_prepared(data)


def test_wrong_uses_are_named(refuses, data):
    with refuses("corrections.image", data, "'x'"):
        foveal.correct(data, "x", new="1", why="y")
    with refuses("option.missing", "--why"):
        foveal.correct(data, "x", new="1", why=" ")
    with refuses("option.conflict", "--reviews", "new"):
        foveal.correct(data, reviews="reviews.csv", new="1")


@pytest.mark.slow
def test_a_run_says_which_labels_were_corrected_by_whom_and_why(data, tmp_path):
    prepared = open_prepared(data)
    image, label = prepared.part("train").iloc[0][["id", "label"]]
    new = (int(label) + 1) % 5
    foveal.correct(data, image, new=str(new), why="<seen> again", who="K")
    foveal.correct(data, prepared.part("unlabelled")["id"].iloc[0], new="ungradable", why="too dark")
    options = {"encoder": "small_conv", "epochs": 1, "batch_size": 8, "class_weights": "none"}
    run = foveal.train(data, out=tmp_path / "run", **options)
    before, after = prepared.card["counts"]["train"]["per_class"], json.loads((run / "card.json").read_text())
    counts = after["counts"]["train"]["per_class"]
    assert after["corrections"] == 2 and counts[prepared.classes[new]] == before[prepared.classes[new]] + 1
    page = foveal.report(run).read_text()
    assert "&lt;seen&gt; again" in page and "no label → ungradable" in page
    assert f"{prepared.classes[label]} → {prepared.classes[new]}" in page and "<td>K</td>" in page.replace("\n", "")


def test_evaluating_never_writes_over_corrections_of_other_images(data, grader_run, tmp_path, refuses):
    test, train = (open_prepared(data).part(split)["id"].iloc[0] for split in ("test", "train"))
    for image in (test, train):
        foveal.correct(
            data, image, new=str((int(open_prepared(data).records.set_index("id")["label"][image]) + 1) % 5), why="a"
        )
    before = (data / "corrections.csv").read_bytes()
    with refuses("output.in_set", data):
        foveal.evaluate(grader_run, corrections=data / "corrections.csv", out=data / "metrics.json")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "corrections.csv").write_bytes(before)
    foveal.evaluate(
        grader_run, corrections=tmp_path / "mine" / "corrections.csv", out=tmp_path / "mine" / "metrics.json"
    )
    assert (data / "corrections.csv").read_bytes() == before == (tmp_path / "mine" / "corrections.csv").read_bytes()


def test_a_correction_that_the_source_contains_already_is_no_conflict(tmp_path, write_phantoms, refuses):
    source = tmp_path / "photos"
    write_phantoms(source, 10)
    (source / "labels.csv").write_text("image,grade\n" + "".join(f"{n % 5}/{n:03d}.png,{n % 5}\n" for n in range(10)))
    options = {"size": 32, "dataset": "table", "fundus": "no", "scale": "icdr"}
    out = foveal.prepare(source, out=tmp_path / "set", **options)
    image = open_prepared(out).part("train")["id"].iloc[0]
    label = int(open_prepared(out).records.set_index("id")["label"][image])
    first, second, third = ((label + step) % 5 for step in (1, 2, 3))
    foveal.correct(out, image, new=str(first), why="a")
    foveal.correct(out, image, new=str(second), why="b")
    table = (source / "labels.csv").read_text()
    for now, then in ((first, second), (second, second)):  # the source takes over the first one, then both
        (source / "labels.csv").write_text(table.replace(f"{image}.png,{label}", f"{image}.png,{now}"))
        foveal.prepare(source, out=out, **options)
        assert open_prepared(out).records.set_index("id")["label"][image] == then
    before = (out / "records.csv").read_bytes()
    (source / "labels.csv").write_text(table.replace(f"{image}.png,{label}", f"{image}.png,{third}"))
    with refuses("corrections.label", image, label, third):
        foveal.prepare(source, out=out, **options)
    assert (out / "records.csv").read_bytes() == before
    foveal.correct(out, image, new=str(third), why="the source is right")
    foveal.prepare(source, out=out, **options)
    assert open_prepared(out).records.set_index("id")["label"][image] == third


def test_later_names_follow_a_picture_that_was_renamed_twice():
    same = [("b", "a", "renamed"), ("c", "b", "saved again"), ("y", "x", "similar"), ("q", "p", "moved")]
    changes = pd.DataFrame(same, columns=["id", "was", "change"])
    assert later_names(changes, ["c", "y", "q"]) == {"a": "c", "b": "c"}
    assert later_names(changes, ["b", "y", "q"]) == {"a": "b"}
