from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from foveal.sets.options import PrepareConfig
from foveal.sets.splits import assign_parts, decide_splits, group_codes, join_copies, keep_labels


def generator(seed=0):
    return np.random.default_rng(seed)


def test_groups_never_stand_on_two_sides():
    groups = np.array([f"patient{n // 3}" for n in range(300)], dtype=object)
    parts = assign_parts(np.arange(300) % 5, groups, {"train": 0.6, "val": 0.2, "test": 0.2}, generator())
    assert all(len(set(parts[groups == group])) == 1 for group in set(groups))
    assert set(parts) == {"train", "val", "test"}


def test_every_class_is_shared_out_as_asked():
    labels = np.repeat([0, 1, 2, 3], [500, 100, 40, 10])
    parts = assign_parts(labels, np.array([""] * 650, dtype=object), {"train": 0.7, "test": 0.3}, generator())
    for label, count in enumerate((500, 100, 40, 10)):
        assert (parts[labels == label] == "test").sum() == pytest.approx(0.3 * count, abs=1)


def test_large_groups_are_dealt_out_well():
    random = generator(1)
    groups = np.array([f"day{n}" for n in random.integers(40, size=1000)], dtype=object)
    labels = random.choice(5, size=1000, p=[0.6, 0.15, 0.19, 0.04, 0.02])
    parts = assign_parts(labels, groups, {"train": 0.65, "val": 0.15, "test": 0.2}, generator())
    for label in range(5):
        share = (parts[labels == label] == "test").mean()
        assert share == pytest.approx(0.2, abs=0.08)


def test_the_seed_decides():
    labels, groups = np.zeros(100, int), np.array([""] * 100, dtype=object)
    split = [assign_parts(labels, groups, {"a": 0.5, "b": 0.5}, generator(seed)).tolist() for seed in (1, 1, 2)]
    assert split[0] == split[1] != split[2]


def test_a_part_of_no_size_gets_nothing():
    parts = assign_parts(np.zeros(20, int), np.array([""] * 20, dtype=object), {"a": 1.0, "b": 0.0}, generator())
    assert set(parts) == {"a"}


def test_kept_labels_are_stratified():
    labels = np.repeat([0, 1], [900, 100])
    keep = keep_labels(labels, np.array([""] * 1000, dtype=object), 100, generator())
    assert keep.sum() == 100 and labels[keep].sum() == 10
    assert keep_labels(labels, np.array([""] * 1000, dtype=object), 5000, generator()).all()


def test_images_without_a_group_are_groups_of_their_own():
    assert len(set(group_codes(np.array(["", "", "a", "a"], dtype=object)))) == 3


def pairs(*rows):
    return pd.DataFrame(list(rows), columns=["first", "second"], dtype="int64")


def test_copies_tie_groups_together():
    groups = np.array(["a", "b", "b", "c", "", ""], dtype=object)
    hashes = np.array(["1", "1", "2", "3", "4", "4"], dtype=object)
    joined = join_copies(groups, pairs((0, 1), (4, 5)), hashes)
    assert joined.tolist() == ["a+b", "a+b", "a+b", "c", "copies-4", "copies-4"]


def test_chains_of_copies_make_one_group():
    groups = np.array(["a", "b", "b", "c", "d"], dtype=object)
    hashes = np.array(["1", "2", "3", "4", "9"], dtype=object)
    assert join_copies(groups, pairs((0, 1), (2, 3)), hashes).tolist() == ["a+b+c"] * 4 + ["d"]
    assert join_copies(groups, pairs(), hashes).tolist() == groups.tolist()


def records_of(splits, groups=None, earlier=None):
    """Records with labels 0, 1, 0, …; earlier: id -> split that was decided before."""
    names = [f"i{n}" for n in range(len(splits))]
    return pd.DataFrame(
        {
            "id": names,
            "label": pd.array([n % 2 for n in range(len(splits))], dtype="Int64"),
            "split": splits,
            "group": groups or [""] * len(splits),
            "sha256": [str(n) for n in range(len(splits))],
            "before": [(earlier or {}).get(name, "") for name in names],
        }
    )


OPTIONS = PrepareConfig(source=(Path("photos"),), out=Path("set"), val=0.2, test=0.2)


def test_a_copy_of_a_judged_image_leaves_the_training_part_of_the_source():
    records = records_of(["train"] * 6 + ["val"] * 2 + ["test"] * 2)
    kept, left_out = decide_splits(records, pairs((0, 8), (1, 6), (7, 9)), OPTIONS)
    assert left_out["id"].tolist() == ["i0", "i1", "i7"]
    assert left_out["reason"].tolist() == [
        "left out of train: the same patient or picture as i8 (test)",
        "left out of train: the same patient or picture as i6 (val)",
        "left out of val: the same patient or picture as i9 (test)",
    ]
    assert kept["split"].value_counts().to_dict() == {"train": 4, "test": 2, "val": 1}


def test_a_patient_of_the_source_on_two_sides_stays_where_it_is_judged():
    kept, left_out = decide_splits(records_of(["train", "train", "test"], ["p", "q", "p"]), pairs(), OPTIONS)
    assert left_out["id"].tolist() == ["i0"] and "i2 (test)" in left_out["reason"].iloc[0]
    assert kept["id"].tolist() == ["i1", "i2"]


def test_what_was_decided_stays_when_images_are_added():
    groups = [f"g{n // 2}" for n in range(100)]
    first, _ = decide_splits(records_of([""] * 100, groups), pairs(), OPTIONS)
    earlier = dict(zip(first["id"], first["split"], strict=True))
    groups += [f"g{n // 2 + 40}" for n in range(40)]  # 20 of old patients, 20 of new
    second, _ = decide_splits(records_of([""] * 140, groups, earlier), pairs(), OPTIONS)
    assert second["split"].tolist()[:100] == first["split"].tolist()
    assert (second.groupby("group")["split"].nunique() == 1).all()
    assert (second["split"] == "test").sum() == pytest.approx(28, abs=3)


def test_two_decided_patients_tied_by_a_late_copy_go_to_training():
    earlier = {"i0": "test", "i1": "train", "i2": "val", "i3": "train"}
    records, _ = decide_splits(records_of([""] * 5, earlier=earlier), pairs((0, 4), (1, 4)), OPTIONS)
    assert records.set_index("id").loc[["i0", "i1", "i4"], "split"].tolist() == ["train"] * 3
    assert records.set_index("id").loc["i2", "split"] == "val"


def test_an_image_that_got_its_label_later_is_dealt_out():
    earlier = {f"i{n}": ("unlabelled" if n < 5 else "train") for n in range(10)}
    records, _ = decide_splits(records_of([""] * 10, earlier=earlier), pairs(), OPTIONS)
    assert "unlabelled" not in set(records["split"]) and (records["split"][5:] == "train").all()
    assert {"val", "test"} <= set(records["split"][:5])


@pytest.mark.parametrize("count", [3, 40, 133, 400])
def test_as_many_labels_stay_as_whole_groups_allow(count):
    random = np.random.default_rng(count)
    groups = np.repeat([f"g{number}" for number in range(60)], random.integers(1, 25, 60)).astype(object)
    keep = keep_labels(random.integers(0, 5, len(groups)), groups, count, random)
    assert abs(int(keep.sum()) - count) <= 2
    assert all(len(set(keep[groups == group])) == 1 for group in set(groups))
