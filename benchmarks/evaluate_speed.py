"""Time an evaluation with all metrics: 100,000 predictions of 50,000 patients, with 1,000 bootstrap draws.

    python benchmarks/evaluate_speed.py

For comparison, times a plain loop: scikit-learn's quadratic kappa and AUC, resampled by image. The loop makes only a
few draws, and its time is scaled up.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd
from sklearn.metrics import cohen_kappa_score, roc_auc_score

from foveal.evaluate.intervals import Resampling
from foveal.evaluate.measure import measure
from foveal.readout.scales import Scale
from foveal.sets.splits import group_codes

NAMES = ("no DR", "mild NPDR", "moderate NPDR", "severe NPDR", "proliferative DR")
SCALE = Scale(names=NAMES, ordered=True, referable_from=2, sight_threatening_from=3)


def predictions(images: int) -> pd.DataFrame:
    """Predictions of a grader that is right for about two of three images; each patient has two images."""
    random = np.random.default_rng(0)
    labels = random.choice(5, images, p=(0.6, 0.15, 0.18, 0.04, 0.03))
    logits = -1.2 * np.abs(np.arange(5) - labels[:, None]) + random.normal(0, 1.0, (images, 5))
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    table = pd.DataFrame({"id": np.arange(images).astype(str), "label": labels, "grade": probabilities.argmax(1)})
    for k in range(5):
        table[f"p{k}"] = probabilities[:, k]
    return table.assign(group=(np.arange(images) // 2).astype(str), split="test", referable=1)


def plain_loop(table: pd.DataFrame, draws: int) -> float:
    """Seconds of one draw of kappa and AUC, as a notebook would compute them."""
    random, started = np.random.default_rng(0), time.perf_counter()
    for _ in range(draws):
        part = table.iloc[random.integers(len(table), size=len(table))]
        cohen_kappa_score(part["label"], part["grade"], weights="quadratic")
        roc_auc_score(part["label"] >= 2, part[["p2", "p3", "p4"]].sum(axis=1))
    return (time.perf_counter() - started) / draws


def main() -> None:
    """Print the seconds of Foveal and of the loop, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    table, ours = predictions(options.images), []
    for _ in range(options.repeat):
        started = time.perf_counter()
        found = measure(table, SCALE, Resampling(group_codes(table["group"]), options.draws))
        ours.append(time.perf_counter() - started)
    figures = len(found["metrics"])
    loop = plain_loop(table, 5) * options.draws
    print(
        f"{options.images:,} predictions, {options.draws:,} draws of whole patients, {figures} figures with intervals"
    )
    print(f"Foveal: {', '.join(f'{seconds:.1f}' for seconds in ours)} s (n = {options.repeat})")
    print(f"scikit-learn in a loop, only kappa and one AUC: {loop:.0f} s (scaled up from 5 draws)")
    print(f"ratio to Foveal's slowest run: {loop / max(ours):.1f}")


if __name__ == "__main__":
    main()
