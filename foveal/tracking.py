"""Tracking: with --track, the rows of metrics.jsonl also go to TensorBoard, MLflow or Weights & Biases.

metrics.jsonl is always written, and the rest of Foveal reads only that. Trackers help to watch many runs at once.
"""

import os
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foveal.errors import FovealError
from foveal.files import write_text

KEY = "mlflow.txt"  # in the run folder: the id of the MLflow run that a resumed run continues
WANDB_KEY = "wandb.txt"  # the same of Weights & Biases


def open_trackers(names: Sequence[str], run: Path, verb: str, options: Mapping[str, Any]) -> list["Tracker"]:
    """The trackers with these names; FovealError if a package is missing."""
    trackers: list[Tracker] = []
    for name in names:
        try:
            trackers.append(TRACKERS[name](run, verb, options))
        except ImportError as error:
            fix = f"pip install 'foveal[{name}]'"
            raise FovealError("package.missing", f"--track {name} needs the package {name}", fix=fix) from error
    return trackers


def numbers_of(row: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a row by name; an item of a list is named by its position, and empty values are left out."""
    found: dict[str, float] = {}
    for name, value in row.items():
        listed = isinstance(value, list)
        parts = {f"{name}/{place}": part for place, part in enumerate(value)} if listed else {name: value}
        found |= {key: float(part) for key, part in parts.items() if isinstance(part, int | float)}
    return found


class TensorBoard:
    """Event files in RUN/tensorboard: `tensorboard --logdir RUNS` shows all runs below a folder."""

    def __init__(self, run: Path, verb: str, options: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run / "tensorboard"))
        self._writer.add_text("options", "\n".join(f"    {key} = {value}" for key, value in options.items()), 0)

    def log(self, row: Mapping[str, Any]) -> None:
        """Send one row; its entry `step` gives its position."""
        for name, value in numbers_of(row).items():
            if name != "step":
                self._writer.add_scalar(name, value, row["step"])
        self._writer.flush()

    def close(self) -> None:
        """Close the event file."""
        self._writer.close()


class MLflow:
    """A run of the experiment `foveal VERB`; stored at $MLFLOW_TRACKING_URI, else in mlflow.db beside RUN."""

    def __init__(self, run: Path, verb: str, options: Mapping[str, Any]) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # nothing is sent that nobody asked for
        from mlflow.tracking import MlflowClient

        store = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(run.parent / 'mlflow.db').absolute()}"
        self._client = MlflowClient(store)
        key = run / KEY
        if not key.is_file():
            found = self._client.get_experiment_by_name(f"foveal {verb}")
            experiment = found.experiment_id if found else self._client.create_experiment(f"foveal {verb}")
            created = self._client.create_run(experiment, run_name=run.name)
            for name, value in options.items():
                self._client.log_param(created.info.run_id, name, str(value)[:500])
            write_text(key, created.info.run_id)
        self._run = key.read_text(encoding="utf-8")

    def log(self, row: Mapping[str, Any]) -> None:
        """Send one row."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        found = numbers_of(row)
        self._client.log_batch(self._run, [Metric(name, value, now, int(row["step"])) for name, value in found.items()])

    def close(self) -> None:
        """Mark the run as finished."""
        self._client.set_terminated(self._run)


class WeightsAndBiases:
    """A run of the project `foveal-VERB` in RUN/wandb; sent by `wandb sync`, or at once with WANDB_MODE=online."""

    def __init__(self, run: Path, verb: str, options: Mapping[str, Any]) -> None:
        for name, value in (("WANDB_MODE", "offline"), ("WANDB_ERROR_REPORTING", "false")):
            os.environ.setdefault(name, value)  # nothing is sent that nobody asked for
        import wandb

        key = run / WANDB_KEY
        if not key.is_file():
            write_text(key, secrets.token_hex(8))
        self._run = wandb.init(
            project=f"foveal-{verb}", name=run.name, id=key.read_text(encoding="utf-8"), resume="allow", dir=run,
            config=dict(options), settings=wandb.Settings(console="off", silent=True),
        )  # fmt: skip

    def log(self, row: Mapping[str, Any]) -> None:
        """Send one row."""
        self._run.log(numbers_of(row), step=int(row["step"]))

    def close(self) -> None:
        """Mark the run as finished."""
        self._run.finish()


Tracker = TensorBoard | MLflow | WeightsAndBiases
TRACKERS: dict[str, type[Tracker]] = {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WeightsAndBiases}
