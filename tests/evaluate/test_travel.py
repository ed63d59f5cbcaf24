"""Each source by itself: those of the judged part, and those held out, which are in no other figure."""

import json

import numpy as np
import pytest

import foveal
from foveal.evaluate.judged import choose_rows
from foveal.metrics import confusion_matrix, quadratic_kappa
from foveal.readout.predictions import read_predictions
from foveal.sets.splits import HELD_OUT

NAMES = np.array(["north", "east", "south"])


@pytest.fixture
def table(predictions):
    """Two sources in the test part, and a third that was held out and is graded worse."""
    table = predictions(180).assign(source=NAMES[np.arange(180) // 2 % 3])
    south = table["source"] == "south"
    table.loc[south, "grade"] = (table.loc[south, "grade"] + 1) % 5
    return table.assign(split=np.where(south, HELD_OUT, "test"))


def measured(table, tmp_path, write, **options):
    file = write(tmp_path / "predictions.csv", table)
    return json.loads(foveal.evaluate(file, out=tmp_path / "metrics.json", **options).read_text())


def test_every_source_has_its_own_figures_and_the_held_out_one_is_in_no_other(table, tmp_path, write):
    found = measured(table, tmp_path, write)
    assert found["about"]["images"] == 120 and found["about"]["split"] == "test"
    assert [(one["source"], one["held_out"], one["n"]) for one in found["sources"]] == [
        ("north", False, 60), ("east", False, 60), ("south", True, 60),
    ]  # fmt: skip
    for one in found["sources"]:
        own = table[table["source"] == one["source"]]
        kappa = quadratic_kappa(confusion_matrix(own["label"].to_numpy(), own["grade"].to_numpy(), 5))
        entry = one["metrics"]["quadratic_kappa"]
        assert entry["value"] == pytest.approx(float(kappa)) and entry["low"] < entry["value"] < entry["high"]
        assert one["metrics"]["accuracy"]["value"] == pytest.approx((own["label"] == own["grade"]).mean())
        assert one["groups"] == 30 and {"referable_auc", "sensitivity"} <= one["metrics"].keys()


def test_the_parts_of_a_table_with_sources_held_out(table, tmp_path, write):
    rows = read_predictions(write(tmp_path / "predictions.csv", table.assign(split=table["split"].replace("test", ""))))
    home, split = choose_rows(rows, "auto")
    assert split == "all" and set(home["source"]) == {"north", "east"}
    assert set(choose_rows(rows, HELD_OUT)[0]["source"]) == {"south"}
    abroad = choose_rows(rows[rows["source"] == "south"], "all")[0]
    assert len(abroad) == 60, "where nothing else is there, all means those"
    found = measured(table, tmp_path, write, split=HELD_OUT)
    assert found["about"]["images"] == 60 and "sources" not in found


def test_a_source_is_held_out_on_request_as_by_training(table, tmp_path, write):
    asked = measured(table.assign(split="test"), tmp_path, write, hold_out=("south",))
    known = measured(table, tmp_path, write)
    assert asked["sources"] == known["sources"] and asked["metrics"] == known["metrics"]
    assert asked["about"]["held_out"] == ["south"]


def test_sources_may_come_from_the_prepared_set(table, tmp_path, write):
    data = tmp_path / "data"
    data.mkdir()
    write(data / "records.csv", table[["id", "source"]])
    plain = table.drop(columns="source").assign(split="test")
    found = measured(plain, tmp_path, write, records=data, hold_out=("south",))
    assert [one["source"] for one in found["sources"]] == ["north", "east", "south"]
    assert "sources" not in measured(plain, tmp_path, write)


def test_one_source_is_not_shown_and_wrong_names_are_refused(table, tmp_path, write, refuses):
    north = table[table["source"] == "north"]
    assert "sources" not in measured(north, tmp_path, write)
    with refuses("source.single", "north"):
        measured(north, tmp_path, write, hold_out=("north",))
    with refuses("source.unknown", "nowhere", "east, north, south"):
        measured(table, tmp_path, write, hold_out=("nowhere",))
    with refuses("source.unnamed", "north"):
        measured(table.drop(columns="source"), tmp_path, write, hold_out=("north",))


def test_a_source_with_one_class_has_what_can_be_measured(table, tmp_path, write):
    table.loc[table["source"] == "east", "label"] = 0
    one = measured(table, tmp_path, write)["sources"][1]
    assert one["metrics"]["referable_auc"]["value"] is None and one["metrics"]["accuracy"]["value"] is not None
