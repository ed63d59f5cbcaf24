"""The run folder: resolved configuration, provenance, metrics, and the point from which a run resumes.

docs/reference/files.md lists its files.
"""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import MISSING, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from foveal.config import flat, plain, read_options, read_toml, to_toml
from foveal.console import is_first_process, say, warn
from foveal.errors import FovealError
from foveal.files import add_line, is_free, read_json, remove_unfinished, sha256_of, whole_lines, write_json, write_text
from foveal.given import Given
from foveal.tracking import Tracker, open_trackers

# Options that may change when a run resumes: they decide where it runs, not what it computes.
FREE_OPTIONS = ("device", "track", "micro_batch")
# Endings of files of weights; another --init is a run folder.
WEIGHT_FILES = (".safetensors", ".pth", ".pt", ".tar", ".ckpt", ".bin")
FINISHED = "encoder.safetensors"  # written at the end of pretrain and train
LIBRARIES = ("foveal", "torch", "timm", "numpy", "opencv-python-headless", "pandas", "scikit-learn")


class Run:
    """A run folder that exists; made by `open_run`."""

    def __init__(self, path: Path, trackers: Sequence[Tracker] = (), functions: Sequence[Any] = ()) -> None:
        self.path, self.trackers, self.functions = path, trackers, functions
        self.checkpoint, self.metrics_file = path / "checkpoint.pt", path / "metrics.jsonl"

    def log(self, row: Mapping[str, Any]) -> None:
        """Append one row to metrics.jsonl (first process only); send it to trackers and functions."""
        # Nine significant digits: more than float32 holds, so that a resumed run can be compared exactly.
        rounded = {key: float(f"{v:.9g}") if isinstance(v, float) else v for key, v in row.items()}
        if is_first_process():
            add_line(self.metrics_file, json.dumps(rounded))
        for tracker in self.trackers:
            tracker.log(row)
        for function in self.functions:
            try:
                function(rounded)
            except Exception as error:  # noqa: BLE001 - hours of training must not end here
                what = f"{Given(function)} failed ({type(error).__name__}: {error})"
                warn(f"the tracker {what}; training continues without it")
                self.functions = [each for each in self.functions if each is not function]

    def close(self) -> None:
        """Close the trackers."""
        for tracker in self.trackers:
            tracker.close()

    def forget_after(self, step: int) -> None:
        """Drop the metric rows after `step`; the resumed run computes them again."""
        if is_first_process() and self.metrics_file.exists():
            kept = "".join(json.dumps(row) + "\n" for row in read_metrics(self.path) if row["step"] <= step)
            if kept != self.metrics_file.read_text(encoding="utf-8"):
                write_text(self.metrics_file, kept)


def check_out(out: Path, verb: str, config: Any, free: Sequence[str] = FREE_OPTIONS) -> bool:
    """True if `out` is a run with these options, which can be resumed; False if it is free. Writes nothing.

    free: options that may differ; a finished run may get more epochs. FovealError if `out` is anything else.
    """
    if is_free(out):
        return False
    if not (out / "config.toml").is_file():
        what = f"--out {out} exists and is not a run folder"
        raise FovealError("output.exists", what, fix="choose another --out or empty it")
    try:
        before = read_options(out / "config.toml", verb, type(config))
    except FovealError as error:
        if error.code != "config.verb":
            raise
        raise FovealError("output.exists", f"--out {out} is another verb's run", fix="choose another --out") from None
    now, before = flat(plain(config)), flat(before)
    # Options that were added after the run was made count as set to their defaults.
    usual = flat({field.name: field.default for field in fields(config)})
    before |= {name: usual[name] for name in now if name not in before and usual.get(name, MISSING) is not MISSING}
    for key in [key for key in now if isinstance(now[key], list)]:  # as text in earlier versions, as a tuple by default
        before[key] = [before[key]] if isinstance(before.get(key), str) else list(before.get(key, ()))
    differ = {key for key in {*before, *now} if _comparable(before.get(key)) != _comparable(now.get(key))}
    different = sorted(differ.difference(("out", *free)))
    longer = "budget" not in now and now.get("epochs", 0) > before.get("epochs", 0) and (out / FINISHED).is_file()
    if different and not (longer and {*different} <= {"epochs", "budget"}):
        listed = "; ".join(f"{key} was {_words(before.get(key))}, now {_words(now.get(key))}" for key in different)
        more = "; --epochs N without --budget goes on" * bool(before.get("budget") and (out / FINISHED).is_file())
        begin = f"; --init {out} starts a new run from its weights" if "init" in now else ""
        what = f"--out {out} is a run with other options: {listed}"
        raise FovealError("run.other_options", what, fix=f"choose another --out or delete the folder{more}{begin}")
    return True


def _comparable(value: Any) -> Any:
    """The value of an option, in which a relative and an absolute path of the same file are equal."""
    if isinstance(value, list | tuple):
        return [_comparable(each) for each in value]
    return Path(value).resolve() if isinstance(value, str) and value else value


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else "not set" if value is None else str(value)


def open_run(out: Path, verb: str, config: Any, data: Mapping[str, str], free: Sequence[str] = FREE_OPTIONS) -> Run:
    """Create or reopen the run folder `out`; `data` maps each prepared set to its content hash."""
    if check_out(out, verb, config, free) and (out / "provenance.json").is_file():
        known = read_json(out / "provenance.json")
        before = known["data"]
        if changed := [name for name, content in data.items() if before.get(name, content) != content]:
            what = f"{', '.join(changed)} has changed since the run {out} began"
            raise FovealError("run.data_changed", what, fix="choose another --out")
        if not data.keys() <= before.keys():  # sets that were added later must not change either
            write_json(out / "provenance.json", known | {"data": before | dict(data)})
        epochs, earlier = getattr(config, "epochs", None), read_toml(out / "config.toml", verb).get("epochs")
        if epochs is not None and earlier is not None and epochs > earlier:
            schedule = f"learning rate and image size now follow the schedule of a run of {epochs} epochs"
            say(f"{out} is finished; training continues from epoch {earlier} to {epochs}: {schedule}")
            write_json(out / "provenance.json", read_json(out / "provenance.json") | {"extended_from": earlier})
            write_text(out / "config.toml", to_toml(verb, config))
    else:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / "config.toml", to_toml(verb, config))
        objects = {name: value for name, value in vars(config).items() if isinstance(value, Given)}
        write_json(out / "provenance.json", provenance(config, data) | ({"objects": objects} if objects else {}))
        if objects:
            listed = ", ".join(f"{name} {value}" for name, value in objects.items())
            say(f"{out} was made with {listed}: to resume it or to open its encoder, give the same objects again")
    track = getattr(config, "track", ())
    trackers = open_trackers([name for name in track if not isinstance(name, Given)], out, verb, plain(config))
    return Run(out, trackers, [name.given for name in track if isinstance(name, Given)])


def failed_maps(run: Path, method: str) -> bool:
    """Whether `foveal explain` found that the maps of a method do not depend on what the run has learned."""
    file = run / "explain" / "explain.json"
    found = read_json(file) if file.is_file() else {}
    failed = found.get("checks", {}).get(method, {}).get("passed") is False
    return failed and found["weights"] == sha256_of(run / "best.pt")


def record_weights(out: Path, weights: Mapping[str, Mapping[str, Any]]) -> None:
    """Add to RUN/provenance.json where starting weights come from, by --init (first process only).

    What is known stays: the weights of a resumed run come from its checkpoint, even if the file has changed since.
    """
    if is_first_process():
        known = read_json(out / "provenance.json")
        if not weights.keys() <= known.get("weights", {}).keys():
            write_json(out / "provenance.json", known | {"weights": dict(weights) | known.get("weights", {})})


@contextmanager
def sole_writer(folder: Path, verb: str) -> Iterator[None]:
    """Let only this process write to the folder; FovealError while another does. The lock ends with its process."""
    if os.name == "nt":  # Windows cannot open a folder
        folder.mkdir(parents=True, exist_ok=True)
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        stream = os.open(folder, os.O_RDONLY)
    except OSError as error:
        what = f"{folder} cannot be created or written: {error.strerror}"
        raise FovealError("output.unwritable", what, fix="choose another --out") from error
    try:
        if not locked(stream):
            what = f"another foveal {verb} is writing to {folder}"
            raise FovealError("output.busy", what, fix="wait until it has finished, or stop it")
        remove_unfinished(folder)
        yield
    finally:
        os.close(stream)


def locked(stream: int) -> bool:
    """Lock an open file or folder until it is closed or its process dies; False if another process has it.

    Also True if locking is not supported: on some systems and some network file systems.
    """
    try:
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError) as error:
        return not isinstance(error, BlockingIOError)
    return True


def provenance(config: Any, data: Mapping[str, str]) -> dict[str, Any]:
    """Where a result comes from: command, versions, commit, seed, hardware, data hashes, time."""
    import torch

    program = Path(sys.argv[0])
    ours = program.name.startswith("foveal") or program.parts[-2:] == ("foveal", "__main__.py")  # python -m foveal
    folder, commit = Path(__file__).parent.parent, None
    if (folder / ".git").exists():  # Foveal's own checkout, not an installed package; + marks changes
        describe = ["git", "describe", "--always", "--exclude=*", "--abbrev=40", "--dirty=+"]
        with suppress(OSError, subprocess.CalledProcessError):
            commit = subprocess.run(describe, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    return {
        "command": " ".join(["foveal", *sys.argv[1:]]) if ours else sys.argv[0],
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "seed": getattr(config, "seed", None),
        "commit": commit,
        "versions": {"python": platform.python_version(), **{name: version_of(name) for name in LIBRARIES}},
        "hardware": {
            "machine": platform.machine(), "system": platform.system(), "cpu_cores": os.cpu_count(),
            "torch_threads": torch.get_num_threads(),
            "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        },
        "data": dict(data),
    }  # fmt: skip


def version_of(name: str) -> str | None:
    """The installed version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def set_of(options: Mapping[str, Any]) -> str:
    """The prepared set in the options of a training; earlier versions wrote a path, not a list with one."""
    data = options["data"]
    return str(data if isinstance(data, str) else data[0])


def started_in(run: Path, out: str) -> Path:
    """The working directory of the command that wrote `run` with --out `out`, to resolve its relative paths."""
    here, written = run.resolve(), Path(out)
    if written.is_absolute() or not written.parts or here.parts[-len(written.parts) :] != written.parts:
        return Path()
    return Path(*here.parts[: -len(written.parts)])


def data_of(run: Path) -> Path:
    """The prepared set that a grader was trained on, which may be gone."""
    options = read_toml(run / "config.toml", "train")
    return started_in(run, str(options.get("out", ""))) / set_of(options)


def read_metrics(run: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The rows of RUN/metrics.jsonl, oldest first, without a torn last line; FovealError if `run` is not a run."""
    if not any(Path(run, name).is_file() for name in ("metrics.jsonl", "config.toml")):
        raise FovealError("run.not_a_run", f"{run} is not a run folder", fix="give the --out of pretrain or train")
    return [json.loads(line) for line in whole_lines(Path(run, "metrics.jsonl"))]


def read_model(run: str | os.PathLike[str]) -> dict[str, Any]:
    """RUN/model.json; FovealError if `run` is not a run folder that has one."""
    run = Path(run)
    if not (run / "model.json").is_file():
        what = f"{run} is not a run folder with a model: it has no model.json"
        raise FovealError("run.not_a_run", what, fix="give the --out of pretrain or train")
    model = read_json(run / "model.json")
    if "kind" not in model:
        raise FovealError("run.damaged", f"{run}/model.json does not name the kind of model", fix="copy the run again")
    return model
