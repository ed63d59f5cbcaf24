import hashlib
import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

import foveal
from foveal.evaluate.operating import BY_GRADE
from foveal.evaluate.show import warnings

OVERALL = {
    "accuracy", "balanced_accuracy", "quadratic_kappa", "linear_kappa", "unweighted_kappa", "macro_f1", "weighted_f1",
    "mean_absolute_error", "referable_auc", "referable_average_precision", "sight_threatening_auc",
    "sight_threatening_average_precision", "expected_calibration_error", "brier",
}  # fmt: skip
PER_CLASS = ("precision", "recall", "f1", "auc", "average precision")


def evaluated(path, **options):
    return json.loads(foveal.evaluate(path, **options).read_text())


def test_every_metric_has_value_interval_n_noise_and_baseline(tmp_path, predictions, write):
    result = evaluated(write(tmp_path / "p.csv", predictions()))
    assert result["about"]["groups"] == 30
    names = {f"{what} of {k}" for what in PER_CLASS for k in range(5)}
    assert set(result["metrics"]) == OVERALL | names
    for name, entry in result["metrics"].items():
        assert set(entry) == {"value", "low", "high", "n", "constant", "noise"}
        assert entry["low"] is not None and entry["low"] <= entry["value"] <= entry["high"], name
        assert entry["noise"] > 0
    assert result["metrics"]["quadratic_kappa"]["constant"] == 0
    assert np.sum(result["confusion"]) == 60
    assert {*result} == {
        "metrics", "confusion", "constant_answer", "curves", "reliability", "operating_points",
        "operating_points_note", "decisions", "patients", "subgroups", "sets", "second", "about",
    }  # fmt: skip


def test_a_constant_answer_is_the_most_common_class_and_constant_probabilities_are_its_shares(
    tmp_path, predictions, write
):
    table = predictions()
    found = evaluated(write(tmp_path / "p.csv", table))["metrics"]
    shares = table["label"].value_counts(normalize=True)
    assert found["accuracy"]["constant"] == pytest.approx(shares.max())
    assert found["brier"]["constant"] == pytest.approx(1 - (shares**2).sum())
    assert found["referable_average_precision"]["constant"] == pytest.approx((table["label"] >= 2).mean())
    always = table.assign(grade=shares.idxmax(), **{f"p{k}": shares[k] for k in range(5)})
    reached = evaluated(write(tmp_path / "q.csv", always))["metrics"]
    for name in OVERALL - {"mean_absolute_error", "expected_calibration_error"}:
        assert reached[name]["value"] == pytest.approx(found[name]["constant"], abs=1e-9), name


def test_the_test_part_is_taken_where_there_is_one(tmp_path, predictions, write, refuses):
    table = predictions()
    table.loc[:29, "split"] = "val"
    write(tmp_path / "p.csv", table)
    assert evaluated(tmp_path / "p.csv", out=tmp_path / "m.json")["about"]["images"] == 30
    assert evaluated(tmp_path / "p.csv", split="all")["about"]["images"] == 60
    with refuses("predictions.no_labels", "--split train", 0, "30 val", "30 test"):
        foveal.evaluate(tmp_path / "p.csv", split="train")


def test_operating_points_are_chosen_on_the_validation_part_only(tmp_path, predictions, write):
    table = predictions(120)
    table.loc[:59, "split"] = "val"
    write(tmp_path / "p.csv", table)
    result = evaluated(tmp_path / "p.csv", prevalence=0.1)
    assert len(result["operating_points"]) == 8 and "operating_points_note" not in result
    assert {point["chosen_n"] for point in result["operating_points"] if point["name"] != BY_GRADE} == {60}
    assert result["operating_points"][0]["positive_predictive_value"]["prevalence"] == 0.1
    for split in ("val", "all"):
        result = evaluated(tmp_path / "p.csv", split=split)
        assert {point["name"] for point in result["operating_points"]} == {BY_GRADE}
        assert result["operating_points_note"]


def test_what_to_beware_of_stands_last_the_gravest_at_the_end(tmp_path, predictions, write, capsys):
    table = predictions(40).assign(grade=0, referable=0)
    result = evaluated(write(tmp_path / "p.csv", table))
    *_, groups, _ = found = warnings(result)
    assert "20 groups" in groups
    assert capsys.readouterr().out.strip().splitlines()[-len(found) :] == [f"warning: {line}" for line in found]


def test_a_kappa_above_that_of_readers_is_warned_of(tmp_path, predictions, write):
    table = predictions(200, 0.99)
    reader = np.where(np.arange(200) % 4 > 0, table["label"], (table["label"] + 1) % 5)
    file = write(tmp_path / "p.csv", table.assign(reader=reader, same=table["label"]))
    number = [len(warnings(evaluated(file, second_reader=column))) for column in ("reader", "same")]
    assert number[0] == number[1] + 1


def test_unordered_classes_have_no_distances_or_cutoffs(tmp_path, predictions, write, refuses):
    model = {"classes": list("abcde"), "task": "classification", "scale": "none", "referable_from": None}
    (tmp_path / "model.json").write_text(json.dumps(model))
    result = evaluated(write(tmp_path / "predictions.csv", predictions().assign(referable=None)))
    assert not {"quadratic_kappa", "linear_kappa", "mean_absolute_error", "referable_auc"} & set(result["metrics"])
    assert "unweighted_kappa" in result["metrics"] and "f1 of a" in result["metrics"]
    assert result["curves"] == {} and result["operating_points"] == []
    with refuses("option.value", "--referable-from", 2):
        foveal.evaluate(tmp_path, referable_from=2)


def test_the_model_says_where_merged_classes_threaten_sight(tmp_path, predictions, write, refuses):
    model = {"classes": list("abcd"), "task": "grading", "scale": "icdr 0,1,2,3+4", "referable_from": 2}
    (tmp_path / "model.json").write_text(json.dumps(model))
    write(tmp_path / "predictions.csv", predictions(classes=4))
    result = evaluated(tmp_path)
    assert result["about"]["sight_threatening_from"] == 3 and "sight_threatening_auc" in result["metrics"]
    assert evaluated(tmp_path, referable_from=1)["about"]["referable_from"] == 1
    with refuses("option.value", "--referable-from", 4, "1..3"):
        foveal.evaluate(tmp_path, referable_from=4)


def test_without_a_severity_scale_nothing_is_referable(tmp_path, predictions, write):
    result = evaluated(write(tmp_path / "p.csv", predictions().assign(referable=None)))
    assert not {"referable_auc", "sight_threatening_auc"} & set(result["metrics"])


def test_labels_on_one_side_of_a_cut_off_have_no_area_but_an_accuracy(tmp_path, predictions, write):
    result = evaluated(write(tmp_path / "p.csv", predictions().assign(label=lambda table: table["label"] % 2)))
    assert result["metrics"]["referable_auc"]["value"] is None and result["metrics"]["accuracy"]["value"] > 0
    assert result["curves"]["referable"] == {"roc": [], "precision_recall": []}


def test_a_new_grader_is_compared_with_old_ones(tmp_path, predictions, write, capsys):
    skills = {"a": 0.5, "b": 0.9, "c": 0.5}
    files = {name: tmp_path / name / "predictions.csv" for name in skills}
    for seed, (name, skill) in enumerate(skills.items()):
        files[name].parent.mkdir()
        write(files[name], predictions(400, skill, seed))
    foveal.evaluate(files["b"], versus=[files["a"], files["c"]])
    found = json.loads((tmp_path / "b" / "comparison.json").read_text())
    assert [(one["run"], one["versus"], one["n"]) for one in found] == [
        (str(tmp_path / "b"), str(tmp_path / name), 400) for name in "ac"
    ]  # fmt: skip
    better = found[0]["differences"]["quadratic_kappa"]
    assert better["answer"] == found[0]["verdict"] == "better" and 0 < better["low"] < better["value"] < better["high"]
    assert found[0]["mcnemar"]["mid_p"] < 0.001 and found[0]["sentence"] in capsys.readouterr().out
    figures = [found[0]["record"][side]["figures"]["quadratic_kappa"]["value"] for side in ("new", "old")]
    assert figures[0] - figures[1] == pytest.approx(better["value"])
    foveal.evaluate(tmp_path / "a", versus=[tmp_path / "b"])
    back = json.loads((tmp_path / "a" / "comparison.json").read_text())[0]
    assert {one["answer"] for one in back["differences"].values()} == {"worse"} and len(back["differences"]) == 5
    assert back["differences"]["quadratic_kappa"]["value"] == pytest.approx(-better["value"])
    assert not (tmp_path / "c" / "metrics.json").exists(), "old graders are compared, not measured"


def test_what_changed_for_whom(tmp_path, predictions, write):
    new = predictions(40).assign(label=0, grade=0, referable=0, group=[f"p{n // 2}" for n in range(40)])
    new.loc[[0, 1, 2, 8], "label"] = 3
    old = new.copy()
    for table in (new, old):
        table.loc[[6, 10], ["grade", "referable"]] = [2, 1]  # p3 and p5 are referred for this eye, whatever the other
    new.loc[[0, 1, 4, 7], ["grade", "referable"]] = [2, 1]  # p0, with disease, and p2, without
    old.loc[[11], ["grade", "referable"]] = [2, 1]
    old.loc[[8], ["grade", "referable"]] = [3, 1]  # p4, with disease
    new.loc[20, "grade"] = 1  # not referred
    for name, table in (("new", new), ("old", old)):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "predictions.csv", table)
    (tmp_path / "old" / "provenance.json").write_text('{"command": "foveal train x", "data": {"x": "1"}}')
    (tmp_path / "old" / "best.pt").write_bytes(b"weights")
    foveal.evaluate(tmp_path / "new", versus=[tmp_path / "old"])
    one = json.loads((tmp_path / "new" / "comparison.json").read_text())[0]
    assert one["changed"] == {
        "grades": 7, "of": "patient", "newly_referred": {"patients": 2, "with_disease": 1},
        "no_longer_referred": {"patients": 1, "with_disease": 1},
    }  # fmt: skip
    record = one["record"]["old"]
    assert (record["command"], record["data"]) == ("foveal train x", {"x": "1"})
    assert record["sha256"] == {"best.pt": hashlib.sha256(b"weights").hexdigest()}
    changes = pd.read_csv(tmp_path / "new" / "changes.csv")
    assert len(changes) == 7 and set(changes["group"]) == {"p0", "p2", "p3", "p4", "p5", "p10"}


def test_a_single_source_has_no_comparison(tmp_path, predictions, write):
    foveal.evaluate(write(tmp_path / "p.csv", predictions()))
    assert not (tmp_path / "comparison.json").exists()


def test_two_readers_agree_with_an_interval_over_groups(tmp_path, predictions, write, capsys, refuses):
    table = predictions(100)
    table = table.assign(
        reader=np.where(np.arange(100) % 4 > 0, table["label"], (table["label"] + 1) % 5).astype(object)
    )
    table.loc[:19, "reader"] = ""
    found = evaluated(write(tmp_path / "p.csv", table), second_reader="reader")["about"]["inter_rater"]
    kept = table.iloc[20:]
    kappa = cohen_kappa_score(kept["label"], kept["reader"].astype(int), weights="quadratic")
    assert found["value"] == pytest.approx(kappa, abs=1e-12) and found["n"] == 80 and found["column"] == "reader"
    assert found["low"] < kappa < found["high"] and f"{kappa:.3f}" in capsys.readouterr().out
    half = evaluated(write(tmp_path / "p.csv", table.assign(group=[f"g{k // 20}" for k in range(100)])),
                     second_reader="reader")["about"]["inter_rater"]  # fmt: skip
    assert half["value"] == found["value"] and (half["low"], half["high"]) != (found["low"], found["high"])
    for reader, code, value in (("mauve", "label.value", "'mauve'"), ("", "label.none", 0)):
        with refuses(code, "--second-reader reader", value) as caught:
            foveal.evaluate(write(tmp_path / "q.csv", table.assign(reader=reader)), second_reader="reader")
        assert ", ," not in caught.value.expected and "of ," not in caught.value.expected


@pytest.mark.parametrize(
    ("text", "leaks"),
    [
        ('verb = "train"\nallow_leaks = true\n', True), ('verb = "train"\n', False),
        ('verb = "predict"\nallow_leaks = true\n', False), ("[predict]\nsize = 1\n", False), ("= no TOML", False),
    ],
    ids=range(5),
)  # fmt: skip
def test_leaks_are_told_by_the_options_of_a_training_only(tmp_path, predictions, write, capsys, text, leaks):
    (tmp_path / "config.toml").write_text(text)
    assert foveal.evaluate(write(tmp_path / "p.csv", predictions())).is_file()
    assert ("--allow-leaks" in capsys.readouterr().out) == leaks


def test_subgroups_come_from_any_column(tmp_path, predictions, write):
    table = predictions().assign(eye=["left", "right"] * 30, camera="one")
    result = evaluated(write(tmp_path / "p.csv", table), by=("eye", "camera"))
    assert [(group["column"], group["value"], group["n"]) for group in result["subgroups"]] == [
        ("eye", "left", 30), ("eye", "right", 30), ("camera", "one", 60),
    ]  # fmt: skip
    assert result["subgroups"][2]["metrics"]["accuracy"] == {
        key: value for key, value in result["metrics"]["accuracy"].items() if key != "constant"
    }
    assert [group["small"] for group in result["subgroups"]] == [True, True, False]
    assert len([line for line in warnings(result) if line.startswith(("2 subgroups", "--by camera"))]) == 2


def test_doubted_labels_are_listed_without_those_that_were_learned_from(tmp_path, predictions, write):
    table = predictions(200, 0.9)
    table.loc[:99, "split"] = "train"
    foveal.evaluate(write(tmp_path / "p.csv", table))
    found = pd.read_csv(tmp_path / "label_noise.csv")
    wrong = table[(table["grade"] != table["label"]) & (table["split"] == "test")]
    assert 0 < len(found) <= len(wrong) and set(found["id"]) <= set(wrong["id"])


def corrections(**changes):
    row = {"id": "i0", "old": "5", "new": "0", "who": "me", "when": "2026-01-01", "why": "seen again"}
    return pd.DataFrame([row | changes])


def test_corrections_change_labels_before_measuring(tmp_path, predictions, write):
    table = predictions()
    old = table["label"][0]
    new = (old + 1) % 5
    file = write(tmp_path / "c.csv", corrections(old=str(old), new=str(new)))
    before, after = (evaluated(write(tmp_path / "p.csv", table), corrections=one) for one in (None, file))
    assert np.sum(after["confusion"], 1)[new] == np.sum(before["confusion"], 1)[new] + 1
    corrected = {"file": "c.csv", "all": 1, "rows": 1, "changed": 1}
    assert after["about"]["corrections"] == corrected and "corrections" not in before["about"]


def test_corrections_that_the_run_knew_already_change_nothing(tmp_path, predictions, write):
    table = predictions()
    first, second, third = ((table["label"][0] + k) % 5 for k in range(3))
    changes = [(first, second), (second, third), (third, first), (first, third)]
    file = write(tmp_path / "c.csv", pd.concat([corrections(old=str(old), new=str(new)) for old, new in changes]))
    figures = []
    for label, changed in ((first, 1), (second, 1), (third, 0)):
        table.loc[0, "label"] = label
        result = evaluated(write(tmp_path / "p.csv", table), corrections=file)
        assert result["about"]["corrections"] == {"file": "c.csv", "all": 4, "rows": 4, "changed": changed}
        figures.append(result["metrics"])
    assert figures[0] == figures[1] == figures[2]
    taken = write(tmp_path / "c.csv", corrections(old=str(first), new=""))
    table.loc[0, "label"] = pd.NA
    again = evaluated(write(tmp_path / "p.csv", table), corrections=taken)
    assert again["about"]["corrections"]["changed"] == 0 and again["about"]["images"] == 59


@pytest.mark.parametrize(
    ("code", "change", "values"),
    [
        ("corrections.no_match", {"id": "nobody"}, ["c.csv"]),
        ("label.value", {"old": "right", "new": "7"}, [7]),
        ("corrections.label", {"old": "wrong"}, ["c.csv", 2, "i0"]),
    ],
)
def test_wrong_corrections_are_refused(tmp_path, predictions, write, refuses, code, change, values):
    table = predictions()
    labels = {"right": str(table["label"][0]), "wrong": str((table["label"][0] + 1) % 5)}
    change = {key: labels.get(value, value) for key, value in change.items()}
    file = write(tmp_path / "c.csv", corrections(**change))
    with refuses(code, *values):
        foveal.evaluate(write(tmp_path / "p.csv", table), corrections=file)
    with refuses("corrections.missing", "nothing.csv"):
        foveal.evaluate(tmp_path / "p.csv", corrections=tmp_path / "nothing.csv")
    (tmp_path / "records.csv").touch()
    with refuses("output.in_set", tmp_path / "metrics.json"):
        foveal.evaluate(tmp_path / "p.csv", corrections=file)


def test_a_run_is_not_compared_with_itself(tmp_path, predictions, write, refuses):
    with refuses("option.repeated", "elsewhere"):
        foveal.evaluate(write(tmp_path / "p.csv", predictions()), versus=["elsewhere", "elsewhere"])


@pytest.mark.parametrize(
    ("options", "values"),
    [
        ({"prevalence": 10}, ["--prevalence", 10]),
        ({"referable_from": 5}, ["--referable-from", 5, "1..4"]),
        ({"second_reader": "anna"}, ["--second-reader anna", "id, label"]),
    ],
)
def test_wrong_options_are_refused(tmp_path, predictions, write, refuses, options, values):
    with refuses("option.value", *values):
        foveal.evaluate(write(tmp_path / "p.csv", predictions()), **options)
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


@pytest.mark.parametrize(
    ("code", "change", "values"),
    [
        ("predictions.no_labels", lambda t: t.assign(label=None), ["--split all", "0 labelled rows"]),
        ("predictions.no_labels", lambda t: t.head(1), ["--split test", "1 labelled row"]),
        ("predictions.duplicate_id", lambda t: t.assign(id="same"), ["same"]),
    ],
)
def test_tables_without_figures_are_refused(tmp_path, predictions, write, refuses, code, change, values):
    with refuses(code, *values):
        foveal.evaluate(write(tmp_path / "p.csv", change(predictions())))
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


@pytest.mark.parametrize(("label", "measured", "missing"), [(0, "specificity", "sensitivity"),
                                                            (2, "sensitivity", "specificity")])  # fmt: skip
def test_of_one_class_its_own_rate_is_measured(tmp_path, predictions, write, capsys, label, measured, missing):
    table = predictions().assign(label=label)
    found = json.loads(foveal.evaluate(write(tmp_path / "p.csv", table)).read_text())
    point = next(point for point in found["operating_points"] if point["target"] == "referable")
    called = table["grade"][table["split"] == "test"] >= 2
    assert point[measured]["value"] == pytest.approx((called == (label >= 2)).mean())
    assert point[missing]["value"] is None and found["metrics"]["referable_auc"]["value"] is None
    kappas = [entry["value"] for name, entry in found["metrics"].items() if name.endswith("kappa")]
    assert kappas == [None] * 3 and found["decisions"]["given"]["quadratic_kappa"]["value"] is None
    assert any(line.startswith("warning: all") and f"'{label}'" in line for line in capsys.readouterr().out.split("\n"))


def test_a_model_of_other_classes_is_refused(tmp_path, predictions, write, refuses):
    (tmp_path / "model.json").write_text(json.dumps({"classes": ["a", "b"]}))
    with refuses("predictions.classes", "p.csv", 5, 2):
        foveal.evaluate(write(tmp_path / "p.csv", predictions()))


def test_a_broken_promise_of_sets_is_warned_of():
    entry = {"value": 0.7, "low": 0.6, "high": 0.8, "n": 90}
    kept = {"value": 0.88, "low": 0.8, "high": 0.93, "n": 90}
    result = {
        "about": {"classes": ["a"], "coverage": 0.9, "groups": 99}, "confusion": [[90]], "subgroups": [],
        "operating_points": [], "decisions": {}, "metrics": {}, "sets": {"coverage": kept, "coverage of a": entry},
    }  # fmt: skip
    broken = [line for line in warnings(result) if "90" in line]
    assert len(broken) == 1 and all(value in broken[0] for value in (" a ", "70", "60–80"))
