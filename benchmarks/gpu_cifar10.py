"""SimCLR on CIFAR-10 on one GPU: a public reference recipe trained by Foveal, then other recipes.

    python benchmarks/gpu_pack.py cifar10 CIFAR10 --out build/gpu     # on the machine with the data
    python benchmarks/gpu_cifar10.py --copy "$OUT"                    # on the machine with the GPU and build/gpu

Each stage writes a line of cifar10.jsonl. One call takes at most --minutes, 7.5 by default; call it again to continue.
Stages:

    reference   github.com/dkobak/simclr-cifar10, 100 epochs; published: k-NN(10) 0.832, linear 0.856
    ours        recipes/cifar10_simclr.toml, 100 epochs
    s3-7x7      a published tutorial of ten epochs: ResNet-18 with the stem for large images, then a linear layer on
                frozen features
    s3-3x3      the same with the stem for small images
    best        settings that others publish for longer runs, for as many epochs as the time of this call allows

Foveal's loop trains the reference with the reference's settings: its views and projection, a pass for each view,
momentum without Nesterov, weight decay on all parameters, no warm-up, and initial weights in which the last batch
normalisation of a block is not zero. Three small differences remain: the learning rate falls with every step instead of
every epoch, images that do not fill a batch wait for another epoch, and pixels are centred.

k-NN(10) uses cosine similarity with one vote for each neighbour, like the reference. The reference's linear classifier
has no penalty; that of `foveal probe` chooses one on training images. All results are of the last epoch, on the 10,000
test images, with 95 % intervals.
"""

from __future__ import annotations

from gpu_stages import Stages, machine, options, speed_of, training_flops  # first: it keeps the time

# isort: split
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from gpu_pack import PARTS, read_cifar10
from safetensors.torch import save_file
from torch import Tensor, nn

import foveal
from foveal.augment.recipes import RECIPES
from foveal.distributed import choose_device
from foveal.evaluate.intervals import Resampling
from foveal.nets.encoder import create_encoder
from foveal.predict.features import encode
from foveal.pretrain.simclr import SimCLR
from foveal.readout.predictions import read_predictions
from foveal.runs import read_metrics
from foveal.sets.loader import ImageStore
from foveal.sets.records import open_prepared
from foveal.train.task import frozen_encoder

NEIGHBOURS, SIDE = 10, 32
REFERENCE_VIEWS = replace(
    RECIPES["simclr"],
    crop_area=(0.2, 1.0),
    brightness=0.4,
    contrast=0.4,
    saturation=0.4,
    hue=0.1,
    grey=0.1,
    blur_probability=0.0,
)
S3_VIEWS = replace(RECIPES["simclr"], brightness=0.64, contrast=0.64, saturation=0.64, hue=0.16, blur_probability=0.0)
PUBLISHED = {"reference": {"knn": 0.832, "linear": 0.856, "loss": 5.18, "epochs": 100, "seconds": 1200, "on": "A100"}}
# The most seconds that each stage may take.
LIMITS = {"prepare": 90, "reference": 420, "ours": 420, "s3-7x7": 150, "s3-3x3": 150, "best": 450}
JUDGING = 45.0  # seconds kept for features and probes after the last epoch of `best`
LEAST_BEST = 100.0  # seconds: if fewer are left, `best` waits for another call


@dataclass(frozen=True)
class Size:
    """The encoder, batch sizes and numbers of epochs."""

    encoder: str = "resnet18"
    batch: int = 512
    epochs: int = 100
    s3_batch: int = 256
    s3_epochs: int = 10
    s3_graded_batch: int = 64


TOY = Size(encoder="test_resnet", batch=32, epochs=1, s3_batch=32, s3_epochs=1, s3_graded_batch=32)


class Cifar10:
    """The stages, and the folders that they share."""

    def __init__(
        self, stages: Stages, packs: Path, work: Path, size: Size, best_epochs: int, wanted: Sequence[str]
    ) -> None:
        self.stages, self.size, self.best_epochs, self.wanted = stages, size, best_epochs, wanted
        self.packs = [packs / f"cifar10-{part}.zip" for part in range(PARTS)]
        self.work = work / "cifar10"
        self.data = self.work / "set"

    def prepare(self) -> dict[str, Any]:
        """Unpack and prepare both packs, without a validation part, as in the reference."""
        self.work.mkdir(parents=True, exist_ok=True)
        file = self.work / "cifar10.npz"
        np.savez(file, **read_cifar10(self.packs))
        prepared = open_prepared(foveal.prepare(file, out=self.data, val=0.0))
        flops = training_flops(self.size.encoder, SIDE)
        with large_stem():
            large = training_flops(self.size.encoder, SIDE)
        return {"images": prepared.records["split"].value_counts().to_dict(), "gflops": [flops / 1e9, large / 1e9]}

    def pretrain(self, name: str, **given: Any) -> Path:
        """Pre-train into a folder of this name, which the next call resumes."""
        return foveal.pretrain(self.data, out=self.work / name, encoder=self.size.encoder, optimiser="sgd", **given)

    def reference(self) -> dict[str, Any]:
        """The public recipe."""
        start, size = self.work / "reference_start.safetensors", self.size
        if not start.exists():
            save_file(reference_weights(size.encoder), start)
        with as_the_reference():
            run = self.pretrain(
                "reference", init=str(start), views="reference", epochs=size.epochs, batch_size=size.batch,
                learning_rate=0.06 * size.batch / 256, weight_decay=5e-4, warm_up=0.0,
                simclr={"temperature": 0.5, "projection_hidden": 1024},
            )  # fmt: skip
        return self.judged(run)

    def ours(self) -> dict[str, Any]:
        """recipes/cifar10_simclr.toml with 100 epochs."""
        size, simclr = self.size, {"temperature": 0.5, "projection_hidden": 512}
        return self.judged(
            self.pretrain("ours", views="cifar", epochs=size.epochs, batch_size=size.batch, simclr=simclr)
        )

    def s3(self, stem: str) -> dict[str, Any]:
        """Ten epochs, then a linear layer on frozen features, with the author's settings."""
        size, name = self.size, f"s3-{stem}"
        with ExitStack() as held:
            if stem == "7x7":
                held.enter_context(large_stem())
            run = self.pretrain(
                name, views="s3", epochs=size.s3_epochs, batch_size=size.s3_batch,
                learning_rate=0.06, simclr={"temperature": 0.5, "projection_hidden": 512},
            )  # fmt: skip
            grader = foveal.train(
                self.data, out=self.work / f"{name}-linear", init=str(run), freeze=True, loss="cross_entropy",
                class_weights="none", optimiser="adam", learning_rate=1e-3, weight_decay=0.0, schedule="constant",
                warm_up=0.0, batch_size=size.s3_graded_batch, epochs=size.s3_epochs,
            )  # fmt: skip
            table = read_predictions(grader / "predictions.csv").query("split == 'test'")
            return self.judged(run) | {"its_linear": share((table["grade"] == table["label"]).to_numpy(bool))}

    def best(self) -> dict[str, Any]:
        """A temperature and a projection that others use for longer runs, and the crops of the reference."""
        note = self.work / "best.json"
        if not note.exists():  # decided once, because the learning rate depends on it
            epochs = self.best_epochs or max(1, int((self.stages.left - JUDGING) / (1.03 * self.measured())))
            note.write_text(json.dumps({"epochs": epochs}))
        epochs = json.loads(note.read_text())["epochs"]
        run = self.pretrain(
            "best", views="reference", epochs=epochs, batch_size=self.size.batch, warm_up=0.05,
            simclr={"temperature": 0.2, "projection_hidden": 2048},
        )  # fmt: skip
        return self.judged(run)

    def judged(self, run: Path) -> dict[str, Any]:
        """k-NN, the table of `foveal probe`, and speed."""
        rows, prepared = read_metrics(run), open_prepared(self.data)
        table = foveal.probe(self.data, init=(str(run),), neighbours=NEIGHBOURS)
        accuracy = table[table["metric"] == "accuracy"].set_index("readout")[["value", "low", "high", "n"]]
        flops = 2 * training_flops(self.size.encoder, SIDE)  # with the stem in use
        speed = speed_of(run, flops)
        pool = len(prepared.part("train"))
        return {
            "knn": share(nearest(run, self.data)),
            "linear": accuracy.loc["linear"].to_dict(), "weighted_knn": accuracy.drop("linear").iloc[0].to_dict(),
            "epochs": rows[-1]["epoch"], "loss": round(rows[-1]["loss"], 4), "speed": speed,
            "seconds_per_epoch": round(pool / speed["images_per_second"], 3),
            "published": PUBLISHED.get(run.name),
        }  # fmt: skip

    def go(self) -> int:
        """Run all stages in order; returns the exit code."""
        stages = self.stages
        stages.write({"stage": "machine", "done": True, **machine()})
        if not self.data.exists():  # results may come from another machine, without the set
            stages.done.pop("prepare", None)
        work = {
            "reference": self.reference, "ours": self.ours, "s3-7x7": lambda: self.s3("7x7"),
            "s3-3x3": lambda: self.s3("3x3"), "best": self.best,
        }  # fmt: skip
        with patch.dict(RECIPES, {"reference": REFERENCE_VIEWS, "s3": S3_VIEWS}):
            if stages.run("prepare", LIMITS["prepare"], self.prepare):
                for name in self.wanted:
                    if name != "best" or self.best_can_begin():
                        stages.run(name, LIMITS[name], work[name])
        return stages.finish(["prepare", *self.wanted])

    def best_can_begin(self) -> bool:
        """Whether there is time for enough epochs of `best`."""
        if (self.work / "best.json").exists() or "best" in self.stages.done or self.best_epochs:
            return True
        return bool(self.measured()) and self.stages.left > LEAST_BEST

    def measured(self) -> float:
        """Seconds per epoch of an earlier stage with the same network; 0 if there is none."""
        stages = [self.stages.done[name] for name in ("ours", "reference") if name in self.stages.done]
        return float(stages[0]["seconds_per_epoch"]) if stages else 0.0


def share(right: np.ndarray) -> dict[str, Any]:
    """The share of correct answers, bool [n], with its interval."""
    return Resampling(np.arange(len(right))).mean(right.astype(float), is_share=True)


def nearest(run: Path, data: Path) -> np.ndarray:
    """For each of m test images: is the most frequent class of its ten nearest training images correct? bool [m]."""
    prepared, device = open_prepared(data), choose_device("auto")
    encoder, spec = frozen_encoder(str(run), "auto", 0, prepared, 0, device)
    features, labels = {}, {}
    for part in ("train", "test"):
        records = prepared.part(part)
        with torch.inference_mode():
            features[part] = F.normalize(encode(encoder, ImageStore([(prepared, records)]), spec, device), dim=1)
        labels[part] = torch.from_numpy(records["label"].to_numpy(np.int64)).to(device)
    right = []
    for rows, truth in zip(features["test"].split(1000), labels["test"].split(1000), strict=True):
        near = labels["train"][(rows @ features["train"].T).topk(NEIGHBOURS, dim=1).indices]
        votes = F.one_hot(near, len(prepared.classes)).sum(1)
        right.append(votes.argmax(1) == truth)
    return torch.cat(right).cpu().numpy()


def reference_weights(encoder: str) -> dict[str, Tensor]:
    """Initial weights whose blocks do not start as the identity. They do in timm, but not in torchvision."""
    torch.manual_seed(0)
    network = create_encoder(encoder, 3, SIDE)
    for block in network.modules():
        if hasattr(block, "zero_init_last"):
            last = getattr(block, "bn3", None) or block.bn2
            nn.init.ones_(last.weight)
    return {name: tensor.contiguous() for name, tensor in network.state_dict().items()}


@contextmanager
def as_the_reference() -> Iterator[None]:
    """A block in which Foveal's loop uses the passes, parameter groups and momentum of the reference."""

    def two_passes(self: SimCLR, view1: Tensor, view2: Tensor) -> tuple[Tensor, Tensor]:
        return self.projection(self.encoder(view1)), self.projection(self.encoder(view2))

    def one_group(module: nn.Module, weight_decay: float, scales: object = None) -> list[dict[str, Any]]:
        return [{"params": list(module.parameters()), "weight_decay": weight_decay}]

    def plain_momentum(name: str, groups: list[dict[str, Any]], learning_rate: float) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, lr=learning_rate, momentum=0.9, fused=True)

    with (
        patch.object(SimCLR, "forward", two_passes), patch("foveal.pretrain.step.parameter_groups", one_group),
        patch("foveal.pretrain.step.build_optimiser", plain_momentum),
    ):  # fmt: skip
        yield


@contextmanager
def large_stem() -> Iterator[None]:
    """A block in which a ResNet has its 7x7 stem with pooling, even for small images."""
    with patch("foveal.nets.encoder.SMALL_IMAGE", 0):
        yield


def main() -> None:
    """Run the remaining stages, within the time limit."""
    parser = options(__doc__)
    parser.add_argument("--best-epochs", type=int, default=0, help="epochs of `best`; 0: as many as the time allows")
    names = [name for name in LIMITS if name != "prepare"]
    parser.add_argument("--stages", nargs="+", choices=names, default=names, help="stages, in this order; default: all")
    asked = parser.parse_args()
    size, best_epochs = (TOY, asked.best_epochs or 2) if asked.toy else (Size(), asked.best_epochs)
    stages = Stages(asked.out, asked.copy, "cifar10", asked.minutes)
    sys.exit(Cifar10(stages, asked.packs, asked.work, size, best_epochs, asked.stages).go())


if __name__ == "__main__":
    main()
