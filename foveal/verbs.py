"""The verbs as Python functions, with the options of the command line.

    foveal.pretrain("data/pool", out="runs/pool", encoder="resnet18", epochs=50)

is `foveal pretrain data/pool --out runs/pool --encoder resnet18 --epochs 50`. Each function takes the options of its
config class by name; an unknown option is an error that names the nearest one. torch is imported when a verb needs it.
`load` is not a verb: it opens a grader for use in a program.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveal.config import build

if TYPE_CHECKING:
    import pandas as pd

    from foveal.predict.loaded import LoadedGrader

PathLike = str | os.PathLike[str]


def demo(**options: Any) -> Path:
    """Run every step on drawn photographs; returns the report. Options: `foveal.demo.DemoConfig`."""
    from foveal.demo import DemoConfig, demo

    return demo(build(DemoConfig, options, "demo"))


def prepare(*source: PathLike, out: PathLike, **options: Any) -> Path:
    """Prepare a source, or join prepared sets; returns the new set. Options: `foveal.sets.options.PrepareConfig`."""
    from foveal.sets.options import PrepareConfig
    from foveal.sets.prepare import prepare

    return prepare(build(PrepareConfig, {"source": source, "out": out, **options}, "prepare"))


def inspect(*data: PathLike, **options: Any) -> dict[str, Any]:
    """Inspect prepared sets; returns all numbers. Options: `foveal.inspect.inspect.InspectConfig`."""
    from foveal.inspect.inspect import InspectConfig, inspect

    return inspect(build(InspectConfig, {"data": data, **options}, "inspect"))


def correct(data: PathLike, image: str, **options: Any) -> Path:
    """Correct a label of a prepared set; returns corrections.csv. Options: `foveal.sets.correct.CorrectConfig`."""
    from foveal.sets.correct import CorrectConfig, correct

    return correct(build(CorrectConfig, {"data": data, "image": image, **options}, "correct"))


def cluster(*data: PathLike, **options: Any) -> dict[str, Any]:
    """Cluster and map images, find neighbours; returns all numbers. Options: `foveal.cluster.cluster.ClusterConfig`."""
    from foveal.cluster.cluster import ClusterConfig, cluster

    return cluster(build(ClusterConfig, {"data": data, **options}, "cluster"))


def pretrain(*data: PathLike, out: PathLike, **options: Any) -> Path:
    """Pre-train an encoder; returns the run folder. Options: `foveal.pretrain.options.PretrainConfig`."""
    from foveal.pretrain.loop import pretrain
    from foveal.pretrain.options import PretrainConfig

    return pretrain(build(PretrainConfig, {"data": data, "out": out, **options}, "pretrain"))


def probe(data: PathLike, **options: Any) -> pd.DataFrame:
    """Probe frozen encoders; returns the table. Options: `foveal.compare.probe.ProbeConfig`."""
    from foveal.compare.probe import ProbeConfig, probe

    return probe(build(ProbeConfig, {"data": data, **options}, "probe"))


def train(data: PathLike, *, out: PathLike, **options: Any) -> Path:
    """Train a grader; returns the run folder. Options: `foveal.train.options.TrainConfig`."""
    from foveal.train.options import TrainConfig
    from foveal.train.train import train

    return train(build(TrainConfig, {"data": data, "out": out, **options}, "train"))


def pseudolabel(run: PathLike, *data: PathLike, out: PathLike, **options: Any) -> Path:
    """Pseudo-label and train again; returns the table. Options: `foveal.compare.pseudolabel.PseudolabelConfig`."""
    from foveal.compare.pseudolabel import PseudolabelConfig, pseudolabel

    return pseudolabel(build(PseudolabelConfig, {"run": run, "data": data, "out": out, **options}, "pseudolabel"))


def compare(data: PathLike, *, out: PathLike, **options: Any) -> pd.DataFrame:
    """Compare starting weights; returns the table. Options: `foveal.compare.options.CompareConfig`."""
    from foveal.compare.compare import compare
    from foveal.compare.options import CompareConfig

    return compare(build(CompareConfig, {"data": data, "out": out, **options}, "compare"))


def load(
    *runs: PathLike, device: str = "auto", tta: str = "auto", ungradable: Iterable[str] | None = None
) -> LoadedGrader:  # fmt: skip
    """Load a grader: `foveal.load(RUN).predict(photographs)` gives a DataFrame. See `foveal.predict.loaded`."""
    from foveal.predict.loaded import load

    return load(*map(Path, runs), device=device, tta=tta, ungradable=ungradable)


def predict(run: PathLike, *images: PathLike, **options: Any) -> Path:
    """Grade pictures; returns the table of predictions. Options: `foveal.predict.predict.PredictConfig`."""
    from foveal.predict.predict import PredictConfig, predict

    return predict(build(PredictConfig, {"run": run, "images": images, **options}, "predict"))


def evaluate(source: PathLike, *others: PathLike, **options: Any) -> Path:
    """Measure predictions; returns metrics.json. Options: `foveal.evaluate.evaluate.EvaluateConfig`."""
    from foveal.evaluate.evaluate import EvaluateConfig, evaluate

    return evaluate(build(EvaluateConfig, {"source": source, "others": others, **options}, "evaluate"))


def explain(run: PathLike, *images: PathLike, **options: Any) -> Path:
    """Map where a grader looks; returns explain.json. Options: `foveal.explain.explain.ExplainConfig`."""
    from foveal.explain.explain import ExplainConfig, explain

    return explain(build(ExplainConfig, {"run": run, "images": images, **options}, "explain"))


def export(run: PathLike, **options: Any) -> Path:
    """Write a grader for other programs; returns the folder. Options: `foveal.export.options.ExportConfig`."""
    from foveal.export.export import export
    from foveal.export.options import ExportConfig

    return export(build(ExportConfig, {"run": run, **options}, "export"))


def serve(run: PathLike, **options: Any) -> None:
    """Serve a grader until it is stopped. Options: `foveal.serve.options.ServeConfig`."""
    from foveal.serve.options import ServeConfig
    from foveal.serve.serve import serve

    serve(build(ServeConfig, {"run": run, **options}, "serve"))


def report(*runs: PathLike, **options: Any) -> Path:
    """Write a page of evidence; returns its path. Options: `foveal.report.build.ReportConfig`."""
    from foveal.report.build import ReportConfig, report

    return report(build(ReportConfig, {"runs": runs, **options}, "report"))
