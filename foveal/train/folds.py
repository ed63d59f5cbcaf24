"""Folds: who is held out when, and what the graders of all folds say together."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from foveal.console import say, show_table
from foveal.files import write_json, write_text
from foveal.predict.predictor import Predictor
from foveal.readout.predictions import probability_columns, read_predictions
from foveal.runs import Run, read_model
from foveal.sets.records import PreparedSet
from foveal.sets.splits import group_codes, k_folds
from foveal.train.epoch import summarise
from foveal.train.options import TrainConfig
from foveal.train.outcome import hand_on


def folds_of(records: pd.DataFrame, folds: int, seed: int) -> np.ndarray:
    """int [n]: the fold in which each image is held out; whole groups, every class shared out evenly.

    Raises ValueError where there are fewer groups than folds.
    """
    labels, groups = records["label"].to_numpy(np.int64), records["group"].to_numpy()
    count = int(group_codes(groups).max()) + 1
    if count < folds:
        raise ValueError(f"--folds {folds}: the images are of only {count} groups, which must not be torn apart")
    return k_folds(labels, groups, folds, np.random.default_rng(seed))


def finish_folds(
    run: Run, config: TrainConfig, prepared: PreparedSet, records: pd.DataFrame, fold_of: np.ndarray,
    device: torch.device,
) -> None:  # fmt: skip
    """Write RUN's model.json, readout, predictions (out of fold, and of the test part by all folds) and folds.csv.

    The readout is fitted on single graders and used for all together, whose mean is a little less sure: its sets are
    rather too large than too small.
    """
    names = [f"fold{number + 1}" for number in range(config.folds)]
    tables = [read_predictions(run.path / name / "predictions.csv") for name in names]
    held_out = pd.concat([table[table["split"] == "val"] for table in tables]).set_index("id").loc[records["id"]]
    raw = held_out[probability_columns(tables[0])].to_numpy(float)
    write_json(run.path / "model.json", read_model(run.path) | {"members": names})
    folds = pd.DataFrame({"id": records["id"], "fold": fold_of + 1})
    write_text(run.path / "folds.csv", folds.to_csv(index=False, lineterminator="\n"))
    test = prepared.part("test")
    predictor = Predictor(run.path, device)
    raw_test = predictor.raw_answers_of(prepared, test)
    judged = pd.concat([records.assign(split="val"), test])
    extra = pd.DataFrame({"fold": [*(fold_of + 1), *[""] * len(test)]})
    if raw_test.second is not None:
        second = predictor.second_table(prepared, test, raw_test.second)
        extra = extra.join(pd.concat([held_out[second.columns], second], ignore_index=True))
    hand_on(run, predictor, config, prepared, judged, np.concatenate([raw, raw_test.probabilities]), fold_of, extra)
    show_folds(read_predictions(run.path / "predictions.csv"), prepared)
    say(f"out-of-fold predictions of {len(records):,} images: {run.path / 'predictions.csv'}")
    say(f"next: foveal evaluate {run.path}{' --split val' if len(test) else ''}")


def show_folds(table: pd.DataFrame, prepared: PreparedSet) -> None:
    """Accuracy and kappa of each fold after the readout: how much the choice of images alone moves them."""
    rows = []
    folds = pd.to_numeric(table["fold"], errors="coerce")
    for number in sorted(folds.dropna().astype(int).unique()):
        part = table[folds == number]
        labels, grades = part["label"].to_numpy(np.int64), part["grade"].to_numpy(np.int64)
        figures = summarise("val", labels, grades, len(prepared.classes))
        rows.append(
            [f"fold {number}", f"{len(part):,}", f"{figures['val_accuracy']:.3f}", f"{figures['val_kappa']:.3f}"]
        )
    show_table("Held-out images of each fold", ("", "images", "accuracy", "quadratic kappa"), rows)
