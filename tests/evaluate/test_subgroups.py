import numpy as np
import pandas as pd
import pytest

from foveal import metrics
from foveal.evaluate.columns import join_records, members, subgroups
from foveal.evaluate.intervals import Resampling
from foveal.readout.scales import Scale
from foveal.sets.splits import group_codes

ICDR = Scale(names=list("01234"), ordered=True, referable_from=2, sight_threatening_from=3)


@pytest.fixture
def data(tmp_path, predictions):
    """A prepared set of 80 images, in another order, with an eye, flags and a measure."""
    ids = predictions(80)["id"]
    records = pd.DataFrame({"id": ids, "eye": ["left", "right"] * 40, "flags": ["", "blurred dark"] * 40, "width": 512})
    records[::-1].to_csv(tmp_path / "records.csv", index=False)
    pd.DataFrame({"id": ids, "sharpness": np.arange(80) / 10}).to_csv(tmp_path / "measures.csv", index=False)
    return tmp_path


def test_columns_are_joined_by_id(data, predictions):
    joined = join_records(predictions(80), data, ["eye", "sharpness"])
    assert joined["eye"].tolist() == ["left", "right"] * 40
    assert joined["sharpness"].tolist() == pytest.approx(list(np.arange(80) / 10))


def test_columns_of_the_predictions_need_no_set(predictions):
    table = predictions(20).assign(camera="one")
    assert join_records(table, None, ["camera"])["camera"].tolist() == ["one"] * 20
    joined = join_records(table.assign(id="first/" + table["id"]), None, ["source"])
    assert set(joined["source"]) == {"first"}


@pytest.mark.parametrize(
    ("column", "give", "values"),
    [("eye", False, ["id, label", "--records"]), ("age", True, ["sharpness"]), ("source", True, [])],
)
def test_a_column_that_does_not_exist_is_named(data, predictions, refuses, column, give, values):
    with refuses("option.value", f"--by {column}", *values):
        join_records(predictions(20), data if give else None, [column])


def test_another_set_is_refused(data, predictions, tmp_path, refuses):
    with refuses("set.other_images", data, 10, "i80"):
        join_records(predictions(90), data, ["eye"])
    with refuses("set.missing", tmp_path / "nowhere"):
        join_records(predictions(90), tmp_path / "nowhere", ["eye"])


def test_every_flag_is_a_subgroup_and_so_is_none():
    found = members(pd.Series(["", "blurred dark", "dark"]), "flags")
    assert {name: chosen.tolist() for name, chosen in found.items()} == {
        "blurred": [False, True, False], "dark": [False, True, True], "none": [True, False, False],
    }  # fmt: skip


def test_numbers_are_cut_at_quartiles_and_rare_words_are_gathered():
    found = members(pd.Series([*np.arange(100.0), np.nan]), "red")
    assert [int(chosen.sum()) for chosen in found.values()] == [25, 25, 25, 25, 1] and "unknown" in found
    assert list(members(pd.Series([512, 1024, 512]), "width")) == ["512", "1024"]
    assert list(members(pd.Series(["left", "", None]), "eye")) == ["left", "unknown"]
    cameras = members(pd.Series([f"i{k}" for k in range(30) for _ in range(k + 1)]), "camera")
    assert [int(chosen.sum()) for chosen in cameras.values()] == [190, *range(20, 31)]


def test_figures_are_those_of_the_part_and_small_ones_are_marked(data, predictions):
    table = join_records(predictions(80), data, ["eye"])
    table.loc[70:, "eye"] = ""
    found = subgroups(table, ["eye"], ICDR, Resampling(group_codes(table["group"]), 200))
    assert [(group["value"], group["n"], group["small"]) for group in found] == [
        ("left", 35, True), ("right", 35, True), ("unknown", 10, True),
    ]  # fmt: skip
    left = table[table["eye"] == "left"]
    counts = metrics.confusion_matrix(left["label"].to_numpy(), left["grade"].to_numpy(), 5)
    kappa = found[0]["metrics"]["quadratic_kappa"]
    assert kappa["value"] == metrics.quadratic_kappa(counts) and kappa["low"] < kappa["value"] < kappa["high"]
    names = {"quadratic_kappa", "accuracy", "referable_auc", "sensitivity", "specificity"}
    assert set(found[0]["metrics"]) == names and found[0]["groups"] == 35
    referred, ill = left["grade"] >= 2, left["label"] >= 2
    assert found[0]["metrics"]["sensitivity"]["value"] == pytest.approx(referred[ill].mean(), abs=1e-12)
    assert found[0]["metrics"]["specificity"]["value"] == pytest.approx((~referred)[~ill].mean(), abs=1e-12)
    assert found[0]["metrics"]["specificity"]["n"] == int((~ill).sum())
    everyone = subgroups(table.assign(eye="one"), ["eye"], ICDR, Resampling(group_codes(table["group"]), 200))
    assert not everyone[0]["small"]
