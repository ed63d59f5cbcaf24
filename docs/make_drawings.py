"""Draw the pictures of docs/ideas/ from drawn data: `python docs/make_drawings.py`. No photograph is needed."""

from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt
from numpy.random import Generator, default_rng
from PIL import Image

from foveal.augment.draw import draw
from foveal.augment.recipes import RECIPES
from foveal.augment.views import NetworkInput, random_views
from foveal.evaluate.intervals import Resampling
from foveal.sources.phantom import draw_phantom

IDEAS = Path(__file__).with_name("ideas")
BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8a8a8a"
STYLE = {
    "svg.fonttype": "none", "svg.hashsalt": "foveal", "font.family": "sans-serif", "font.size": 10,
    "axes.spines.top": False, "axes.spines.right": False, "figure.constrained_layout.use": True,
}  # fmt: skip


def save(name: str) -> None:
    """Write the current figure to docs/ideas; the date is left out, so that the same program gives the same file."""
    plt.savefig(IDEAS / name, metadata={"Date": None})
    plt.close()


def nearest_neighbour(train: np.ndarray, grades: np.ndarray, test: np.ndarray) -> np.ndarray:
    """The grade of the nearest training vector, for each vector of the test."""
    return grades[((test[:, None] - train[None]) ** 2).sum(2).argmin(1)]


def photographs(patients: int, generator: Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Patient [n], grade 0 or 1 [n] and features [n, 12] of two photographs of each patient, which look alike."""
    patient = np.repeat(np.arange(patients), 2)
    grade = np.repeat(generator.integers(0, 2, patients), 2)
    features = np.repeat(generator.normal(0, 1, (patients, 12)), 2, axis=0) + generator.normal(
        0, 0.4, (2 * patients, 12)
    )
    features[:, 0] += 2.5 * grade
    return patient, grade, features


def leaks() -> None:
    """The accuracy of one method, measured with two ways to split, and on new patients."""
    results: dict[str, list[float]] = {"split by photograph": [], "split by patient": [], "new patients": []}
    for trial in range(100):
        generator = default_rng(trial)
        patient, grade, features = photographs(100, generator)
        parts = {
            "split by photograph": generator.permutation(len(patient)) < 150,
            "split by patient": generator.permutation(100)[patient] < 75,
        }
        for name, learned in parts.items():
            told = nearest_neighbour(features[learned], grade[learned], features[~learned])
            results[name].append(float((told == grade[~learned]).mean()))
        _, new_grade, new = photographs(200, generator)
        results["new patients"].append(float((nearest_neighbour(features, grade, new) == new_grade).mean()))
    _, axes = plt.subplots(figsize=(6, 2))
    for row, values in enumerate(results.values()):
        axes.barh(row, np.mean(values), color=ORANGE if row == 0 else BLUE, height=0.6)
        axes.text(np.mean(values) + 0.01, row, f"{np.mean(values):.2f}", va="center")
    axes.set_yticks(range(3), results)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="accuracy, mean of 100 trials")
    save("leaks.svg")


def test_set(generator: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Patient [n] and whether the answer is correct [n], for 40 patients with 1 to 10 photographs; some are easier."""
    patient = np.repeat(np.arange(40), generator.integers(1, 11, 40))
    return patient, generator.random(len(patient)) < generator.beta(1.6, 0.4, 40)[patient]


def intervals() -> None:
    """Intervals of 25 test sets from one population, which resample photographs or patients."""
    _, panels = plt.subplots(1, 2, figsize=(7, 3.2), sharey=True, sharex=True)
    for axes, by_patient in zip(panels, (False, True), strict=True):
        missed = 0
        for trial in range(25):
            patient, hits = test_set(default_rng(trial))
            entry = Resampling(patient if by_patient else np.arange(len(hits))).mean(hits, is_share=True)
            wrong = not entry["low"] <= 0.8 <= entry["high"]
            missed += wrong
            axes.plot([entry["low"], entry["high"]], [trial, trial], color=ORANGE if wrong else BLUE, linewidth=2)
        axes.axvline(0.8, color=GREY, linestyle="--", linewidth=1)
        over = "patients" if by_patient else "photographs"
        axes.set(title=f"over {over}: {missed} of 25 miss", xlabel="accuracy", yticks=[])
    panels[0].set_ylabel("test sets")
    save("intervals.svg")


def softmax(values: np.ndarray) -> np.ndarray:
    """Probabilities of the last axis."""
    raised = np.exp(values - values.max(-1, keepdims=True))
    return np.asarray(raised / raised.sum(-1, keepdims=True))


def calibration() -> None:
    """How often answers are correct, against their probability, before and after division by a temperature."""
    generator = default_rng(0)
    labels = generator.integers(0, 5, 20_000)
    scores = generator.normal(0, 2.2, (20_000, 5)) + 3 * np.eye(5)[labels]
    _, axes = plt.subplots(figsize=(4, 3.6))
    axes.plot([0.2, 1], [0.2, 1], color=GREY, linestyle="--", linewidth=1)
    for temperature, colour, name in ((1, ORANGE, "before"), (1.6, BLUE, "divided by a temperature of 1.6")):
        chances = softmax(scores / temperature)
        told, right = chances.max(1), chances.argmax(1) == labels
        place = np.digitize(told, np.linspace(0.3, 1, 8))
        points = [
            (told[place == each].mean(), right[place == each].mean()) for each in range(8) if (place == each).sum() > 50
        ]
        axes.plot(*np.transpose(points), marker="o", color=colour, label=name)
    axes.set(xlabel="probability of the answer", ylabel="share that is right", xlim=(0.2, 1.02), ylim=(0.2, 1.02))
    axes.legend(frameon=False)
    save("calibration.svg")


def grades() -> None:
    """Probabilities of a photograph and their cubes, with the expected grade of each."""
    plain = np.array([0.42, 0.16, 0.24, 0.12, 0.06])
    cubed = plain**3 / (plain**3).sum()
    _, panels = plt.subplots(1, 2, figsize=(6.6, 2.6), sharey=True)
    for axes, values, title in zip(panels, (plain, cubed), ("probabilities", "cubed, scaled to sum to 1"), strict=True):
        expected = float(values @ np.arange(5))
        axes.bar(range(5), values, color=BLUE)
        axes.axvline(expected, color=ORANGE, linewidth=2)
        axes.text(expected + 0.1, 0.8, f"expected grade {expected:.2f}", color=ORANGE)
        axes.set(title=title, xlabel="grade", ylim=(0, 0.9))
    save("grades.svg")


def camera(image: np.ndarray, side: int, gains: tuple[float, float, float], blur: float) -> np.ndarray:
    """A photograph as another camera would take it: fewer pixels, other colours, less sharp."""
    small = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
    large = cv2.resize(small, (240, 240), interpolation=cv2.INTER_CUBIC)
    return np.clip(cv2.GaussianBlur(large, (0, 0), blur) * np.array(gains), 0, 255).astype(np.uint8)


def cameras() -> None:
    """One drawn eye as four cameras might show it."""
    eye = draw_phantom(2, "left", 240, default_rng(3)).image
    shown = [
        eye,
        camera(eye, 240, (1.1, 0.72, 0.5), 0.5),
        camera(eye, 70, (0.95, 1.0, 1.0), 0.8),
        camera(eye, 200, (0.55, 0.6, 0.8), 1.6),
    ]
    Image.fromarray(np.hstack(shown)).save(IDEAS / "cameras.jpg", quality=88)


def views() -> None:
    """Six drawn eyes, each above two random views of it."""
    eyes = np.stack([draw_phantom(n % 5, "left", 240, default_rng(20 + n)).image for n in range(6)])
    seen = NetworkInput(image_size=150, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    generator = torch.Generator().manual_seed(3)
    rows = [np.hstack([cv2.resize(eye, (150, 150), interpolation=cv2.INTER_AREA) for eye in eyes])]
    for _ in range(2):
        table = draw(RECIPES["fundus"], 6, 240, 150, generator)
        made = random_views(eyes, table, seen, torch.device("cpu")).permute(0, 2, 3, 1).numpy()
        rows.append(np.hstack((made * 255).clip(0, 255).astype(np.uint8)))
    Image.fromarray(np.vstack(rows)).save(IDEAS / "views.jpg", quality=88)


if __name__ == "__main__":
    mpl.rcParams.update(STYLE)
    for picture in (leaks, intervals, calibration, grades, cameras, views):
        picture()
