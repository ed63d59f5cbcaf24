"""What a training run hands on: model.json, the readout, predictions of the judged parts, the misgraded images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch

from foveal import checkpoint
from foveal.console import say, warn
from foveal.evaluate.calibration import reliability
from foveal.files import write_json, write_text
from foveal.losses.grading import LOSSES
from foveal.predict.predictor import Predictor
from foveal.readout.calibration import COLDEST, HOTTEST
from foveal.readout.readout import LEAST_IMAGES, Readout, ReadoutOptions, crossed, fit_readout, write_readout
from foveal.readout.scales import referable_from
from foveal.runs import Run, read_model
from foveal.sets.corrections import FILE as CORRECTIONS
from foveal.sets.records import PreparedSet
from foveal.sets.splits import group_codes, k_folds
from foveal.train.learned import Learned
from foveal.train.options import TrainConfig
from foveal.train.start import Start

MISGRADED_SHOWN = 12  # pictures kept; the table lists all
FILE = "predictions.csv"
PARTS = 5  # of the validation part: each is read with what was fitted on the others


def write_model(
    run: Run, config: TrainConfig, prepared: PreparedSet, start: Start, learned: Learned, features: int
) -> None:
    """Write model.json: all that `predict` needs beside the weights; and the data card, for the report."""
    scale, spec = prepared.card["scale"], start.spec
    second = {"second": config.second, "second_classes": list(learned.second_classes)} if config.second else {}
    write_json(run.path / "model.json", {
        "kind": "grader", "encoder": config.encoder, "channels": prepared.channels, "features": features,
        "image_size": spec.image_size, "mean": spec.mean, "std": spec.std, "preparation": prepared.card["options"],
        "fundus": prepared.card["fundus"], "classes": prepared.classes, "scale": scale, "task": prepared.card["task"],
        "referable_from": referable_from(scale), "loss": config.loss, "decision": LOSSES[config.loss].decision,
        "tta": config.tta, "init": config.init, "frozen": config.freeze, **second,
    })  # fmt: skip
    write_json(run.path / "card.json", prepared.card)  # with what corrections of labels have changed
    corrections = prepared.path / CORRECTIONS
    if corrections.is_file():
        write_text(run.path / CORRECTIONS, corrections.read_text(encoding="utf-8"))


def finish(
    run: Run, config: TrainConfig, prepared: PreparedSet, judged: pd.DataFrame, best_epoch: int, device: torch.device
) -> None:
    """Write the encoder of the best epoch, and what it says of the judged images."""
    predictor = Predictor(run.path, device)
    checkpoint.save_weights(predictor.grader.encoder, run.path / "encoder.safetensors")
    write_json(run.path / "model.json", read_model(run.path) | {"best_epoch": best_epoch})
    if not len(judged):
        warn("there is no validation or test part: the last epoch was kept and nothing is known of its quality")
        return
    raw = predictor.raw_answers_of(prepared, judged)
    assert raw.probabilities is not None
    groups = judged["group"].to_numpy()[(judged["split"] == "val").to_numpy()]
    second = None if raw.second is None else predictor.second_table(prepared, judged, raw.second)
    hand_on(run, predictor, config, prepared, judged, raw.probabilities, _parts(groups, config.seed), second)
    say(f"predictions of {len(judged)} validation and test images with epoch {best_epoch}: {run.path / FILE}")
    say(f"next: foveal evaluate {run.path}")


def hand_on(
    run: Run, predictor: Predictor, config: TrainConfig, prepared: PreparedSet, judged: pd.DataFrame, raw: np.ndarray,
    parts: np.ndarray, extra: pd.DataFrame | None,
) -> None:  # fmt: skip
    """Fit the readout on the validation images and write predictions of all judged ones, with raw probabilities [n, K].

    parts: int [validation images]; those of a part are read with what was fitted on the other parts. extra: further
    columns of the table, row by row.
    """
    loss = LOSSES[config.loss]
    options = ReadoutOptions(
        decision=loss.decision, ordered=prepared.card["task"] == "grading", temperature=config.calibrate,
        steps=loss.form == "regression", cutoffs=config.thresholds == "fitted", coverage=config.coverage,
    )  # fmt: skip
    val = (judged["split"] == "val").to_numpy()
    labels = judged["label"].to_numpy(np.int64)
    readout = fit_readout(raw[val], labels[val], options)
    probabilities = readout.probabilities(raw)
    grades = readout.grades(probabilities)
    sets = np.array(readout.sets(probabilities, grades), dtype=object)
    if readout.images:
        write_readout(run.path, readout)
        write_json(run.path / "model.json", read_model(run.path) | {"readout": True})
        probabilities[val], grades[val], sets[val] = crossed(raw[val], labels[val], parts, options)
        _say_readout(readout, raw[val], probabilities[val], labels[val], len(np.unique(parts)), prepared.classes)
    elif config.calibrate and val.any():
        say(f"fewer than {LEAST_IMAGES} validation images: no temperature, thresholds or sets were fitted")
    table = predictor.table(
        list(judged["id"]), probabilities, judged["label"], judged["group"], judged["split"], judged["flags"],
        graded=(grades, list(sets)),
    )  # fmt: skip
    if val.any() and len(np.unique(grades[val])) == 1:
        warn(
            f"all {int(val.sum())} validation images are given '{prepared.classes[int(grades[val][0])]}': this grader "
            "has learned to answer one grade. Train longer, change --learning-rate, or see --batch-norm and --sampling"
        )
    if extra is not None:
        table = table.join(extra.set_index(table.index))
    write_text(run.path / FILE, table.to_csv(index=False, lineterminator="\n"))
    write_misgraded(run.path, prepared, table)


def _parts(groups: np.ndarray, seed: int) -> np.ndarray:
    """int [n]: five parts of whole groups, or as many as there are groups."""
    count = int(group_codes(groups).max(initial=-1)) + 1
    if count < 2:
        return np.zeros(len(groups), np.int64)
    return k_folds(np.zeros(len(groups), np.int64), groups, min(PARTS, count), np.random.default_rng(seed))


def _say_readout(
    readout: Readout, raw: np.ndarray, read: np.ndarray, labels: np.ndarray, parts: int, classes: list[str]
) -> None:
    before, after = (
        sum(bin["n"] * abs(bin["confidence"] - bin["accuracy"]) for bin in reliability(found, labels)["bins"])
        / len(labels)
        for found in (raw, read)
    )
    where = "each part read with what the others gave" if parts > 1 else "of the same images"
    what = f"temperature {readout.temperature:.2f}" if readout.steps is None else "steps from grade to grade"
    say(f"{what}, fitted on {len(labels)} validation images: calibration error {before:.3f} -> {after:.3f} ({where})")
    if readout.cutoffs is not None:
        say("a grade begins at the expected grades " + ", ".join(f"{cut:.2f}" for cut in readout.cutoffs))
    if parts < 2:
        warn(
            "the validation images are one group: what was fitted on them is judged on them too, and their figures "
            "flatter. Prepare the set with a larger --val, or with groups that are known"
        )
    if readout.steps is None and not 1.01 * COLDEST < readout.temperature < HOTTEST / 1.01:
        warn("the temperature is at its bound: these probabilities say little of the grades")
    always = [name for name, limit in zip(classes, readout.limits, strict=True) if limit == 0] if readout.limits else []
    if always:
        warn(f"too few validation images of {', '.join(always)} to promise anything: every set of grades holds it")


def write_misgraded(run: Path, prepared: PreparedSet, table: pd.DataFrame) -> None:
    """Write RUN/misgraded.csv (all, worst first) and RUN/misgraded/NN.jpg (the worst of the test part, or of all).

    Worst is the largest distance of grades, then the largest probability of the wrong one.
    """
    wrong = table[table["label"].notna() & (table["grade"] != table["label"])].copy()
    wrong["distance"] = (wrong["grade"] - wrong["label"]).abs().astype(int)
    wrong["probability"] = [row[f"p{row['grade']}"] for row in wrong.to_dict("records")]
    wrong = wrong.sort_values(["distance", "probability", "id"], ascending=[False, False, True])
    shown = wrong[wrong["split"] == "test"] if (table["split"] == "test").any() else wrong
    shown = shown.head(MISGRADED_SHOWN)
    wrong["picture"] = wrong["id"].map({name: f"{n:02d}.jpg" for n, name in enumerate(shown["id"])}).fillna("")
    columns = ["id", "split", "label", "grade", "probability", "distance", "picture"]
    wrong[columns].to_csv(run / "misgraded.csv", index=False, lineterminator="\n")
    folder = run / "misgraded"
    folder.mkdir(exist_ok=True)
    records = prepared.records.set_index("id").loc[shown["id"]].reset_index()
    for number, pixels in enumerate(prepared.pixels(records)):
        colour = cv2.COLOR_RGB2BGR if pixels.shape[2] == 3 else cv2.COLOR_GRAY2BGR
        encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, colour), [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
        (folder / f"{number:02d}.jpg").write_bytes(encoded.tobytes())
