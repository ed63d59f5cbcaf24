"""Compare labels chosen by `foveal select` with random labels, for a linear grader on frozen features.

    foveal embed RUN_OR_ENCODER DATA --out features.parquet
    python benchmarks/chosen_labels.py features.parquet [--first 100] [--more 100 200 400] [--seeds 3]

A quarter of the patients is the test part. Of the other photographs, `--first` random ones get their grade, and a
logistic regression learns from them. Then `--more` further photographs get their grade: once the ones that the function
of `foveal select` chooses with the probabilities of this regression (as if all came from one camera), and once random
ones. For both, prints kappa and the AUC of referable disease on the test part, and their difference with a paired 95 %
interval over patients, averaged over the seeds.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from foveal.metrics import confusion_matrix, quadratic_kappa
from foveal.predict.choose import choose

RESAMPLES = 500


def fitted(features: np.ndarray, labels: np.ndarray, classes: int, new: np.ndarray) -> np.ndarray:
    """Probabilities [n, K] of the `new` features, by a logistic regression."""
    model = LogisticRegression(C=0.01, max_iter=300, class_weight="balanced").fit(features, labels)
    shares = np.zeros((len(new), classes))
    shares[:, model.classes_] = model.predict_proba(new)
    return shares


def figures(shares: np.ndarray, labels: np.ndarray, rows: np.ndarray) -> tuple[float, float]:
    """Kappa, and the AUC of grade 2 or higher, of some rows."""
    grades, true = shares[rows].argmax(1), labels[rows]
    kappa = float(quadratic_kappa(confusion_matrix(true, grades, shares.shape[1])))
    return kappa, float(roc_auc_score(true >= 2, shares[rows, 2:].sum(1)))


def main() -> None:
    """Choose photographs with every seed, fit both graders, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", type=Path)
    parser.add_argument("--first", type=int, default=100)
    parser.add_argument("--more", type=int, nargs="+", default=[100, 200, 400])
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    features, labels, patients = read(given.features)
    classes = int(labels.max()) + 1
    print(f"{len(labels):,} photographs of {len(set(patients)):,} patients; {features.shape[1]} features")
    outcomes: dict[int, list[np.ndarray]] = {more: [] for more in given.more}
    for seed in range(given.seeds):
        generator = np.random.default_rng(seed)
        people = generator.permutation(np.unique(patients))
        test = np.isin(patients, people[: len(people) // 4])
        pool = generator.permutation(np.flatnonzero(~test))
        first, rest = pool[: given.first], pool[given.first :]
        now = fitted(features[first], labels[first], classes, features[rest])
        cells = now.argmax(1)
        found = choose(max(given.more), now, features[rest], features[first], cells, patients[rest])[0]
        rows = resampled(patients[test], generator)
        for more in given.more:
            parts = [np.concatenate([first, chosen[:more]]) for chosen in (rest[found], rest)]
            both = [fitted(features[part], labels[part], classes, features[test]) for part in parts]
            everything = [np.arange(test.sum()), *rows]
            outcomes[more].append(np.array([[figures(one, labels[test], k) for k in everything] for one in both]))
    for more, several in outcomes.items():
        show(given.first, more, np.stack(several).mean(0))


def read(file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Standardised features [n, D], labels [n] and patients [n] of the graded photographs."""
    table = pd.read_parquet(file)
    table = table[table["label"].notna()]
    features = np.stack(table["vector"].to_list()).astype(np.float64)
    patients = table["group"].where(table["group"] != "", table["id"]).to_numpy()
    return (features - features.mean(0)) / (features.std(0) + 1e-9), table["label"].to_numpy(int), patients


def resampled(patients: np.ndarray, generator: np.random.Generator) -> list[np.ndarray]:
    """Rows of photographs for `RESAMPLES` draws of patients with replacement."""
    names, codes = np.unique(patients, return_inverse=True)
    rows = [np.flatnonzero(codes == code) for code in range(len(names))]
    draws = generator.integers(len(names), size=(RESAMPLES, len(names)))
    return [np.concatenate([rows[code] for code in draw]) for draw in draws]


def show(first: int, more: int, outcome: np.ndarray) -> None:
    """Print the results. outcome: [chosen or random, all rows and then the resamples, kappa and AUC]."""
    print(f"{first} + {more} labels")
    for k, name in enumerate(("kappa", "referable AUC")):
        chosen, random = outcome[0, 0, k], outcome[1, 0, k]
        low, high = np.quantile(outcome[0, 1:, k] - outcome[1, 1:, k], (0.025, 0.975))
        print(f"  {name}: chosen {chosen:.3f}, random {random:.3f}, {chosen - random:+.3f} ({low:+.3f} to {high:+.3f})")


if __name__ == "__main__":
    main()
