"""A cohort is prepared, graded, judged and reported in one step, with the run's own rules."""

import json
import shutil

import cv2
import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.files import read_json
from foveal.predict.cohort import cohort_set, folder_of
from foveal.report.evidence import read_evidence
from foveal.report.travel import beside, read_cohort
from foveal.sets.records import open_prepared
from foveal.sources.phantom import draw_phantom


@pytest.fixture
def run(grader_run, tmp_path):
    """A copy of the grader, which evaluations may write into."""
    return shutil.copytree(grader_run, tmp_path / "run")


@pytest.fixture(scope="module")
def clinic(tmp_path_factory):
    """labels.csv (id_code, patient, eye, diagnosis) beside 40 photographs of 20 patients that no run has seen.

    Two more files are copies of the first.
    """
    folder, random, rows = tmp_path_factory.mktemp("clinic"), np.random.default_rng(77), []
    (folder / "photos").mkdir()
    for number in range(40):
        patient, side = divmod(number, 2)
        image = draw_phantom(number % 5, ("left", "right")[side], 64, random).image
        cv2.imwrite(str(folder / "photos" / f"{patient:02d}_{side}.png"), image[..., ::-1])
        grade = "" if number == 39 else number % 5
        rows.append({"id_code": f"{patient:02d}_{side}", "patient": patient, "eye": "LR"[side], "diagnosis": grade})
    for copy in ("00_2", "00_3"):
        shutil.copy(folder / "photos" / "00_0.png", folder / "photos" / f"{copy}.png")
        rows.append(rows[0] | {"id_code": copy})
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)
    return folder


def test_a_table_of_photographs_is_graded_and_judged_in_one_step(run, clinic):
    own = read_json(foveal.evaluate(run))
    found = read_json(foveal.evaluate(run, on=clinic / "labels.csv"))
    folder = folder_of(run, clinic / "labels.csv")
    table = pd.read_csv(folder / "predictions.csv", dtype={"id": str, "group": str})
    assert folder == run / "cohorts" / clinic.name and len(table) == 42
    assert (table["split"] == "test").sum() == 41 and set(table["eye"]) == {"left", "right"}
    assert found["about"]["images"] == 41 and found["about"]["groups"] == 20
    assert found["about"]["classes"] == own["about"]["classes"]
    assert (found["patients"]["patients"], found["eyes"]["eyes"]) == (20, 40)
    assert {group["value"] for group in found["subgroups"]} == {"left", "right"}
    chosen = {point["chosen_on"] for point in found["operating_points"] if point["threshold"] is not None}
    assert chosen <= {"val"}  # those of the run
    again = foveal.evaluate(run, on=clinic, out=folder / "again.json")  # the folder with the table is the same cohort
    assert read_json(again)["metrics"]["accuracy"] == found["metrics"]["accuracy"]


def test_photographs_that_the_table_does_not_name_are_neither_prepared_nor_graded(run, clinic, tmp_path):
    few, table = tmp_path / "few", pd.read_csv(clinic / "labels.csv", dtype=str, keep_default_na=False)
    shutil.copytree(clinic / "photos", few / "photos")
    table.loc[3, "diagnosis"] = "ungradable"
    table[:20].to_csv(few / "labels.csv", index=False)
    foveal.evaluate(run, on=few / "labels.csv")
    listed = set(table["id_code"][:20])
    assert set(open_prepared(folder_of(run, few) / "set").records["id"].str.removeprefix("photos/")) == listed
    worklist = foveal.select(few, run=run, number=5, out=tmp_path / "worklist.csv")  # the others join the set here
    assert not set(worklist["id"].str.removeprefix("photos/")) & listed
    found = read_json(foveal.evaluate(run, on=few))
    assert found["about"]["images"] == 19
    shutil.rmtree(few)
    assert read_json(foveal.evaluate(run, on=few))["about"]["images"] == 19


def test_two_archives_in_one_folder_are_two_cohorts(tmp_path):
    for name in ("first.zip", "second.ZIP", "labels.csv"):
        (tmp_path / name).touch()
    places = [folder_of(tmp_path, tmp_path / name).name for name in ("first.zip", "second.ZIP", "labels.csv")]
    assert places == ["first", "second", tmp_path.name]


def test_every_source_has_its_own_folder_and_a_table_alone_that_of_its_folder(tmp_path):
    run, one, other = tmp_path / "run", tmp_path / "one" / "clinic", tmp_path / "other" / "clinic"
    for folder in (one, other):
        folder.mkdir(parents=True)
        (folder / "labels.csv").write_text("image,label\na.png,1\n")
    names = []
    for source in (one / "labels.csv", one, other, other / "labels.csv", one / "2024.csv", one / "2025.csv"):
        source.suffix and source.write_text("image,label\na.png,1\n")
        folder = folder_of(run, source)
        assert folder_of(run, source) == folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cohort.json").write_text(json.dumps({"set": "", "source": str(source)}))
        names.append(folder.name)
    assert names == ["clinic", "clinic", "clinic-2", "clinic-2", "clinic-2024", "clinic-2025"]
    (run / "cohorts" / "clinic-2024").rename(run / "cohorts" / "older")  # the recorded source decides, not the name
    assert folder_of(run, one / "2024.csv").name == "older"


def test_two_tables_in_one_folder_are_reported_apart_and_what_is_stale_goes(run, clinic, tmp_path):
    shutil.copytree(clinic / "photos", tmp_path / "clinic" / "photos")
    table, figures = pd.read_csv(clinic / "labels.csv", dtype=str), {}
    for name, rows in (("2024", table[:24]), ("2025", table[24:39])):
        rows.to_csv(tmp_path / "clinic" / f"{name}.csv", index=False)
    for name in ("2024", "2025"):
        figures[name] = read_json(foveal.evaluate(run, on=tmp_path / "clinic" / f"{name}.csv"))["about"]["images"]
    assert figures == {"2024": 24, "2025": 15}
    first = foveal.report(run, on=tmp_path / "clinic" / "2024.csv").parent
    assert first.name == "clinic-2024" and read_json(first / "metrics.json")["about"]["images"] == 24
    (first / "documents").mkdir()
    earlier = ("comparison.json", "changes.csv")
    for name in earlier:
        (first / name).write_text("")
    foveal.evaluate(run, on=tmp_path / "clinic" / "2024.csv")  # the predictions are the same
    assert all((first / name).exists() for name in (*earlier, "report.html", "documents"))
    table[:22].to_csv(tmp_path / "clinic" / "2024.csv", index=False)
    assert read_json(foveal.evaluate(run, on=tmp_path / "clinic" / "2024.csv"))["about"]["images"] == 22
    assert not any((first / name).exists() for name in (*earlier, "report.html", "documents"))
    assert (first / "earlier-documents").is_dir()


def test_grades_0_to_3_are_on_the_scale_of_the_run_with_a_warning(run, clinic, capsys):
    table = pd.read_csv(clinic / "labels.csv")
    for highest in (2, 3):
        capsys.readouterr()
        table[table["diagnosis"] <= highest].to_csv(clinic / "without_four.csv", index=False)
        prepared = cohort_set(run, clinic / "without_four.csv")
        (clinic / "without_four.csv").unlink()
        assert ("Messidor" in capsys.readouterr().out) == (highest == 3)
    assert prepared.card["scale"] == "icdr" and len(prepared.classes) == 5


def test_grades_in_words_are_on_one_scale_only(run, clinic, capsys):
    table = pd.read_csv(clinic / "labels.csv")
    for words in (("No DR", "Mild", "Moderate", "Severe"), ("No DR", "Mild")):
        capsys.readouterr()
        named = table[table["diagnosis"] < len(words)]
        named = named.assign(diagnosis=named["diagnosis"].map(dict(enumerate(words))))
        named.to_csv(clinic / "words.csv", index=False)
        cohort_set(run, clinic / "words.csv")
        (clinic / "words.csv").unlink()
        shown = capsys.readouterr().out
        assert "scale of Messidor" not in shown and "referable" not in shown


@pytest.mark.slow
def test_photographs_that_the_run_has_learned_from_are_not_judged(run, phantom_set, tmp_path, capsys, refuses):
    found = read_json(foveal.evaluate(run, on=phantom_set))
    prepared = open_prepared(phantom_set)
    test = prepared.part("test")
    table = pd.read_csv(folder_of(run, phantom_set) / "predictions.csv").set_index("id")
    assert (table.loc[prepared.part("train", "val")["id"], "split"] == "train").all()
    assert found["about"]["images"] == len(test) == (table["split"] == "test").sum()
    only = foveal.prepare("phantom:25", out=tmp_path / "only", size=32, val=0, test=0, seed=9)
    late = foveal.train(only, out=tmp_path / "late", encoder="small_conv", epochs=1, batch_size=8)
    with refuses("leak.seen", late, 25):
        foveal.evaluate(late, on=only)


@pytest.mark.slow
def test_a_cohort_without_labels_or_on_another_scale_is_refused(run, clinic, tmp_path, refuses):
    with refuses("label.none", clinic / "photos"):
        foveal.evaluate(run, on=clinic / "photos")
    assert not folder_of(run, clinic / "photos").exists()  # nothing was decoded
    merged = foveal.prepare(clinic, out=tmp_path / "merged", size=32, classes="0,1,2,3+4")
    with refuses("set.scales", merged, "icdr 0,1,2,3+4", run):
        foveal.evaluate(run, on=merged)
    with refuses("option.conflict", run / "predictions.csv"):
        foveal.evaluate(run / "predictions.csv", on=clinic)


@pytest.mark.slow
def test_two_runs_are_compared_on_a_cohort(run, clinic, phantom_set, tmp_path):
    other = foveal.train(phantom_set, out=tmp_path / "other", encoder="small_conv", epochs=1, batch_size=8, seed=3)
    foveal.evaluate(other, on=clinic, versus=[run])
    pairs = json.loads((folder_of(other, clinic) / "comparison.json").read_text())
    assert [(one["run"], one["versus"], one["n"]) for one in pairs] == [(str(other), str(run), 41)]


def test_graders_of_other_classes_are_refused_before_anything_is_prepared(run, clinic, tmp_path, refuses):
    other = shutil.copytree(run, tmp_path / "other")
    about = read_json(other / "model.json")
    (other / "model.json").write_text(json.dumps(about | {"classes": about["classes"][:2]}))
    with refuses("predictions.classes", run, other, 5, 2):
        foveal.evaluate(run, on=clinic, versus=[other])
    assert not (run / "cohorts").exists()


def test_a_healthy_cohort_has_a_specificity_and_a_report(run, clinic, tmp_path):
    table = pd.read_csv(clinic / "labels.csv", dtype=str)
    shutil.copytree(clinic / "photos", tmp_path / "healthy" / "photos")
    table[table["diagnosis"] == "0"].to_csv(tmp_path / "healthy" / "labels.csv", index=False)
    found = read_json(foveal.evaluate(run, on=tmp_path / "healthy"))
    assert found["patients"]["specificity"]["value"] is not None and found["patients"]["sensitivity"]["value"] is None
    html = foveal.report(run, on=tmp_path / "healthy").read_text(encoding="utf-8")
    assert "below that of always" not in html


@pytest.mark.slow
def test_the_report_of_a_cohort_stands_next_to_the_test_part(run, clinic, tmp_path, refuses):
    with refuses("run.not_evaluated", run, clinic):
        foveal.report(run, on=clinic)
    foveal.evaluate(run)
    found = read_json(foveal.evaluate(run, on=clinic))
    page = foveal.report(run, on=clinic)
    assert page == folder_of(run, clinic) / "report.html"
    html = page.read_text(encoding="utf-8")
    assert f"{found['metrics']['accuracy']['value']:.3f}" in html and 'id="cohort"' in html
    with refuses("option.conflict", "--on", 2):
        foveal.report(run, tmp_path / "other", on=clinic)


def test_patients_of_training_in_the_table_of_another_folder_are_not_judged(run, clinic, tmp_path, capsys, refuses):
    seen = pd.read_csv(run / "seen.csv", dtype=str)
    seen["patient"] = [f"table /elsewhere/{n:02d}" for n in range(len(seen))]
    seen[seen["patient"].isin(["table /elsewhere/03", "table /elsewhere/12"])].to_csv(run / "seen.csv", index=False)
    shutil.copytree(clinic, tmp_path / "visit")
    table = pd.read_csv(clinic / "labels.csv", dtype=str)
    table.assign(patient=table["patient"].str.zfill(2)).to_csv(tmp_path / "visit" / "labels.csv", index=False)
    foveal.evaluate(run, on=tmp_path / "visit")
    said = [line for line in capsys.readouterr().out.splitlines() if "/elsewhere" not in line and "warning" in line]
    assert [sum(f" {number} (" in line for line in said) for number in ("03", "12", "04")] == [1, 1, 0]
    rows = pd.read_csv(folder_of(run, tmp_path / "visit") / "predictions.csv", dtype=str)
    assert set(rows.loc[rows["split"] == "train", "group"]) == {"03"}
    table.assign(patient="03").to_csv(tmp_path / "visit" / "labels.csv", index=False)
    with refuses("leak.seen", "41", tmp_path / "visit"):
        foveal.evaluate(run, on=tmp_path / "visit")


def test_advice_for_labels_names_a_command_that_has_the_option(run, clinic, tmp_path):
    shutil.copytree(clinic, tmp_path / "odd")
    table = pd.read_csv(clinic / "labels.csv", dtype=str).assign(diagnosis=lambda rows: rows["diagnosis"].fillna("odd"))
    table["diagnosis"] = table["diagnosis"].replace("1", "99")
    table.to_csv(tmp_path / "odd" / "labels.csv", index=False)
    with pytest.raises(foveal.FovealError) as caught:
        foveal.evaluate(run, on=tmp_path / "odd" / "labels.csv")
    assert "--" not in caught.value.fix or "foveal prepare" in caught.value.fix
    assert caught.value.code.startswith("label.")


@pytest.mark.parametrize("version", ["0.1", "0.2"])
def test_what_chose_the_epoch_is_not_judged_either(grader_run, phantom_set, tmp_path, version):
    run = shutil.copytree(grader_run, tmp_path / "run")
    if version == "0.1":
        (run / "validation.csv").unlink()
    foveal.evaluate(run, on=phantom_set)
    table = pd.read_csv(run / "cohorts" / "phantom" / "predictions.csv")
    split = open_prepared(phantom_set).records.set_index("id")["split"]
    assert set(table.loc[table["split"] == "test", "id"]) == set(split.index[split == "test"])


def test_photographs_that_readers_called_ungradable_count_as_judged_without_a_grade(run, clinic, tmp_path):
    table = pd.read_csv(clinic / "labels.csv", dtype=str)
    table.loc[table["patient"] == "19", "diagnosis"] = "ungradable"
    shutil.copytree(clinic / "photos", tmp_path / "readers" / "photos")
    table.to_csv(tmp_path / "readers" / "labels.csv", index=False)
    found = read_json(foveal.evaluate(run, on=tmp_path / "readers"))
    rows = pd.read_csv(folder_of(run, tmp_path / "readers") / "predictions.csv", dtype=str).set_index("id")
    without = rows[rows["group"] == "19"]
    assert set(without["split"]) == {"test"} and set(without["answer"]) == {"ungradable"}
    assert (found["patients"]["patients"], found["patients"]["insufficient"]) == (20, 1)
    assert found["about"]["groups"] == 19
    own = read_evidence(run)
    cohort = read_cohort(own, tmp_path / "readers")
    assert cohort.ungraded == len(without) == 2
    assert [row[1] for row in beside(cohort, own)["rows"]][:2] == [len(rows) - 2, 2]


def test_an_eye_whose_photograph_is_missing_is_not_healthy(run, clinic, tmp_path):
    shutil.copytree(clinic / "photos", tmp_path / "few" / "photos")
    table = pd.read_csv(clinic / "labels.csv", dtype=str)[:40].assign(diagnosis="0")
    table.loc[1, "diagnosis"] = "4"
    table.to_csv(tmp_path / "few" / "labels.csv", index=False)
    for name in ("00_0", "00_1"):  # of a patient without photographs, nothing is said
        (tmp_path / "few" / "photos" / f"{name}.png").unlink()
    whole = read_json(foveal.evaluate(run, on=tmp_path / "few"))["patients"]
    assert (whole["patients"], whole["insufficient"]) == (19, 0)
    shutil.copy(clinic / "photos" / "00_0.png", tmp_path / "few" / "photos")
    found = read_json(foveal.evaluate(run, on=tmp_path / "few"))["patients"]
    rows = pd.read_csv(folder_of(run, tmp_path / "few") / "predictions.csv", dtype={"group": str}).set_index("group")
    referred = int(rows.loc["0", "referable"] == 1)
    assert (found["patients"], found["photographs"], found["ungradable"]) == (20, 40, 1)
    assert (found["sensitivity"]["n"], found["insufficient_positive"]) == (referred, 1 - referred)
