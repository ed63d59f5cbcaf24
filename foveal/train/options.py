"""Options of `foveal train`; reading them needs no torch."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro

from foveal.augment.recipes import get_recipe
from foveal.budget import seconds_of
from foveal.config import check, check_numbers, flag
from foveal.errors import FovealError
from foveal.readout.referral import least_sensitivity

LOWEST = {"epochs": 1, "batch_size": 2, "micro_batch": 0, "image_size": 0, "grow_from": 0, "freeze_stages": 0,
          "patience": 0, "learning_rate": 0, "weight_decay": 0, "seed": 0}  # fmt: skip
SHARES = ("warm_up", "label_smoothing", "final_rate", "coverage")  # 0 or more, and below 1
MOST_FOLDS = 20


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Options of `foveal train`."""

    ## What to learn
    # Prepared set with labels; several sets are joined into a new one beside the first.
    data: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATA…")]
    # Run folder to create, or to resume if training was interrupted.
    out: Path
    # Starting weights: random, imagenet, a run folder, or a file of weights (`foveal weights FILE` says what it is).
    init: str = "random"
    # Keep a random first convolution if that of --init has another shape.
    random_stem: bool = False
    # Network: any timm model or one of Foveal's; auto uses the network of the --init run, else tf_efficientnet_lite0.
    encoder: str = "auto"
    # Linear probe: train only one linear layer, on features that stay fixed.
    freeze: bool = False
    # Table written by `foveal pseudolabel`: train on its images as well.
    pseudo_labels: Path | None = None
    # Second task to learn together with the grade, such as macular oedema: a column of the set's columns.csv.
    second: str | None = None
    # Cross-validation: train this many graders, each with other patients held out; 0 trains one grader.
    folds: int = 0
    # Sources (names of joined sets) to train without, and to test on.
    hold_out: tuple[str, ...] = ()

    ## How long
    # Number of epochs (passes over the training images).
    epochs: int = 20
    # Time to spend, such as 20m or 2h, in place of --epochs.
    budget: str | None = None
    # Stop after this many epochs without improvement in validation; 0 is off.
    patience: int = 0
    # Images per training step.
    batch_size: int = 32
    # Image size in pixels; 0 uses the size of the --init run, else of the prepared images.
    image_size: int = 0
    # Image size in the first third of the epochs; it then grows to --image-size in two steps. 0 is off.
    grow_from: int = 0

    ## Grades
    # Loss; auto is ordinal (larger errors cost more) for grades, and cross_entropy for classes without an order.
    loss: Literal["auto", "cross_entropy", "focal", "ordinal", "corn", "coral", "mse", "smooth_l1"] = "auto"
    # Weight rare classes more: balanced is n / (classes x count), root its square root, effective by Cui et al. 2019.
    class_weights: Literal["auto", "balanced", "root", "effective", "none"] = "auto"
    # Sampling: natural (each image once per epoch) or balanced (all classes equally often).
    sampling: Literal["natural", "balanced"] = "natural"
    # Calibrate the probabilities on the validation images (temperature scaling; for regression, one slope per step).
    calibrate: bool = True
    # Cutoffs between grades: fitted on validation images if clearly better, fixed, or plain half-way rounding.
    cutoffs: Literal["auto", "fitted", "fixed", "half-way"] = "auto"
    # Prediction sets: share of the images of each class whose set should contain the true grade; 0 makes no sets.
    coverage: float = 0.9
    # Refer by grade, or by the threshold that has this sensitivity in validation, such as sensitivity=0.9.
    refer_at: str = "grade"
    # Average over 4 flips, or 8 flips and turns; auto is flips for fundus photographs.
    tta: Literal["auto", "none", "flips", "turns"] = "auto"

    ## Where
    # Device: auto, cpu, cuda or mps.
    device: str = "auto"
    # To save memory, process only this many images of a batch at a time; 0 processes the whole batch at once.
    micro_batch: int = 0
    # Numerical precision: auto is bf16 on GPUs that support it and CPUs with AMX, and fp32 elsewhere.
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    # Also log to tensorboard (RUN/tensorboard), mlflow (a file beside RUN) or wandb (RUN/wandb).
    track: tuple[Literal["tensorboard", "mlflow", "wandb"], ...] = ()

    ## For experts
    # Recipe for random augmentation; auto is mild for fundus photographs, digits for grey images, plain for others.
    views: str = "auto"
    # Label smoothing: share of each target that is spread over all classes.
    label_smoothing: float = 0.0
    # Number of first stages to freeze; the stem is one.
    freeze_stages: int = 0
    # Batch-norm statistics: learn, freeze, or re-estimate; auto freezes pre-trained ones for batches below 16 images.
    batch_norm: Literal["auto", "learn", "freeze", "re-estimate"] = "auto"
    # Optimiser.
    optimiser: Literal["adamw", "adam", "sgd", "lars"] = "adamw"
    # Peak learning rate; the default is 0.001 for a linear probe or random weights, and 0.0004 for fine-tuning.
    learning_rate: float | None = None
    # Share of all steps used for warm-up, in which the learning rate rises to its peak.
    warm_up: float = 0.1
    # Learning rate after warm-up: falls along a cosine, by the factor --decay each epoch (steps), or stays constant.
    schedule: Literal["cosine", "steps", "constant"] = "cosine"
    # Learning rate at the end of the cosine, as a share of the peak.
    final_rate: float = 0.01
    # With --schedule steps: factor on the learning rate after each epoch.
    decay: float = 0.7
    # Train earlier stages more slowly: factor on the learning rate from each stage to the one before it; 1 is off.
    layer_decay: float = 1.0
    # Weight decay of matrices and convolution kernels.
    weight_decay: float = 0.02
    # Continue although validation or test images were used, or would be used, for training.
    allow_leaks: bool = False
    # Random seed for everything random: splits, new weights, the order of the images, views and resamples.
    seed: int = 0

    def __post_init__(self) -> None:
        check_numbers(self, LOWEST, (), SHARES, ("decay", "layer_decay"))
        check(self, "data", bool(self.data), "a prepared set")
        check(self, "folds", not self.folds or 2 <= self.folds <= MOST_FOLDS, f"0, or from 2 to {MOST_FOLDS}")
        least_sensitivity(self.refer_at)
        if self.budget is not None:
            seconds_of(self.budget)
        if self.views != "auto":
            get_recipe(self.views)
        changed = {field.name for field in fields(self) if getattr(self, field.name) != field.default}
        loss, schedule, random = f"--loss {self.loss}", f"--schedule {self.schedule}", self.init == "random"
        unsmoothed = self.loss not in ("auto", "cross_entropy", "focal", "ordinal")
        tuning = ("freeze_stages", "grow_from", "views", "layer_decay", "micro_batch", "batch_norm")
        for given, other, names, why in (
            (self.freeze, "--freeze", tuning, "a linear probe computes the features of plain images once"),
            (self.freeze, "--freeze", ("budget",), "a linear probe takes little more than one pass over the images"),
            (self.folds, "--folds", ("patience",), "held-out images must not choose the epoch"),
            (unsmoothed, loss, ("label_smoothing",), "it needs a softmax loss"),
            (random, "--init random", ("freeze_stages", "random_stem"), "all weights are random"),
            (self.random_stem, "--random-stem", ("freeze", "freeze_stages"), "it would freeze random weights"),
            (self.schedule != "steps", schedule, ("decay",), "it only affects --schedule steps"),
            (self.schedule != "cosine", schedule, ("final_rate",), "it only affects --schedule cosine"),
        ):
            for name in sorted(changed & {*names} if given else ()):
                what = f"{flag(name)} {getattr(self, name)} cannot be combined with {other}: {why}"
                raise FovealError("option.conflict", what, fix="leave one of them out")
