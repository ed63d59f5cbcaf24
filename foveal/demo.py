"""demo: every step on drawn photographs, in a few minutes on a laptop.

Drawn photographs -> prepare -> pre-train without labels -> fine-tune on a few labels, once from random weights and once
from the pre-trained encoder -> evaluate both -> predict three new photographs -> one report.
"""

import time
from dataclasses import dataclass
from pathlib import Path

from foveal.config import check
from foveal.console import hushed, say, show_table
from foveal.files import read_json
from foveal.page.words import value_with_interval

SIZE = 64  # px: small enough for minutes on a laptop, large enough for the drawn lesions
ENCODER = "test_resnet"  # the smallest ResNet of timm, so that a plain CPU takes less than two minutes
RATE = 2e-3  # of pre-training: four times the usual one, because the network is small and the run short


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Options of `foveal demo`."""

    # Folder for all results of the demo.
    out: Path = Path("demo")
    # Photographs to draw.
    count: int = 600
    # Training photographs that keep their grade; the others count as ungraded.
    labelled: int = 40
    # Epochs of pre-training on all training photographs; training on the labelled ones takes four fifths as many.
    epochs: int = 35

    def __post_init__(self) -> None:
        most = self.count // 2 - 1
        check(self, "count", self.count >= 100, "at least 100")
        check(self, "labelled", 40 <= self.labelled <= most, f"40 to {most}, below half of --count")


def demo(config: DemoConfig) -> Path:
    """Run every step on drawn photographs; returns the path of the report."""
    import pandas as pd

    from foveal.evaluate.difference import describe, paired_difference
    from foveal.evaluate.evaluate import EvaluateConfig, measure_predictions
    from foveal.predict.predict import PredictConfig, predict
    from foveal.pretrain.loop import pretrain
    from foveal.pretrain.options import NO_PROBE, PretrainConfig
    from foveal.report.build import ReportConfig, report
    from foveal.sets.options import PrepareConfig
    from foveal.sets.prepare import prepare
    from foveal.train.options import TrainConfig
    from foveal.train.train import train

    started, out = time.perf_counter(), config.out
    say("1 of 6  draw photographs and prepare them", style="bold")
    drawn = (Path(f"phantom:{config.count}"),)
    data = prepare(PrepareConfig(source=drawn, out=out / "data", size=SIZE, labelled=config.labelled))
    say("\n2 of 6  pre-train without labels (SimCLR)", style="bold")
    say("This is kept short, so its verdict may be doubtful. Step 6 measures whether it helped.")
    pretrained = pretrain(PretrainConfig(
        data=(data,), out=out / "pretrained", encoder=ENCODER, epochs=config.epochs, learning_rate=RATE,
        probe=NO_PROBE, batch_size=min(64, config.count // 3),  # more steps learn more here than larger batches
    ))  # fmt: skip
    runs = {}
    for number, (name, init) in enumerate((("random", "random"), ("simclr", str(pretrained))), start=3):
        say(f"\n{number} of 6  train on {config.labelled} labels, starting from {name} weights", style="bold")
        runs[name] = train(TrainConfig(
            data=(data,), out=out / f"from-{name}", init=init, encoder=ENCODER,
            epochs=max(1, 4 * config.epochs // 5), learning_rate=1e-3, batch_size=16,
        ))  # fmt: skip
        with hushed():  # the report shows the figures, and step 6 compares the main ones
            measured = measure_predictions(EvaluateConfig(source=runs[name]))
        say(f"metrics: {measured}")
    say("\n5 of 6  grade three new photographs", style="bold")
    new = tuple(write_photographs(out / "new", config))
    predict(PredictConfig(run=runs["simclr"], images=new, out=out / "new" / "predictions.csv"))
    say("\n6 of 6  report", style="bold")
    page = report(ReportConfig(runs=tuple(runs.values()), out=out / "report.html"))
    show_comparison(runs)
    tables = [pd.read_csv(run / "predictions.csv") for run in runs.values()]
    first, second = (table[table["split"] == "test"] for table in tables)
    say("\nDid the pre-training help? " + describe(paired_difference(first, second)))
    say(f"The demo took {(time.perf_counter() - started) / 60:.1f} minutes. Open {page}", style="bold")
    return page


def show_comparison(runs: dict[str, Path]) -> None:
    """Print the headline metrics of the runs side by side, with intervals."""
    results = {name: read_json(run / "metrics.json") for name, run in runs.items()}
    rows = []
    for metric in ("quadratic_kappa", "accuracy", "macro_f1", "referable_auc"):
        entries = [result["metrics"][metric] for result in results.values()]
        rows.append([metric, *(value_with_interval(entry, 3) for entry in entries), f"{entries[0]['constant']:.3f}"])
    about = next(iter(results.values()))["about"]
    title = f"Test part: {about['images']} photographs of {about['groups']} patients (95 % intervals)"
    show_table(title, ["", *(f"from {name} weights" for name in runs), "constant answer"], rows)


def write_photographs(folder: Path, config: DemoConfig) -> list[Path]:
    """Draw three new photographs and write them as JPEG files, named by their true grade."""
    import cv2
    import numpy as np

    from foveal.sources.phantom import draw_phantom

    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for grade in (0, 2, 4):
        generator = np.random.default_rng([0, 1_000_000 + grade])
        picture = draw_phantom(grade, "right", SIZE, generator).image  # as large as those it was trained on
        files.append(folder / f"true-grade-{grade}.jpg")
        cv2.imwrite(str(files[-1]), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])
    return files
