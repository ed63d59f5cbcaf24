"""The verbs: a literal table for the command line, and the same as Python functions.

A verb's options are the fields of the dataclass that `options_of` finds; an unknown option is an error that names the
nearest one. torch is imported when a verb needs it. `load` is not a verb: it opens a grader for use in a program.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from foveal.config import build
from foveal.errors import FovealError
from foveal.given import Given

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import nn
    from torch.utils.data import Dataset

    from foveal.augment.recipes import View
    from foveal.predict.loaded import LoadedGrader
    from foveal.pretrain.interface import TwoViews

PathLike = str | os.PathLike[str]
Paths: TypeAlias = PathLike | Iterable[PathLike]  # where several are given: each, or one list of them
# Images of a program: an array [n, h, w(, 3)], (images, labels(, patients)), a list, a Dataset (sources/given.py).
Images: TypeAlias = "np.ndarray | tuple[Any, ...] | list[Any] | Dataset[Any]"

# verb -> (module of foveal with the function of that name, module with its options VerbConfig, what it does)
VERBS = {
    "demo": ("demo", "demo", "run every step on drawn photographs, in a few minutes"),
    "prepare": ("sets.prepare", "sets.options", "decode, crop and split a source once, into a prepared set"),
    "inspect": ("inspect.inspect", "inspect.inspect", "show what prepared sets contain, and what could mislead"),
    "cluster": ("cluster.cluster", "cluster.cluster", "find images that look alike, and see whether labels agree"),
    "correct": ("serve.correct", "serve.correct", "record second opinions on grades, stored beside the set"),
    "weights": ("nets.weights", "nets.weights", "show what a file of weights contains, and which encoder it fits"),
    "pretrain": ("pretrain.loop", "pretrain.options", "learn an encoder from images without labels"),
    "probe": ("compare.probe", "compare.probe", "measure how well frozen features predict the labels, in minutes"),
    "train": ("train.train", "train.options", "train a grader: fine-tune, or a linear probe with --freeze"),
    "pseudolabel": ("compare.pseudolabel", "compare.pseudolabel",
                    "grade ungraded images, and train again with the confident ones"),
    "compare": ("compare.compare", "compare.options", "compare starting weights, to see whether pre-training helped"),
    "predict": ("predict.predict", "predict.predict", "grade photographs with a trained run"),
    "embed": ("predict.embed", "predict.embed", "write a vector for each photograph, for other programs"),
    "evaluate": ("predict.cohort", "evaluate.evaluate", "evaluate predictions: every metric with an interval"),
    "select": ("predict.select", "predict.select", "choose which ungraded photographs to grade next"),
    "adapt": ("adapt.adapt", "adapt.adapt", "fit calibration and cutoffs to a clinic, from its graded photographs"),
    "explain": ("explain.explain", "explain.explain", "show where a grader looks"),
    "export": ("export.export", "export.options", "write files for other programs, checked against the run"),
    "report": ("report.build", "report.build", "write one page of evidence from one or more runs"),
    "document": ("report.document", "report.document", "write a model card, a data sheet and reporting checklists"),
    "serve": ("serve.serve", "serve.options", "serve a grader as a web page and an API"),
    "audit": ("serve.audit", "serve.audit", "check that the log of a server is complete and unchanged"),
    "monitor": ("serve.monitor", "serve.monitor", "chart how often a server refers and is overridden, by week"),
    "erase": ("serve.erase", "serve.erase", "delete what a server has stored about a patient, or before a day"),
}  # fmt: skip

# Some verbs share their name with a room. The rooms are imported here (they load little), before `foveal/__init__.py`
# binds the functions below to their names: so `foveal.pretrain` is the verb, and `from foveal.pretrain.loop import …`
# still finds the room.
for _function, _options, _ in VERBS.values():
    for _module in (_function, _options):
        importlib.import_module(f"foveal.{_module.partition('.')[0]}")


def options_of(verb: str) -> type:
    """The dataclass of a verb's options."""
    return getattr(importlib.import_module(f"foveal.{VERBS[verb][1]}"), f"{verb.capitalize()}Config")


def has_option(verb: str, flag: str) -> bool:
    """Whether a verb has an option, by the source of its dataclass: to import all of them would load torch."""
    found = importlib.util.find_spec(f"foveal.{VERBS[verb][1]}")
    source = Path(found.origin).read_text("utf-8") if found and found.origin else ""
    body = source.partition(f"class {verb.capitalize()}Config")[2].partition("\n\n\n")[0]
    return f"\n    {flag.lstrip('-').partition('.')[0].replace('-', '_')}: " in body


def function_of(verb: str) -> Callable[..., Any]:
    """The function of a verb, which takes its options."""
    return getattr(importlib.import_module(f"foveal.{VERBS[verb][0]}"), verb)


def _call(verb: str, options: Mapping[str, Any], network: nn.Module | None = None, **given: Any) -> Any:
    for name, value in given.items():
        alone = value[0] if isinstance(value, tuple) and len(value) == 1 else ""
        if isinstance(alone, Iterable) and not isinstance(alone, str | os.PathLike):
            given[name] = alone  # several paths as one list
    config: Any = build(options_of(verb), given | dict(options), verb)
    torch = sys.modules.get("torch")  # verbs seed its generators; those of the calling program stay as they are
    devices = range(torch.cuda.device_count()) if torch and torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices) if torch else contextlib.nullcontext():
        return function_of(verb)(config, *([] if network is None else [Given(network)]))


def _given(options: Mapping[str, Any], **objects: Any) -> dict[str, Any]:
    """The options with those of `objects` that are not None; what is not a name becomes an object with a name."""
    objects = {key: value for key, value in objects.items() if value is not None}
    named: dict[str, Any] = {key: value if isinstance(value, str) else Given(value) for key, value in objects.items()}
    if "tracker" in named:
        if not callable(getattr(named["tracker"], "given", None)):
            raise FovealError("option.value", f"tracker={named['tracker']}", expected="a function of a dictionary")
        tracks = options.get("track", ())
        named["track"] = (*([tracks] if isinstance(tracks, str) else tracks), named.pop("tracker"))
    return {**options, **named}


def _sets(verb: str, options: Mapping[str, Any], data: Iterable[PathLike | Images], out: PathLike) -> list[PathLike]:
    """Prepared sets as they are; images of a program become sets beside `out`: OUT-data, OUT-data2, …"""
    build(options_of(verb), {"data": out, "out": out, **options}, verb)  # refuses wrong options before images are read
    found: list[PathLike] = []
    for place, each in enumerate(data, 1):
        if not isinstance(each, str | os.PathLike) and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            what = "several processes would prepare the images at the same time"
            raise FovealError("option.processes", what, fix="call foveal.prepare first, in a single process")
        beside = f"{os.fspath(out)}-data{place if place > 1 else ''}"
        found.append(each if isinstance(each, str | os.PathLike) else prepare(each, out=beside))
    return found


def demo(**options: Any) -> Path:
    """Run every step on drawn photographs; returns the report."""
    return _call("demo", options)


def prepare(*source: PathLike | Images, out: PathLike, **options: Any) -> Path:
    """Prepare a source, which may be images of a program, or join prepared sets; returns the new set."""
    sources = [each if isinstance(each, str | os.PathLike) else Given(each) for each in source]
    if len(sources) > 1 and any(isinstance(each, Given) for each in sources):
        raise FovealError("option.conflict", "images of a program cannot be joined", fix="prepare each, then join them")
    return _call("prepare", options, source=sources, out=out)


def inspect(*data: Paths, **options: Any) -> dict[str, Any]:
    """Inspect prepared sets; returns all numbers."""
    return _call("inspect", options, data=data)


def correct(data: PathLike, image: str = "", **options: Any) -> Path:
    """Correct one label of a prepared set, or all labels that reviews correct; returns corrections.csv."""
    return _call("correct", options, data=data, image=image)


def cluster(*data: Paths, **options: Any) -> dict[str, Any]:
    """Cluster and map images, find neighbours; returns all numbers."""
    return _call("cluster", options, data=data)


def weights(file: PathLike) -> dict[str, Any]:
    """Show what a file of weights contains; returns the same."""
    return _call("weights", {}, file=file)


def pretrain(
    *data: PathLike | Images, out: PathLike, encoder: str | nn.Module | None = None,
    method: str | Callable[[nn.Module, int], TwoViews] | None = None,
    views: str | View | tuple[View, View] | None = None,
    tracker: Callable[[dict[str, Any]], object] | None = None, **options: Any,
) -> Path:  # fmt: skip
    """Pre-train an encoder; returns the run folder.

    data: prepared sets, or images of a program, which are prepared beside `out`. encoder: a name, or a module
    [B, C, s, s] -> [B, D], of which a copy is trained. method: a name, or a function of (encoder, D) that gives a
    `foveal.pretrain.interface.TwoViews`, such as a subclass. views: a recipe by name or as an object, a function of
    images, or a pair of these. tracker: gets each row of metrics.jsonl. See docs/howto/own_objects.md.
    """
    options = _given(options, encoder=encoder, method=method, views=views, tracker=tracker)
    return _call("pretrain", options, data=_sets("pretrain", options, data, out), out=out)


def probe(data: PathLike, *, encoder: str | nn.Module | None = None, **options: Any) -> pd.DataFrame:
    """Probe frozen encoders, which may be a module with its own weights (init="random"); returns the table."""
    return _call("probe", _given(options, encoder=encoder), data=data)


def train(
    *data: PathLike | Images, out: PathLike, encoder: str | nn.Module | None = None, views: str | View | None = None,
    tracker: Callable[[dict[str, Any]], object] | None = None, **options: Any,
) -> Path:  # fmt: skip
    """Train a grader; returns the run folder. `pretrain` says which objects it takes in place of names."""
    options = _given(options, encoder=encoder, views=views, tracker=tracker)
    return _call("train", options, data=_sets("train", options, data, out), out=out)


def pseudolabel(run: PathLike, *data: Paths, out: PathLike, **options: Any) -> Path:
    """Pseudo-label and train again; returns the table."""
    return _call("pseudolabel", options, run=run, data=data, out=out)


def compare(*data: Paths, out: PathLike, **options: Any) -> pd.DataFrame:
    """Compare starting weights, and sources held out; returns the table."""
    return _call("compare", options, data=data, out=out)


def predict(run: PathLike, *images: Paths, **options: Any) -> Path:
    """Grade pictures; returns the table of predictions."""
    return _call("predict", options, run=run, images=images)


def embed(
    run: PathLike | nn.Module, source: PathLike | Images, out: PathLike | None = None,
    encoder: nn.Module | None = None, **options: Any,
) -> pd.DataFrame:  # fmt: skip
    """Embed photographs, or images of a program; returns the table, and writes it only if `out` is given.

    run: a run folder, the name of a network, or a module [B, C, s, s] -> [B, D] with its own weights. encoder: the
    network that the run was made with, if it was not a name.
    """
    if encoder is not None and not (isinstance(run, str | os.PathLike) and Path(run).is_dir()):
        raise FovealError("option.conflict", "encoder is given, but run is not a run folder", fix="leave out encoder")
    network = {"run": os.fspath(run)} if isinstance(run, str | os.PathLike) else {"run": Given(run), "init": "random"}
    images = source if isinstance(source, str | os.PathLike) else Given(source)
    return _call("embed", network | options, encoder, source=images, out=out)


def evaluate(source: PathLike, **options: Any) -> Path:
    """Evaluate predictions; returns metrics.json."""
    return _call("evaluate", options, source=source)


def select(data: PathLike, *, run: PathLike, **options: Any) -> pd.DataFrame:
    """Choose photographs to grade next; returns the worklist."""
    return _call("select", options, data=data, run=run)


def adapt(run: PathLike, *, to: PathLike, **options: Any) -> Path:
    """Fit a grader's calibration and cutoffs to a clinic; returns the new run folder."""
    return _call("adapt", options, run=run, to=to)


def explain(run: PathLike, *images: Paths, **options: Any) -> Path:
    """Make heat maps of where a grader looks; returns explain.json."""
    return _call("explain", options, run=run, images=images)


def export(run: PathLike, encoder: nn.Module | None = None, **options: Any) -> Path:
    """Write a grader for other programs; returns the folder. encoder: as for `load`."""
    return _call("export", options, encoder, run=run)


def serve(run: PathLike, **options: Any) -> None:
    """Serve a grader until it is stopped."""
    _call("serve", options, run=run)


def audit(database: PathLike, **options: Any) -> dict[str, Any]:
    """Check the log of a server; returns its last line and the number of lines of each kind."""
    return _call("audit", options, database=database)


def monitor(database: PathLike, **options: Any) -> pd.DataFrame:
    """Chart the rates of a server by week; returns the table."""
    return _call("monitor", options, database=database)


def erase(database: PathLike, **options: Any) -> dict[str, int]:
    """Delete what a server stored about a patient, or before a day; returns how many lines, reviews, photographs."""
    return _call("erase", options, database=database)


def report(*runs: Paths, **options: Any) -> Path:
    """Write a page of evidence; returns its path."""
    return _call("report", options, runs=runs)


def document(run: PathLike, **options: Any) -> Path:
    """Write a model card, a data sheet and reporting checklists; returns their folder."""
    return _call("document", options, run=run)


def load(
    run: PathLike, *, device: str = "auto", tta: str = "auto", ungradable: Iterable[str] | None = None,
    encoder: nn.Module | None = None,
) -> LoadedGrader:  # fmt: skip
    """Load a grader: `foveal.load(RUN).predict(photographs)` gives a DataFrame. See `LoadedGrader`."""
    from foveal.predict.loaded import load

    return load(Path(run), device=device, tta=tta, ungradable=ungradable, encoder=encoder)
