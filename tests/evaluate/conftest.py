"""Graders of a given skill, as tables of predictions."""

import numpy as np
import pandas as pd
import pytest


@pytest.fixture
def predictions():
    def make(n=60, skill=0.7, seed=0, classes=5):
        random = np.random.default_rng(seed)
        labels = np.random.default_rng(9).integers(0, classes, n)
        grades = np.where(random.random(n) < skill, labels, random.integers(0, classes, n))
        table = pd.DataFrame({"id": [f"i{number}" for number in range(n)], "label": labels})
        for number in range(classes):
            table[f"p{number}"] = np.where(grades == number, 0.6, 0.4 / (classes - 1))
        return table.assign(
            grade=grades, referable=(grades >= 2).astype(int), group=[f"g{k // 2}" for k in range(n)], split="test"
        )

    return make


@pytest.fixture
def write():
    def to_csv(path, table):
        table.to_csv(path, index=False)
        return path

    return to_csv
