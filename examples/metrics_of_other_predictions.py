"""Evaluate the predictions of any other program with Foveal's metrics and intervals.

The table has a row for each photograph: id, label, p0, p1, … (the probability of each class) and grade (the answer).
`group` names the patient, so that intervals resample patients, not photographs. The columns `referable`, `group` and
`split` may be empty. The predictions here are invented.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

import foveal

generator = np.random.default_rng(0)
labels = generator.integers(0, 5, 300)
logits = generator.normal(size=(300, 5)) + 2 * np.eye(5)[labels]  # a grader that is often right
shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)

names = [f"photograph-{number}" for number in range(300)]
table = pd.DataFrame({"id": names, "label": labels, "grade": shares.argmax(1), "group": np.arange(300) // 2})
table = table.assign(referable="", split="test", **{f"p{k}": shares[:, k] for k in range(5)})
folder = Path("runs/metrics_of_other_predictions")
folder.mkdir(parents=True, exist_ok=True)
table.to_csv(folder / "predictions.csv", index=False)

found = json.loads(foveal.evaluate(folder / "predictions.csv").read_text(encoding="utf-8"))
for name in ("quadratic_kappa", "accuracy"):
    entry = found["metrics"][name]
    print(f"{name}: {entry['value']:.3f} ({entry['low']:.3f} to {entry['high']:.3f}), n = {entry['n']}")
