import numpy as np
import pandas as pd
import pytest

from foveal.evaluate.coverage import measure_sets
from foveal.evaluate.intervals import Resampling


def test_measured_coverage_counts_by_hand():
    table = pd.DataFrame({"label": [0, 0, 1, 1, 4], "set": ["0", "1 2", "1", "0 1 2", ""], "group": list("abcde")})
    resampling = Resampling(np.arange(5), 200)
    found = measure_sets(table, list("abcde"), resampling)
    assert found["coverage"]["value"] == 0.75 and found["coverage"]["n"] == 4
    assert found["size"]["value"] == pytest.approx(7 / 4) and found["single"]["value"] == 0.5
    assert found["coverage of a"]["value"] == 0.5 and "coverage of e" not in found
    assert measure_sets(table.drop(columns="set"), list("abcde"), resampling) == {}
