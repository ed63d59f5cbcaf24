from functools import partial

import numpy as np
import pytest

from foveal.evaluate.intervals import Resampling
from foveal.evaluate.measure import harm, weights, worst
from foveal.readout.scales import Scale

exactly = partial(pytest.approx, rel=1e-12, abs=1e-12)

ICDR = Scale(names=list("abcde"), ordered=True, referable_from=2, sight_threatening_from=3)


def test_a_missed_sight_threatening_eye_weighs_twice_its_squared_distance():
    assert weights(ICDR).tolist() == [
        [0, 1, 4, 9, 16],
        [1, 0, 1, 4, 9],
        [4, 1, 0, 1, 4],
        [18, 8, 1, 0, 1],
        [32, 18, 4, 1, 0],
    ]
    assert weights(Scale(names=list("abc"), ordered=True)).tolist() == [[0, 1, 4], [1, 0, 1], [4, 1, 0]]


def test_errors_index_and_words_by_hand():
    confusion = np.diag([50.0, 10, 20, 5, 2])
    confusion[0, 1], confusion[4, 0], confusion[3, 1] = 20, 1, 3
    constant = np.zeros((5, 5))
    constant[:, 0] = confusion.sum(1)
    found = harm((confusion, np.stack([confusion] * 100), constant), ICDR, Resampling(np.arange(111), 100))
    assert [(error["true"], error["given"], error["n"], error["weight"]) for error in found["errors"]] == [
        ("e", "a", 1, 32), ("d", "b", 3, 8), ("a", "b", 20, 1),
    ]  # fmt: skip
    assert found["errors"][0]["share"] == exactly(1 / 3)
    assert found["index"]["value"] == exactly((32 + 24 + 20) / 111) and found["index"]["n"] == 111
    assert found["index"]["constant"] == exactly((10 + 20 * 4 + 8 * 18 + 3 * 32) / 111)
    assert found["worst"] == "'e' graded as 'a' or 'b': 1 of 3 images"


def test_without_a_cut_off_the_worst_is_the_highest_class_called_the_lowest():
    assert worst(np.array([[1, 0], [2, 3]]), Scale(names=["no", "yes"], ordered=True)) == (
        "'yes' graded as 'no': 2 of 5 images"
    )
