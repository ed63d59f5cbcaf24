"""Options of `foveal train`; no torch is needed to read them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro

from foveal.augment.recipes import get_recipe

LOWEST = {
    "epochs": 1, "batch_size": 2, "micro_batch": 0, "image_size": 0, "grow_from": 0, "freeze_stages": 0,
    "head_first": 0, "patience": 0, "mixup": 0, "cutmix": 0, "learning_rate": 0, "weight_decay": 0, "seed": 0,
    "second_weight": 0,
}  # fmt: skip
SHARES = ("warm_up", "label_smoothing", "final_rate", "coverage", "ema")  # from 0 to below 1
SMOOTHED = ("auto", "cross_entropy", "focal", "ordinal")  # losses of a softmax, whose targets can be spread


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Options of `foveal train`."""

    # Prepared set with labels.
    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    # Run folder to write, or to resume.
    out: Path
    # Starting weights: random, imagenet, a pre-trained run folder, or a .safetensors file in timm's keys.
    init: str = "random"
    # Any timm model name or a network of our own; auto takes that of the --init run, else tf_efficientnet_lite0.
    encoder: str = "auto"
    # Linear probe: the encoder stays as it is, in evaluation mode, and only a linear layer learns.
    freeze: bool = False
    # The first stages of the encoder (the stem is one) that keep their starting weights.
    freeze_stages: int = 0
    # Epochs in which only the head learns, before the encoder joins in (linear probe, then fine-tune).
    head_first: int = 0
    # Pixels the network sees; 0 takes those of the --init run, else the size of the prepared images.
    image_size: int = 0
    # Pixels of the first third of the epochs, and half-way to --image-size in the second; 0 always sees --image-size.
    grow_from: int = 0
    # Passes over the training part.
    epochs: int = 20
    # Grouped, stratified folds: a grader for each, graded where it has not learned; 0 trains one grader.
    folds: int = 0
    # Images per step.
    batch_size: int = 32
    # Images at once: gradients of the parts of a batch are added up; 0 takes the whole batch.
    micro_batch: int = 0
    # Optimiser.
    optimiser: Literal["adamw", "adam", "sgd", "lars"] = "adamw"
    # Peak learning rate; by default 0.001 for a probe or random weights and 0.0004 for a fine-tune.
    learning_rate: float | None = None
    # How the rate falls: along half a cosine, by --decay each epoch (steps), or not at all.
    schedule: Literal["cosine", "steps", "constant"] = "cosine"
    # Share of the peak rate at which the cosine ends.
    final_rate: float = 0.01
    # Factor of the rate from one epoch to the next, with --schedule steps.
    decay: float = 0.7
    # Share of the learning rate from one stage of the encoder to the one below it: 1 is the same rate for all.
    layer_decay: float = 1.0
    # Weight decay of matrices and kernels.
    weight_decay: float = 0.02
    # Share of all steps in which the learning rate rises to its peak.
    warm_up: float = 0.1
    # Keep a running average of the weights with this momentum, and judge and save that one; 0 takes the weights.
    ema: float = 0.0
    # Batch statistics: learn, freeze, or re-estimate to grade; auto freezes those of --init for batches below 16.
    batch_norm: Literal["auto", "learn", "freeze", "re-estimate"] = "auto"
    # What an error costs; auto is ordinal (by its distance) for graded classes, else cross_entropy (all the same).
    loss: Literal["auto", "cross_entropy", "focal", "ordinal", "corn", "coral", "mse", "smooth_l1"] = "auto"
    # Weigh rare classes up: balanced n / (classes x count), root its square root, effective Cui et al. 2019.
    class_weights: Literal["auto", "balanced", "root", "effective", "none"] = "auto"
    # Which images an epoch draws: each once, balanced over classes, or from the one to the other (progressive).
    sampling: Literal["natural", "balanced", "progressive"] = "natural"
    # Share of the target that is spread over all classes.
    label_smoothing: float = 0.0
    # Mix pairs of images and their targets: parameter of the Beta distribution, 0.2 is usual; 0 mixes none.
    mixup: float = 0.0
    # Paste a rectangle of another image, and mix targets by area: parameter of the Beta distribution; 0 pastes none.
    cutmix: float = 0.0
    # Recipe of random views; auto is mild for fundus photographs, digits for grey images, plain for others.
    views: str = "auto"
    # What the best epoch has most of on the validation part; auto is kappa for graded classes, else accuracy.
    select_on: Literal["auto", "kappa", "accuracy", "macro_f1", "loss"] = "auto"
    # Stop after so many epochs without a better one on the validation part; 0 never stops early.
    patience: int = 0
    # Test-time augmentation: mean over 4 flips, or over 8 flips and turns.
    tta: Literal["none", "flips", "turns"] = "none"
    # Fit a temperature (steps for a regression) on validation images: probabilities as sure as they are right.
    calibrate: bool = True
    # Expected grades at which the next begins: half-way, or fitted on validation images; auto fits for a regression.
    thresholds: Literal["auto", "half-way", "fitted"] = "auto"
    # Share of images whose set of grades holds the true one, per class (conformal sets); 0 gives no sets.
    coverage: float = 0.9
    # Table of pseudo-labels that `foveal pseudolabel` wrote, to learn from as well.
    pseudo_labels: Path | None = None
    # Column of the set's columns.csv to learn beside the grade, such as macular oedema.
    second: str | None = None
    # What the second task weighs beside the grade.
    second_weight: float = 0.5
    # Arithmetic: auto is bf16 on GPUs that have it and fp32 elsewhere.
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    # Go on although the --init run has seen images of the validation or test part.
    allow_leaks: bool = False
    # Send the metrics to tensorboard (RUN/tensorboard) or mlflow (a SQLite file beside RUN) as well.
    track: tuple[Literal["tensorboard", "mlflow"], ...] = ()
    # auto, cpu, cuda or mps.
    device: str = "auto"
    # Decides the folds, the head's first weights, order and views.
    seed: int = 0

    def __post_init__(self) -> None:
        for name, lowest in LOWEST.items():
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise ValueError(f"--{name.replace('_', '-')} must be at least {lowest}, got {value}")
        for name in SHARES:
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"--{name.replace('_', '-')} is a share, from 0 to below 1; it was {getattr(self, name)}"
                )
        for name in ("decay", "layer_decay"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"--{name.replace('_', '-')} is a factor above 0 and at most 1")
        if self.label_smoothing and self.loss not in SMOOTHED:
            raise ValueError(f"--label-smoothing spreads the target of a softmax; {self.loss} has none: leave one out")
        if self.views != "auto":
            get_recipe(self.views)
        self._check_parts()

    def _check_parts(self) -> None:
        """Options that exclude each other."""
        if self.folds and not 2 <= self.folds <= 20:
            raise ValueError(f"--folds must be 0 (one grader) or from 2 to 20, got {self.folds}")
        if self.folds and self.patience:
            raise ValueError(
                "--patience with --folds would let the fold that is held out choose the epoch that it then judges; "
                "choose --epochs on one split, then train the folds without --patience"
            )
        if self.folds and self.select_on != "auto":
            raise ValueError(
                "--select-on does nothing with --folds: each fold keeps its last epoch, so that the images that are "
                "held out choose nothing; leave it out"
            )
        if self.freeze and (self.freeze_stages or self.head_first or self.grow_from or self.mixup or self.cutmix):
            raise ValueError(
                "--freeze computes features once: --freeze-stages, --head-first, --grow-from, --mixup and --cutmix "
                "are for a fine-tune"
            )
        if self.freeze_stages and self.init == "random":
            raise ValueError(
                "--freeze-stages keeps starting weights, and random ones know nothing: give --init imagenet, a run or "
                "a file, or leave it out"
            )
        if self.freeze and self.views != "auto":
            raise ValueError("--freeze computes features of plain images, so that --views does nothing: leave it out")
        if self.freeze and (self.layer_decay < 1 or self.micro_batch or self.batch_norm in ("freeze", "re-estimate")):
            raise ValueError("--freeze trains one linear layer: --layer-decay, --micro-batch and --batch-norm are "
                             "for a fine-tune")  # fmt: skip
        if self.second and (self.mixup or self.cutmix):
            raise ValueError(
                "--second cannot be learned from mixed images; leave out --mixup and --cutmix, or --second"
            )
        plain = {field.name: field.default for field in fields(self)}
        for name, needs, given in (
            ("decay", "--schedule steps", self.schedule == "steps"),
            ("final_rate", "--schedule cosine", self.schedule == "cosine"),
            ("second_weight", "--second", self.second is not None),
        ):
            if getattr(self, name) != plain[name] and not given:
                raise ValueError(f"--{name.replace('_', '-')} does nothing without {needs}: leave it out")
        if self.head_first >= self.epochs:
            raise ValueError(f"--head-first {self.head_first} leaves no epoch of {self.epochs} for the encoder")
