"""Joined sets and merged classes."""

import numpy as np
import pandas as pd
import pytest

import foveal
from foveal.sets.numbers import link_numbers
from foveal.sets.records import open_prepared


def test_a_map_of_classes_keeps_the_scale_and_what_is_referred():
    from foveal.readout.scales import referable_from

    assert [referable_from(scale) for scale in ("icdr", "icdr 0,1,2,3+4", "icdr 0+1,2+3+4")] == [2, 2, 1]
    assert [referable_from(scale) for scale in ("icdr 0,1+2,3+4", "icdr 2+3+4,0+1", "none", "mine")] == [None] * 4


@pytest.mark.slow
def test_joined_sets_keep_what_was_decided_and_share_no_copy_across_sides(write_phantoms, tmp_path):
    write_phantoms(tmp_path / "one", 20, size=128)
    write_phantoms(tmp_path / "two", 25, size=128)  # the first twenty are the same pictures
    sets = [foveal.prepare(tmp_path / name, out=tmp_path / f"set-{name}", size=64) for name in ("one", "two")]
    both = open_prepared(foveal.prepare(*sets, out=tmp_path / "both"))
    first = open_prepared(sets[0]).records.set_index("id")
    ours = both.records[both.records["id"].str.startswith("set-one/")].set_index("id")
    assert (ours["split"] == first["split"].add_prefix("set-one/")[ours.index]).all()
    assert (both.records.groupby("sha256")["split"].nunique() == 1).all()
    reasons = pd.read_csv(both.path / "rejected.csv")["reason"]
    assert len(both.records) + len(reasons) == 45 and reasons.str.startswith("left out of").all()
    row = both.records.index.get_loc(both.records.index[both.records["id"] == ours.index[3]][0])
    same = open_prepared(sets[0]).pixels(first.loc[[ours.index[3].removeprefix("set-one/")]])
    assert np.array_equal(both.pixels(both.records.iloc[[row]]), same)


def test_sets_without_a_test_part_get_none_when_they_are_joined(tmp_path):
    sets = [
        foveal.prepare(f"phantom:{count}", out=tmp_path / f"set{count}", size=16, seed=count, test=0, val=val)
        for count, val in ((8, 0), (10, 0), (16, 0.2))
    ]
    first = open_prepared(foveal.prepare(*sets[:2], out=tmp_path / "two"))
    assert set(first.records["split"]) == {"train"} and len(first.records) == 18
    again = open_prepared(foveal.prepare(*sets[:2], out=tmp_path / "two"))
    assert set(again.records["split"]) == {"train"}
    three = open_prepared(foveal.prepare(*sets, out=tmp_path / "three"))
    assert set(three.records.loc[three.records["split"] == "val", "source"]) == {"set16"}


@pytest.mark.slow
def test_sets_on_different_scales_do_not_mix_without_a_map(refuses, write_phantoms, tmp_path):
    write_phantoms(tmp_path / "photos", 25)
    whole = foveal.prepare(tmp_path / "photos", out=tmp_path / "whole", size=16)
    merged = foveal.prepare(tmp_path / "photos", out=tmp_path / "merged", size=16, classes="0,1,2,3+4")
    with refuses("set.scales", whole, "'icdr' with 5 classes", merged, "'icdr 0,1,2,3+4' with 4 classes"):
        foveal.prepare(whole, merged, out=tmp_path / "both")
    small = foveal.prepare(tmp_path / "photos", out=tmp_path / "small", size=24)
    with refuses("set.not_alike", whole, small, "size 16 and 24"):
        foveal.prepare(whole, small, out=tmp_path / "both")
    with refuses("set.single", whole):
        foveal.prepare(whole, out=tmp_path / "both")
    with refuses("set.repeated", whole):
        foveal.prepare(whole, whole, out=tmp_path / "both")


@pytest.mark.slow
def test_maps_of_maps_are_composed(write_phantoms, tmp_path):
    from foveal.readout.scales import referable_from

    write_phantoms(tmp_path / "photos", 25)
    merged = [
        foveal.prepare(tmp_path / "photos", out=tmp_path / name, size=16, classes="0,1,2,3+4") for name in ("a", "b")
    ]
    card = open_prepared(foveal.prepare(*merged, out=tmp_path / "both", classes="0+1,2+3")).card
    assert card["scale"] == "icdr 0+1,2+3+4" and referable_from(card["scale"]) == 1


def test_numbers_of_a_hospital_are_one_patient_in_several_tables(capsys):
    groups = pd.Series(["table /a/P004", "table /b/p004", "table /a/12", "table /b/12", "eyepacs/P004", ""])
    assert link_numbers(groups).tolist() == ["table /a/P004"] * 2 + groups[2:].tolist()
    assert capsys.readouterr().out.count("warning") == 2
