"""What a training run hands on: model.json, predictions of the judged parts, the encoder, the misgraded images."""

from __future__ import annotations

from pathlib import Path

import cv2
import pandas as pd
import torch

from foveal import checkpoint
from foveal.augment.views import NetworkInput
from foveal.console import say, warn
from foveal.data.classes import referable_from
from foveal.data.corrections import FILE as CORRECTIONS
from foveal.data.records import PreparedSet
from foveal.predict.predictor import Predictor
from foveal.runs import Run, read_model, write_json, write_text

MISGRADED_SHOWN = 12  # pictures kept; the table lists all


def write_model(
    run: Run, prepared: PreparedSet, spec: NetworkInput, *, encoder: str, features: int, decision: str, init: str,
    frozen: bool,
) -> None:  # fmt: skip
    """Write model.json: all that `predict` needs beside the weights; and the data card, for the report."""
    scale = prepared.card["scale"]
    write_json(run.path / "model.json", {
        "kind": "grader", "encoder": encoder, "channels": prepared.channels, "features": features,
        "image_size": spec.image_size, "mean": spec.mean, "std": spec.std, "preparation": prepared.card["options"],
        "fundus": prepared.card["fundus"], "classes": prepared.classes, "scale": scale, "task": prepared.card["task"],
        "referable_from": referable_from(scale), "decision": decision, "init": init, "frozen": frozen,
    })  # fmt: skip
    write_json(run.path / "card.json", prepared.card)  # with what corrections of labels have changed
    corrections = prepared.path / CORRECTIONS
    if corrections.is_file():
        write_text(run.path / CORRECTIONS, corrections.read_text(encoding="utf-8"))


def finish(run: Run, prepared: PreparedSet, best_epoch: int, device: torch.device) -> None:
    """Write predictions of the best epoch, the encoder and the misgraded images."""
    predictor = Predictor(run.path, device)
    checkpoint.save_weights(predictor.grader.encoder, run.path / "encoder.safetensors")
    write_json(run.path / "model.json", read_model(run.path) | {"best_epoch": best_epoch})
    judged = prepared.part("val", "test")
    if len(judged):
        table = predictor.predict_prepared(prepared, judged)
        write_text(run.path / "predictions.csv", table.to_csv(index=False, lineterminator="\n"))
        write_misgraded(run.path, prepared, table)
        file = run.path / "predictions.csv"
        say(f"predictions of {len(table)} validation and test images with epoch {best_epoch}: {file}")
        say(f"next: foveal evaluate {run.path}")
    else:
        warn("there is no validation or test part: the last epoch was kept and nothing is known of its quality")
    say(f"grader: {run.path}")


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
