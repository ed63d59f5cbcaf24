"""The line charts of a run: its training and its pre-training, epoch by epoch."""

from collections.abc import Collection, Sequence
from typing import Any

import pandas as pd

from foveal.page.charts import Level, Line, Panel, series
from foveal.report.evidence import Evidence
from foveal.report.findings import NAMES
from foveal.report.summary import verdicts

MOST_CLASSES = 6  # most lines that a reader can tell apart in one panel
BOUNDS = (("nothing learned", "loss_chance", "dotted"), ("lowest possible", "loss_floor", "dashed"))


def training(graders: Sequence[Evidence]) -> list[dict[str, Any]]:
    """Curves of every training, and the epoch that was kept."""
    return [{"name": run.name, "run": run, "panels": training_panels(run)} for run in graders if run.rows]


def pretraining(runs: Sequence[Evidence], *, introduced: Collection[Evidence]) -> list[dict[str, Any]]:
    """Curves and verdict of every pre-training; introduced: runs whose verdict is already in the summary."""
    return [{"name": run.name, "run": run, "new": run not in introduced, "verdict": verdicts([run], [])[0],
             "panels": pretraining_panels(run)}
            for run in runs]  # fmt: skip


def training_panels(run: Evidence) -> list[Panel]:
    """Loss, kappa and accuracy of training and validation, and the validation recall of a few classes."""
    best, epochs = run.model.get("best_epoch") if run.finished else None, [row["epoch"] for row in run.rows]

    def panel(title: str, learned: str, judged: str, **rest: Any) -> Panel:
        training, validation = ([row.get(key) for row in run.rows] for key in (learned, judged))
        lines = [Line(label="training", x=epochs, y=training, look="dashed muted")]
        lines += [Line(label="validation", x=epochs, y=validation)] if judged in run.rows[0] else []
        return Panel(title=title, lines=lines, best=best, **rest)

    panels = [panel("Loss", "loss", "val_loss")]
    if run.ordered:
        panels.append(panel("Quadratic kappa", "train_kappa", "val_kappa", share=True))
    most = max(run.card.get("counts", {}).get("val", {}).get("per_class", {}).values(), default=0)
    levels = [Level(label="constant answer", value=most / run.images("val"))] if most else []
    panels.append(panel("Accuracy", "train_accuracy", "val_accuracy", share=True, levels=levels))
    if 2 <= len(run.classes) <= MOST_CLASSES and "val_recall" in run.rows[0]:
        lines = [Line(label=label, x=epochs, y=[row["val_recall"][k] for row in run.rows], look=series(k))
                 for k, label in enumerate(run.classes)]  # fmt: skip
        panels.append(Panel(title="Validation recall by class", lines=lines, best=best, share=True))
    return panels


def pretraining_panels(run: Evidence) -> list[Panel]:
    """The loss between its bounds and measures of the embeddings by step; the probe by epoch."""
    panels = []
    limits = [Level(label=f"{label}, {run.health[key]:.2f}", value=run.health[key], look=f"level {dashes}")
              for label, key, dashes in BOUNDS if key in run.health]  # fmt: skip
    for key, title in NAMES["pretraining"].items():
        if rows := [row for row in run.rows if row.get(key) is not None]:
            line = Line(label=key, x=[row["step"] for row in rows], y=[row[key] for row in rows])
            levels = limits if key == "loss" else []
            panels.append(Panel(title="Contrastive loss" if levels else title, x_label="step", lines=[line],
                                levels=levels))  # fmt: skip
    if run.probe is not None and len(run.probe):
        panels.append(_probe(run.probe))
    return panels


def _probe(table: pd.DataFrame) -> Panel:
    """Nearest neighbours and linear probe with their intervals; epoch 0 is the encoder before training."""
    lines, levels = [], []
    for number, (probe, rows) in enumerate(table.groupby("probe", sort=True)):
        colour, epochs = series(number), rows["epoch"].tolist()
        lines.append(Line(label=str(probe), x=epochs, y=rows["value"].tolist(), look=colour, dotted=True))
        for end, label in (("low", f"{probe}, its interval"), ("high", "")):
            lines.append(Line(label=label, x=epochs, y=rows[end].tolist(), look=f"dashed {colour}"))
        for first in rows[rows["epoch"] == 0]["value"].head(1):
            look = ("level dotted", "level dashed")[number % 2]
            levels.append(Level(label=f"{probe} before, {first:.2f}", value=float(first), look=look))
    row = table.iloc[0]
    title = f"Probe: {str(row['metric']).replace('_', ' ')} (n {row['n']:,} in {row['groups']:,} groups)"
    return Panel(title=title, lines=lines, levels=levels)
