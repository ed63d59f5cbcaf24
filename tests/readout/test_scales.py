import pytest

from foveal.readout.scales import Scale, class_that_starts_at, referable_from


@pytest.mark.parametrize(
    ("scale", "sight_threatening"),
    [
        ("icdr", 3), ("icdr 0,1,2,3+4", 3), ("icdr 0+1,2,3+4", 2), ("icdr 0+1,2+3+4", None), ("icdr 0+1+2,3+4", 1),
        ("icdr 0,1,2,3,4", 3), ("icdr 4,3,2,1,0", None), ("icdr 0,1,2", None), ("messidor", None), ("none", None),
    ],
)  # fmt: skip
def test_the_class_that_starts_at_a_grade(scale, sight_threatening):
    assert class_that_starts_at(scale, {"icdr": 3}) == sight_threatening
    assert class_that_starts_at(scale, {"icdr": 2}) == referable_from(scale)


def test_cut_offs_part_ordered_classes_or_are_none():
    cuts = {"referable_from": 1, "sight_threatening_from": 2}
    assert Scale(names=["a", "b", "c"], ordered=True, **cuts).cuts == {"referable": 1, "sight_threatening": 2}
    assert Scale(names=["a", "b"], ordered=True, **cuts).cuts == {"referable": 1}
    assert Scale(names=["a", "b", "c"], ordered=False, **cuts).cuts == {}
