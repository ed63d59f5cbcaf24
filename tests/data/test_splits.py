import numpy as np
import pytest

from foveal.data.splits import assign_parts, group_codes, join_duplicates, keep_labels


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


def test_fractions_must_sum_to_one():
    with pytest.raises(ValueError, match="sum to 1"):
        assign_parts(np.zeros(2, int), np.array(["", ""], dtype=object), {"a": 0.5, "b": 0.6}, generator())


def test_kept_labels_are_stratified():
    labels = np.repeat([0, 1], [900, 100])
    keep = keep_labels(labels, np.array([""] * 1000, dtype=object), 100, generator())
    assert keep.sum() == 100 and labels[keep].sum() == 10
    assert keep_labels(labels, np.array([""] * 1000, dtype=object), 5000, generator()).all()


def test_images_without_a_group_are_groups_of_their_own():
    assert len(set(group_codes(np.array(["", "", "a", "a"], dtype=object)))) == 3


def test_copies_tie_groups_together():
    groups = np.array(["a", "b", "b", "c", "", ""], dtype=object)
    hashes = np.array(["1", "1", "2", "3", "4", "4"], dtype=object)
    assert join_duplicates(groups, hashes).tolist() == ["a+b", "a+b", "a+b", "c", "copies-4", "copies-4"]


def test_chains_of_copies_make_one_group():
    groups = np.array(["a", "b", "b", "c", "d"], dtype=object)
    hashes = np.array(["1", "1", "2", "2", "9"], dtype=object)
    assert join_duplicates(groups, hashes).tolist() == ["a+b+c"] * 4 + ["d"]
