"""The line charts of a run: what its training and its pre-training looked like, epoch by epoch."""

from __future__ import annotations

from typing import Any

import pandas as pd

from foveal.report.evidence import Evidence, best_epoch
from foveal.report.figures import Level, Line, Panel

MOST_CLASSES = 6  # lines that can be told apart in one panel


def training_panels(run: Evidence, name: str) -> list[Panel]:
    """Loss, kappa and accuracy of training and validation, and the validation recall of a few classes."""
    best = best_epoch(run) if run.finished else None
    levels = _constant_accuracy(run)
    panels = [_pair(run, f"{name}-loss", "Loss", ("loss", "val_loss"), best)]
    if run.ordered:
        panels.append(_pair(run, f"{name}-kappa", "Quadratic kappa", ("train_kappa", "val_kappa"), best, share=True))
    panels.append(
        _pair(run, f"{name}-accuracy", "Accuracy", ("train_accuracy", "val_accuracy"), best, share=True, levels=levels)
    )
    if 2 <= len(run.classes) <= MOST_CLASSES and _has(run, "val_recall"):
        lines = [Line(label=label, x=_column(run, "epoch"), y=[row["val_recall"][k] for row in run.rows],
                      colour=f"series-{k + 1}") for k, label in enumerate(run.classes)]  # fmt: skip
        panels.append(
            Panel(name=f"{name}-recall", title="Validation recall by class", lines=lines, best=best, share=True)
        )
    return panels


def _constant_accuracy(run: Evidence) -> list[Level]:
    part = run.card.get("counts", {}).get("val", {})
    most = max(part.get("per_class", {}).values(), default=0)
    return [Level(label="constant answer", value=most / part["images"])] if most else []


def _pair(run: Evidence, name: str, title: str, keys: tuple[str, str], best: int | None, **rest: Any) -> Panel:
    epochs = _column(run, "epoch")
    lines = [Line(label="training", x=epochs, y=_column(run, keys[0]), colour="muted", dashed=True)]
    if _has(run, keys[1]):
        lines.append(Line(label="validation", x=epochs, y=_column(run, keys[1])))
    return Panel(name=name, title=title, lines=lines, best=best, **rest)


def pretraining_panels(run: Evidence, name: str) -> list[Panel]:
    """Loss between its bounds, what the views' embeddings look like, by step; and the probe by epoch."""
    shown = {
        "loss": "Contrastive loss" if _bounds(run) else "Loss",
        "alignment": "Alignment (low is good)",
        "uniformity": "Uniformity (low is even)",
        "instance_accuracy": "Own view is the nearest (share)",
        "feature_std": "Spread of embeddings (1 even, 0 collapsed)",
        "effective_rank": "Effective rank of the features (1 collapsed)",
    }
    panels = [
        Panel(name=f"{name}-{key}", title=title, x_label="step", levels=_bounds(run) if key == "loss" else [],
              lines=[Line(label=key, x=[row["step"] for row in rows], y=[row[key] for row in rows])])
        for key, title in shown.items() for rows in [[row for row in run.rows if row.get(key) is not None]] if rows
    ]  # fmt: skip
    panels += _cosine_panels(run, name)
    return panels if run.probe is None or not len(run.probe) else [*panels, _probe_panel(run.probe, name)]


def _cosine_panels(run: Evidence, name: str) -> list[Panel]:
    """How near two views of one image are, and views of two images: at the first look and at the last one."""
    looks = [row for row in run.rows if row.get("positive_cosines")]
    if not looks:
        return []
    lines = []
    for row, dashed in ((looks[0], True), (looks[-1], False))[-len(looks) :]:
        for key, label, colour in (("positive", "one image", "series-1"), ("negative", "two images", "series-2")):
            counts = row[f"{key}_cosines"]
            centres = [-1 + (2 * place + 1) / len(counts) for place in range(len(counts))]
            shares = [count / max(1, sum(counts)) for count in counts]
            named = f"{label}, epoch {row['epoch']}"
            lines.append(Line(label=named, x=centres, y=shares, colour=colour, dashed=dashed))
    title = "Cosines of two views (share of pairs)"
    return [Panel(name=f"{name}-cosines", title=title, x_label="cosine", lines=lines)]


def _probe_panel(table: pd.DataFrame, name: str) -> Panel:
    """Neighbours and linear readout with the ends of their intervals; epoch 0 is the encoder as it was before."""
    lines, levels = [], []
    for number, (probe, rows) in enumerate(table.groupby("probe", sort=True)):
        colour, epochs = f"series-{number + 1}", rows["epoch"].tolist()
        lines.append(Line(label=str(probe), x=epochs, y=rows["value"].tolist(), colour=colour, dotted=True))
        for end, label in (("low", f"{probe}, its interval"), ("high", "")):
            lines.append(Line(label=label, x=epochs, y=rows[end].tolist(), colour=colour, dashed=True))
        first = rows[rows["epoch"] == 0]["value"]
        if len(first):
            dashes = ("dotted", "dashed")[number % 2]
            levels.append(
                Level(label=f"{probe} before, {first.iloc[0]:.2f}", value=float(first.iloc[0]), dashes=dashes)
            )
    row = table.iloc[0]
    title = f"Probe: {str(row['metric']).replace('_', ' ')} (n {row['n']:,} in {row['groups']:,} groups)"
    return Panel(name=f"{name}-probe", title=title, lines=lines, levels=levels)


def _bounds(run: Evidence) -> list[Level]:
    bounds = (("nothing learned", "loss_chance", "dotted"), ("lowest possible", "loss_floor", "dashed"))
    return [Level(label=f"{label}, {run.health[key]:.2f}", value=run.health[key], dashes=dashes)
            for label, key, dashes in bounds if key in run.health]  # fmt: skip


def _has(run: Evidence, key: str) -> bool:
    return bool(run.rows) and key in run.rows[0]


def _column(run: Evidence, key: str) -> list[Any]:
    return [row.get(key) for row in run.rows]
