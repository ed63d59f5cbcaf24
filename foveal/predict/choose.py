"""Choose which photographs to grade next, if only some can be graded.

A photograph scores high if the grader is unsure (its two most likely grades have nearly the same probability; margin
sampling, Scheffer et al., 2001) and if it is far from all photographs that are graded or already chosen (the greedy
cover of Sener & Savarese, 2018). The number of photographs per cell (camera and expected grade) and per patient is kept
as equal as their numbers allow.
"""

import numpy as np


def unsureness(probabilities: np.ndarray) -> np.ndarray:
    """float [n], 0 (sure) to 1: one minus the margin between the two most likely classes of [n, K]."""
    ordered = np.sort(probabilities, axis=1)
    return 1 - (ordered[:, -1] - ordered[:, -2])


def choose(number: int, probabilities: np.ndarray, features: np.ndarray, known: np.ndarray, cells: np.ndarray,
           patients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Choose at most `number` of n photographs; returns their positions, int [k], and distances, in the order to grade.

    The distance, float [k], is 1 - cosine to the nearest photograph that was graded or chosen before. probabilities:
    [n, K]. features: [n, D]; known: [m, D], of graded photographs, or none. cells, patients: [n], any values.
    """
    unsure, own, graded = unsureness(probabilities), directions(features), directions(known)
    apart = np.ones(len(own))
    if len(graded):
        parts = np.array_split(own, -(-len(own) // 1000))  # a part at a time, to save memory
        apart = np.concatenate([1 - (part @ graded.T).max(axis=1) for part in parts])
    cell, patient = (np.unique(values, return_inverse=True)[1] for values in (cells, patients))
    taken = {"cell": np.zeros(cell.max(initial=0) + 1, int), "patient": np.zeros(patient.max(initial=0) + 1, int)}
    left, positions, distance = np.ones(len(own), bool), list[int](), list[float]()
    for _ in range(min(number, len(own))):
        # First the least used patients, then among theirs the least used cells.
        open_ = left & (taken["patient"][patient] == taken["patient"][patient][left].min())
        open_ &= taken["cell"][cell] == taken["cell"][cell][open_].min()
        best = int(np.argmax(np.where(open_, (unsure + 1e-3) * (apart + 1e-3), -1.0)))
        positions.append(best)
        distance.append(float(apart[best]))
        left[best] = False
        taken["cell"][cell[best]] += 1
        taken["patient"][patient[best]] += 1
        apart = np.minimum(apart, 1 - own @ own[best])
    return np.array(positions, int), np.array(distance)


def directions(features: np.ndarray) -> np.ndarray:
    """Features [D] or [n, D] with length 1, as float32."""
    values = np.asarray(features, np.float32)
    return values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-12)
