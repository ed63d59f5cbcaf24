"""Options of `foveal train`; reading them needs no torch."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro

from foveal.augment.recipes import get_recipe
from foveal.errors import FovealError

LOWEST = {
    "epochs": 1, "batch_size": 2, "micro_batch": 0, "image_size": 0, "grow_from": 0, "freeze_stages": 0,
    "patience": 0, "mixup": 0, "cutmix": 0, "learning_rate": 0, "weight_decay": 0, "seed": 0,
}  # fmt: skip
SHARES = ("warm_up", "label_smoothing", "final_rate", "coverage", "ema")  # 0 or more, and below 1
FACTORS = ("decay", "layer_decay")  # above 0, and 1 at most
MOST_FOLDS = 20
SMOOTHED = ("auto", "cross_entropy", "focal", "ordinal")  # losses of a softmax, whose targets can be smoothed
# What a linear probe, which computes the features of plain images once, cannot do.
FINE_TUNE_ONLY = (
    "freeze_stages", "grow_from", "mixup", "cutmix", "views", "layer_decay", "micro_batch", "batch_norm",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Options of `foveal train`."""

    ## What to learn
    # Prepared set with labels.
    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    # Run folder to write, or to resume.
    out: Path
    # Starting weights: random, imagenet, a run folder, or a .safetensors file with timm's keys.
    init: str = "random"
    # Any timm model or a network of Foveal; auto takes that of the --init run, else tf_efficientnet_lite0.
    encoder: str = "auto"
    # Linear probe: freeze the encoder and train one linear layer on its features.
    freeze: bool = False
    # Table that `foveal pseudolabel` wrote: learn from its images too.
    pseudo_labels: Path | None = None
    # Column of the set's columns.csv to learn beside the grade, such as macular oedema.
    second: str | None = None
    # Train a grader for each of this many grouped, stratified folds; 0 trains one grader.
    folds: int = 0

    ## How long
    # Passes over the training images.
    epochs: int = 20
    # Stop after this many epochs without a better one on the validation part; 0 never stops early.
    patience: int = 0
    # Images per step.
    batch_size: int = 32
    # Image size in pixels; 0 takes that of the --init run, else that of the prepared images.
    image_size: int = 0
    # Image size in the first third of the epochs; the second third is half-way to --image-size. 0 keeps --image-size.
    grow_from: int = 0

    ## Grades
    # Loss; auto is ordinal (an error costs by its distance) for grades and cross_entropy for other classes.
    loss: Literal["auto", "cross_entropy", "focal", "ordinal", "corn", "coral", "mse", "smooth_l1"] = "auto"
    # Give rare classes more weight: balanced n / (classes x count), root its square root, effective Cui et al. 2019.
    class_weights: Literal["auto", "balanced", "root", "effective", "none"] = "auto"
    # Images of an epoch: natural takes each once, balanced all classes equally often, progressive moves between them.
    sampling: Literal["natural", "balanced", "progressive"] = "natural"
    # Fit the probabilities to the validation images (temperature; for a regression a slope and a cutoff per grade).
    calibrate: bool = True
    # Cutoffs between grades: half-way, or fitted on validation images; auto fits them for a regression.
    cutoffs: Literal["auto", "half-way", "fitted"] = "auto"
    # Share of the images of each class whose prediction set contains the true grade; 0 gives no sets.
    coverage: float = 0.9
    # Test-time augmentation: average over 4 flips, or over 8 flips and quarter turns.
    tta: Literal["none", "flips", "turns"] = "none"

    ## Where
    # auto, cpu, cuda or mps.
    device: str = "auto"
    # Process this many images of a batch at a time, which saves memory; 0 processes the whole batch.
    micro_batch: int = 0
    # Number format: auto is bf16 on GPUs that support it and fp32 elsewhere.
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    # Also send the metrics to tensorboard (RUN/tensorboard) or mlflow (a SQLite file beside RUN).
    track: tuple[Literal["tensorboard", "mlflow"], ...] = ()

    ## For experts
    # Recipe of the random views; auto is mild for fundus photographs, digits for grey images and plain for others.
    views: str = "auto"
    # Blend pairs of images and their targets: parameter of the Beta distribution, usually 0.2; 0 is off.
    mixup: float = 0.0
    # Paste a rectangle of another image and mix the targets by area: parameter of the Beta distribution; 0 is off.
    cutmix: float = 0.0
    # Share of the target that is spread over all classes.
    label_smoothing: float = 0.0
    # Keep the starting weights of the first stages of the encoder (the stem is the first).
    freeze_stages: int = 0
    # Batch statistics: learn, freeze, or re-estimate before grading; auto freezes those of --init below 16 images.
    batch_norm: Literal["auto", "learn", "freeze", "re-estimate"] = "auto"
    # Grade with a running average of the weights of this momentum; 0 grades with the weights themselves.
    ema: float = 0.0
    # Optimiser.
    optimiser: Literal["adamw", "adam", "sgd", "lars"] = "adamw"
    # Peak learning rate; the default is 0.001 for a probe or random weights and 0.0004 for a fine-tune.
    learning_rate: float | None = None
    # Share of all steps in which the learning rate rises to its peak.
    warm_up: float = 0.1
    # How the rate falls after that: along half a cosine, by --decay each epoch (steps), or not at all.
    schedule: Literal["cosine", "steps", "constant"] = "cosine"
    # Share of the peak rate at which the cosine ends.
    final_rate: float = 0.01
    # Factor of the rate from one epoch to the next, with --schedule steps.
    decay: float = 0.7
    # Factor of the learning rate from one stage of the encoder to the one below it; 1 gives all the same rate.
    layer_decay: float = 1.0
    # Weight decay of matrices and kernels.
    weight_decay: float = 0.02
    # Continue although the starting weights have seen validation or test images.
    allow_leaks: bool = False
    # Decides the folds, the first weights of the head, the order of the images and the views.
    seed: int = 0

    def __post_init__(self) -> None:
        for name, lowest in LOWEST.items():
            check(self, name, getattr(self, name) is None or getattr(self, name) >= lowest, f"{lowest} or more")
        for name in SHARES:
            check(self, name, 0 <= getattr(self, name) < 1, "a share: 0 or more, and below 1")
        for name in FACTORS:
            check(self, name, 0 < getattr(self, name) <= 1, "a factor above 0 and at most 1")
        check(self, "folds", not self.folds or 2 <= self.folds <= MOST_FOLDS, f"0, or from 2 to {MOST_FOLDS}")
        if self.views != "auto":
            get_recipe(self.views)
        self._check_pairs()

    def _check_pairs(self) -> None:
        """Options that exclude each other, or that do nothing without another."""
        changed = {field.name for field in fields(self) if getattr(self, field.name) != field.default}
        if self.freeze:
            probe = "a probe computes the features of plain images once, so this option is for a fine-tune"
            self._refuse(changed & {*FINE_TUNE_ONLY}, "--freeze", probe)
        if self.folds:
            self._refuse(changed & {"patience"}, "--folds", "the held-out fold must not choose the epoch it judges")
        if self.second:
            self._refuse(changed & {"mixup", "cutmix"}, "--second", "the second label of a mixed image is unknown")
        if self.loss not in SMOOTHED:
            self._refuse(changed & {"label_smoothing"}, f"--loss {self.loss}", "only a softmax has a target to smooth")
        if self.init == "random":
            self._refuse(changed & {"freeze_stages"}, "--init random", "random weights are not worth keeping")
        for name, schedule in (("decay", "steps"), ("final_rate", "cosine")):
            if self.schedule != schedule:
                why = f"it belongs to --schedule {schedule}"
                self._refuse(changed & {name}, f"--schedule {self.schedule}", why)

    def _refuse(self, names: set[str], other: str, why: str) -> None:
        for name in sorted(names):
            what = f"{flag(name)} {getattr(self, name)} does not go with {other}: {why}"
            raise FovealError("option.conflict", what, fix="leave one of them out")


def check(config: object, name: str, fits: bool, expected: str) -> None:
    """FovealError where an option of the config does not fit."""
    if not fits:
        raise FovealError("option.value", f"{flag(name)} is {getattr(config, name)}", expected=expected)


def flag(name: str) -> str:
    """`--batch-size` of `batch_size`."""
    return f"--{name.replace('_', '-')}"
