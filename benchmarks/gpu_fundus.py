"""Measure on a GPU whether pre-training on retinal photographs helps, also on other cameras, and how fast it is.

    python benchmarks/gpu_pack.py fundus DATA --out build/gpu     # on the machine with the photographs
    python benchmarks/gpu_fundus.py --copy "$OUT"                 # on the machine with the GPU and build/gpu/fundus.zip

SimCLR at 224 px starts from ImageNet weights and uses no grades. Graders are fine-tuned from ImageNet weights with and
without SimCLR, on 10 % and on all of the labels of two sources, with three seeds. They are tested on the test parts of
these two sources (home) and on two sources that they have not seen (other cameras). One call takes at most --minutes,
7.5 by default; run the same command again to do the rest. Results:

    fundus.jsonl            a line per stage: settings, seconds, quadratic kappa and referable AUC with intervals
    fundus_predictions.csv  every graded test photograph of every grader

There are two encoders. `simclr` learns from all photographs except those on which graders are chosen or tested
(validation and test parts, and the other cameras). `simclr_all`, which runs last, learns from all photographs, like a
clinic that also uses its own ungraded photographs; the grades are never used.

Comparisons are paired: the mean over seeds with pre-training minus that without, on the same photographs, resampled by
patient. Speed: images per second of SimCLR steps, eager and compiled; the share of time that a step waits for data; and
the FLOPs of the encoder as a share of the published bf16 peak.
"""

from __future__ import annotations

from gpu_stages import Stages, machine, options, speed, speed_of, training_flops  # first: it keeps the time

# isort: split
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from gpu_pack import unpack_fundus

import foveal
from foveal import metrics
from foveal.augment.views import NetworkInput
from foveal.distributed import choose_device
from foveal.evaluate.curves import roc_area
from foveal.evaluate.difference import difference
from foveal.evaluate.intervals import Resampling
from foveal.evaluate.operating import severity
from foveal.hardware import wait_for
from foveal.nets.encoder import create_encoder, normalisation_of
from foveal.nets.weights import load_encoder_weights
from foveal.pretrain.auto import resolve, settle
from foveal.pretrain.feed import Batch, Feed
from foveal.pretrain.options import PretrainConfig
from foveal.pretrain.step import build, gradients
from foveal.readout.predictions import probability_columns, read_predictions
from foveal.schedule import set_learning_rate
from foveal.sets.leaks import pool_of
from foveal.sets.loader import ImageStore, prefetch
from foveal.sets.records import open_prepared
from foveal.sets.splits import group_codes

HOME, AWAY, POOL = ("messidor2", "aptos224"), ("malaysia", "eyepacs256"), "fundus_unlabelled"
STARTS = ("imagenet", "simclr", "simclr_all")
SHARES = {"100": 1.0, "10": 0.1}  # of the labels
CLASSES, REFERABLE = 5, 2
KEY = ["start", "labels", "seed"]  # of a grader
# The most seconds that each stage may take.
LIMITS = {"prepare": 150, "simclr": 240, "finetune": 90, "speed": 90, "summary": 60}


@dataclass(frozen=True)
class Size:
    """Sizes and numbers of epochs. seconds: time of SimCLR, which decides its epochs; 0 to use `epochs`."""

    seconds: int = 140
    epochs: int = 20
    batch: int = 256
    graded_epochs: int = 12  # with all labels; with a share f of the labels, 1 / sqrt(f) times as many
    graded_batch: int = 64
    seeds: int = 3
    timed: float = 8.0  # seconds in which steps are timed, for each speed
    compiled: tuple[str, ...] = ("no", "yes")


TOY = Size(seconds=0, epochs=1, batch=16, graded_epochs=1, graded_batch=4, seeds=1, timed=0.5, compiled=("no",))


class Fundus:
    """The stages, and the folders that they share."""

    def __init__(self, stages: Stages, packs: Path, work: Path, size: Size) -> None:
        self.stages, self.pack, self.work, self.size = stages, packs / "fundus.zip", work / "fundus", size
        self.sets, self.table = self.work / "sets", stages.results / "fundus_predictions.csv"

    @property
    def encoder(self) -> str:
        return str(self.stages.done["prepare"]["encoder"])

    def init(self, start: str) -> str:
        """The value of `--init` for a start."""
        return str(self.work / ("files/imagenet.safetensors" if start == "imagenet" else start))

    def prepare(self) -> dict[str, Any]:
        """Unpack, and prepare each source, the home sources together, and the same with a tenth of their labels."""
        files = self.work / "files"
        facts = unpack_fundus(self.pack, files)
        plain = self.preparation(facts["side"])
        for name in (*HOME, *AWAY):
            foveal.prepare(
                files / name, out=self.sets / name, dataset="table", image_column="image", label_column="label",
                group_column="patient", split_column="split", **plain,
            )  # fmt: skip
        foveal.prepare(files / POOL / "images", out=self.sets / POOL, dataset="folder", **plain)
        home = [self.sets / name for name in HOME]
        joined = open_prepared(foveal.prepare(*home, out=self.sets / "home_100"))
        train, counts = len(joined.part("train")), joined.records["split"].value_counts().to_dict()
        for seed in range(self.size.seeds):
            tenth = max(round(SHARES["10"] * train), 2 * CLASSES)
            foveal.prepare(*home, out=self.sets / f"home_10_{seed}", labelled=tenth, seed=seed)
        return {"encoder": facts["encoder"], "side": facts["side"], "webp_quality": facts["quality"], "home": counts}

    @staticmethod
    def preparation(side: int) -> dict[str, Any]:
        """The options of prepare; the photographs are already cropped."""
        return {"size": side, "crop": "none", "fundus": "yes"}

    def prepare_all(self) -> dict[str, Any]:
        """Prepare the photographs of the graded sources again, without their grades."""
        plain, files = self.preparation(self.stages.done["prepare"]["side"]), self.work / "files"
        for name in (*HOME, *AWAY):
            foveal.prepare(files / name / "images", out=self.sets / f"{name}_ungraded", dataset="folder", **plain)
        return {}

    def pool(self, start: str) -> list[Path]:
        """The sets from which SimCLR learns."""
        if start == "simclr":
            return [self.sets / "home_100", self.sets / POOL]
        return [self.sets / POOL, *(self.sets / f"{name}_ungraded" for name in (*HOME, *AWAY))]

    def simclr(self, start: str) -> dict[str, Any]:
        """Pre-train from ImageNet weights."""
        size = self.size
        length = {"budget": f"{size.seconds}s"} if size.seconds else {"epochs": size.epochs}
        run = foveal.pretrain(
            *self.pool(start), out=self.work / start, encoder=self.encoder, init=self.init("imagenet"),
            batch_size=size.batch, **length,
        )  # fmt: skip
        rows = [row for row in pd.read_json(run / "metrics.jsonl", lines=True).to_dict("records") if row["step"] > 1]
        side = self.stages.done["prepare"]["side"]
        images = sum(len(pool_of(open_prepared(path))) for path in self.pool(start))
        return {
            "images": images, "epochs": int(rows[-1]["epoch"]), "steps": int(rows[-1]["step"]),
            "loss": [round(rows[0]["loss"], 4), round(rows[-1]["loss"], 4)],
            "speed": speed_of(run, 2 * training_flops(self.encoder, side)),
        }  # fmt: skip

    def finetune(self, start: str, labels: str, seed: int) -> dict[str, Any]:
        """Train a grader, and grade all photographs on which it is tested."""
        size, out = self.size, self.work / f"{start}_{labels}_{seed}"
        data = self.sets / ("home_100" if labels == "100" else f"home_10_{seed}")
        epochs = round(size.graded_epochs / SHARES[labels] ** 0.5)
        run = foveal.train(
            data, out=out, encoder=self.encoder, init=self.init(start), epochs=epochs, batch_size=size.graded_batch,
            views="fundus", tta="flips", seed=seed, allow_leaks=start == "simclr_all",
        )  # fmt: skip
        tables = {"home": read_predictions(run / "predictions.csv").query("split == 'test'")}
        for name in AWAY:
            file = foveal.predict(run, self.sets / name, out=run / f"{name}.csv", split="test", ungradable=())
            tables[name] = read_predictions(file)
        self.keep(pd.concat([table.assign(place=place) for place, table in tables.items()]), (start, labels, seed))
        found: dict[str, Any] = {"images": len(open_prepared(data).part("train")), "epochs": epochs}
        for place, table in tables.items():
            resampling = Resampling(group_codes(table["group"]))
            measured = measures(table, resampling)
            found[place] = {name: resampling.entry(*drawn, len(table)) for name, drawn in measured.items()}
        return found | {"speed": speed_of(run, training_flops(self.encoder, self.stages.done["prepare"]["side"]))}

    def keep(self, table: pd.DataFrame, key: tuple[str, str, int]) -> None:
        """Add the predictions of a grader to the common table."""
        columns = [*KEY, "place", "id", "group", "label", "grade", *probability_columns(table)]
        own = table.assign(**dict(zip(KEY, key, strict=True)))[columns].round(5)
        if self.table.exists():
            before = predictions(self.table)
            same = (before[KEY] == list(key)).all(axis=1)
            own = pd.concat([before[~same], own])
        own.to_csv(self.table, index=False)
        self.stages.copy(self.table)

    def summary(self) -> dict[str, Any]:
        """For each place and share of labels: the mean over seeds of each start, and its difference from ImageNet."""
        rows = []
        for (place, labels), part in predictions(self.table).groupby(["place", "labels"], sort=False):
            rows += list(compared(part, {"place": place, "labels": labels}))
        return {"rows": rows}

    def speed(self, compile_: str) -> dict[str, Any]:
        """Time the steps of SimCLR."""
        config = PretrainConfig(
            data=tuple(self.pool("simclr")), out=self.work / "none", encoder=self.encoder, batch_size=self.size.batch,
            compile=compile_,
        )  # fmt: skip
        device, sets = choose_device("auto"), [open_prepared(path) for path in config.data]
        parts = [(prepared, pool_of(prepared)) for prepared in sets]
        config = resolve(config, sets)
        encoder = create_encoder(self.encoder, 3, config.image_size)
        load_encoder_weights(encoder, self.encoder, self.init("imagenet"))
        spec = NetworkInput(config.image_size, *normalisation_of(self.encoder, 3))
        feed, choice = settle(Feed(config, ImageStore(parts, device), spec, device, None))
        config = feed.config
        built = build(config, 3, encoder, device, 1)
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        first, rate, wait, steps = timed_steps(built, feed, self.size.timed)
        found = speed(rate, wait, 2 * training_flops(self.encoder, config.image_size))
        if device.type == "cuda":
            found["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
        return found | {
            "compile": compile_, "precision": config.precision, "micro_batch": config.micro_batch, "steps": steps,
            "first_step_seconds": round(first, 1), "batch": config.batch_size, "because": choice["precision"],
        }  # fmt: skip

    def go(self) -> int:
        """Run all stages in order; returns the exit code."""
        stages, finetunes = self.stages, []
        stages.write({"stage": "machine", "done": True, **machine()})
        if not stages.run("prepare", LIMITS["prepare"], self.prepare) or not self.sets_are_here():
            return stages.finish(["prepare"])
        orders = [("imagenet", "simclr"), ("simclr_all",)]
        for starts in orders:
            if starts == ("simclr_all",):
                stages.run("prepare_all", LIMITS["prepare"], self.prepare_all)
            for start in starts:
                if start != "imagenet":
                    stages.run(start, LIMITS["simclr"], lambda start=start: self.simclr(start))
            for seed in range(self.size.seeds):
                for labels in SHARES:
                    finetunes += [self.grade(start, labels, seed) for start in starts]
            self.summarise()
            for compile_ in self.size.compiled:
                stages.run(f"speed/compile-{compile_}", LIMITS["speed"], lambda c=compile_: self.speed(c))
        speeds = [f"speed/compile-{compile_}" for compile_ in self.size.compiled]
        return stages.finish(["prepare", "prepare_all", *STARTS[1:], *finetunes, *speeds])

    def sets_are_here(self) -> bool:
        """Prepare again if results come from another machine, without the sets."""
        if not (self.sets / f"home_10_{self.size.seeds - 1}").exists():
            for stage in ("prepare", "prepare_all"):
                self.stages.done.pop(stage, None)
            return self.stages.run("prepare", LIMITS["prepare"], self.prepare)
        return True

    def grade(self, start: str, labels: str, seed: int) -> str:
        """Run the stage of one grader if its starting weights exist; returns its name."""
        stage = f"finetune/{start}/{labels}/{seed}"
        if start == "imagenet" or start in self.stages.done:
            self.stages.run(stage, LIMITS["finetune"], lambda: self.finetune(start, labels, seed))
        return stage

    def summarise(self) -> None:
        """Compare the graders, if one was added since the last comparison."""
        graders = [stage for stage in self.stages.done if stage.startswith("finetune/")]
        name = f"summary/{len(graders)}-graders"
        if graders and self.table.exists():
            self.stages.run(name, LIMITS["summary"], self.summary)


def predictions(file: Path) -> pd.DataFrame:
    """The table fundus_predictions.csv."""
    return pd.read_csv(file, dtype={"labels": str, "id": str, "group": str}, keep_default_na=False)


Measures = Mapping[str, tuple[float, np.ndarray]]


def measures(table: pd.DataFrame, resampling: Resampling) -> Measures:
    """Name -> value and resamples [R]."""
    labels, grades = table["label"].to_numpy(np.int64), table["grade"].to_numpy(np.int64)
    return {
        "quadratic_kappa": resampling.graded(metrics.quadratic_kappa, labels, grades, CLASSES),
        "referable_auc": roc_area(*severity(table, REFERABLE), resampling),
    }


def compared(part: pd.DataFrame, about: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row for each start and metric: mean over the seeds that all starts have, and the paired difference."""
    seeds = set.intersection(*(set(rows["seed"]) for _, rows in part.groupby("start")))
    part = part[part["seed"].isin(seeds)].sort_values("id")
    if not seeds:
        return
    one = part[(part["start"] == part["start"].iloc[0]) & (part["seed"] == min(seeds))]
    resampling = Resampling(group_codes(one["group"].to_numpy()))
    means: dict[str, Measures] = {}
    for start, rows in part.groupby("start"):
        each = [measures(table, resampling) for _, table in rows.groupby("seed")]
        means[str(start)] = {
            name: (float(np.mean([m[name][0] for m in each])), np.mean([m[name][1] for m in each], axis=0))
            for name in each[0]
        }
    for start, found in means.items():
        for name, drawn in found.items():
            entry = resampling.entry(*drawn, len(one))
            row = {**about, "start": start, "metric": name, "seeds": len(seeds), "groups": resampling.groups, **entry}
            if start != "imagenet" and "imagenet" in means:
                row["against_imagenet"] = difference(means["imagenet"][name], drawn, resampling)
            yield row


def timed_steps(built: Any, feed: Feed, seconds: float) -> tuple[float, float, float, int]:
    """(seconds of the first step, images/s, share of waiting, steps), after three steps that are not counted."""

    def endless() -> Iterator[Batch]:
        epoch = 0
        while True:
            yield from feed.epoch(epoch)
            epoch += 1

    device, batches = feed.device, iter(prefetch(endless()))
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=feed.config.precision == "bf16")
    built.training_mode()
    set_learning_rate(built.optimiser, 0.0)
    steps, waited, first, began = -3, 0.0, 0.0, time.perf_counter()
    while steps < 1 or time.perf_counter() - began < seconds:
        asked = time.perf_counter()
        views, identity = next(batches)
        waited += time.perf_counter() - asked
        gradients(built.trained, built.method, views, identity, autocast, seed=0)
        built.optimiser.step()
        built.optimiser.zero_grad(set_to_none=True)
        steps += 1
        if steps <= 0:
            wait_for(device)
            first = first or time.perf_counter() - began
        if steps == 0:
            waited, began = 0.0, time.perf_counter()
        elif steps % 10 == 0:
            wait_for(device)  # otherwise the clock would count steps that have only been queued
    wait_for(device)
    taken = time.perf_counter() - began
    batches.close()  # type: ignore[attr-defined]
    return first, steps * feed.config.batch_size / taken, waited / taken, steps


def main() -> None:
    """Run the remaining stages, within the time limit."""
    parser = options(__doc__)
    parser.add_argument("--seconds", type=int, help=f"time of SimCLR in seconds, by default {Size.seconds}")
    asked = parser.parse_args()
    size = TOY if asked.toy else Size()
    size = replace(size, seconds=asked.seconds) if asked.seconds else size
    stages = Stages(asked.out, asked.copy, "fundus", asked.minutes)
    sys.exit(Fundus(stages, asked.packs, asked.work, size).go())


if __name__ == "__main__":
    main()
