"""train: learn grades on an encoder, as a fine-tune or, with --freeze, as a linear probe.

    foveal train DATA --out RUN --init imagenet
    foveal train DATA --out RUN --init PRETRAINED_RUN --freeze

The same order of steps as pretrain/loop.py. The validation part chooses the epoch; the test part is only graded,
once, at the end, with that epoch's weights.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
import torch
import tyro
from torch import Tensor, nn

from foveal import checkpoint
from foveal.augment.draw import draw
from foveal.augment.recipes import get_recipe
from foveal.augment.sheet import write_view_sheet
from foveal.augment.views import random_views
from foveal.console import progress_bar, say, warn
from foveal.data.leaks import read_seen, refuse_seen, seen_of, write_seen
from foveal.data.loader import ImageStore, epoch_batches, prefetch, step_generator
from foveal.data.records import PreparedSet, open_prepared
from foveal.distributed import choose_device
from foveal.downstream.balance import class_weights
from foveal.downstream.epoch import encode, grade, note, selection_score, summarise
from foveal.downstream.outcome import finish, write_model
from foveal.downstream.start import start_from
from foveal.losses.grading import DECISIONS, LOSSES, decide
from foveal.nets.encoder import create_encoder, feature_size, freeze, load_encoder_weights
from foveal.nets.heads import Grader
from foveal.runs import check_out, open_run
from foveal.schedule import build_optimiser, parameter_groups, set_learning_rate, warm_up_cosine


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Options of `foveal train`."""

    # Prepared set with labels.
    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    # Run folder to write, or to resume.
    out: Path
    # Starting weights: random, imagenet, a pre-trained run folder, or a .safetensors file in timm's keys.
    init: str = "random"
    # Any timm model name, small_conv or strided_conv; auto takes that of the --init run, else tf_efficientnet_lite0.
    encoder: str = "auto"
    # Linear probe: the encoder stays as it is, in evaluation mode, and only a linear layer learns.
    freeze: bool = False
    # Pixels the network sees; 0 takes those of the --init run, else the size of the prepared images.
    image_size: int = 0
    # Passes over the training part.
    epochs: int = 20
    # Images per step.
    batch_size: int = 32
    # Optimiser.
    optimiser: Literal["adamw", "sgd", "lars"] = "adamw"
    # Peak learning rate; by default 0.001 for a probe or random weights and 0.0004 for a fine-tune.
    learning_rate: float | None = None
    # Weight decay of matrices and kernels.
    weight_decay: float = 0.02
    # Share of all steps in which the learning rate rises to its peak.
    warm_up: float = 0.1
    # What an error costs: cross_entropy the same for all, ordinal by its distance; auto is ordinal for graded classes.
    loss: Literal["auto", "cross_entropy", "ordinal"] = "auto"
    # Weigh rare classes up: balanced is n / (classes x count), root its square root; auto: none for ordinal.
    class_weights: Literal["auto", "balanced", "root", "none"] = "auto"
    # Share of the target that is spread over all classes.
    label_smoothing: float = 0.0
    # Recipe of random views; auto is mild for fundus photographs, digits for grey images, plain for others.
    views: str = "auto"
    # Arithmetic: auto is bf16 on GPUs that have it and fp32 elsewhere.
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    # Go on although the --init run has seen images of the validation or test part.
    allow_leaks: bool = False
    # Send the metrics to tensorboard (RUN/tensorboard) or mlflow (a SQLite file beside RUN) as well.
    track: tuple[Literal["tensorboard", "mlflow"], ...] = ()
    # auto, cpu, cuda or mps.
    device: str = "auto"
    # Decides the head's first weights, order and views.
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 2:
            raise ValueError(f"--epochs {self.epochs} must be at least 1 and --batch-size {self.batch_size} at least 2")
        if not 0 <= self.warm_up < 1 or not 0 <= self.label_smoothing < 1:
            raise ValueError("--warm-up and --label-smoothing are shares, from 0 to below 1")
        if self.views != "auto":
            get_recipe(self.views)


def train(config: TrainConfig) -> Path:
    """Train a grader, grade the validation and test parts with its best epoch, and return its run folder."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("train runs in one process; start it with `foveal train`, not under torchrun")
    device = choose_device(config.device)

    # Data
    prepared = open_prepared(config.data)
    records = check_labels(prepared, config)
    refuse_seen(prepared, read_seen(config.init), f"what {config.init} has learned from", config.allow_leaks)
    refuse_seen(prepared, seen_of([(prepared, records)]), "the training part", config.allow_leaks)
    config = resolve(config, prepared, device)
    resuming = check_out(config.out, "train", config)

    # Model and optimiser
    torch.manual_seed(config.seed)
    encoder = create_encoder(config.encoder, prepared.channels, config.image_size)
    loaded = load_encoder_weights(encoder, config.encoder, config.init)
    spec = start_from(config.init, config.encoder, config.image_size, prepared).spec
    features = feature_size(encoder)
    grader = Grader(encoder, features, len(prepared.classes)).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if config.freeze:
        freeze(encoder)
    assert config.learning_rate is not None
    optimiser = build_optimiser(config.optimiser, parameter_groups(grader, config.weight_decay), config.learning_rate)
    labels = records["label"].to_numpy(np.int64)
    weights = torch.tensor(class_weights(labels, len(prepared.classes), config.class_weights), dtype=torch.float32)
    weights = weights.to(device)
    criterion, decision = LOSSES[config.loss], DECISIONS[config.loss]

    # Run folder, resume
    run = open_run(config.out, "train", config, {str(config.data): prepared.card["content_hash"]})
    state: dict[str, Any] = {"epoch": 0, "best": None}
    if resuming and run.checkpoint.exists():
        state = checkpoint.load(run.checkpoint)
        checkpoint.load_strict(grader, state["grader"], str(run.checkpoint))
        optimiser.load_state_dict(state["optimiser"])
    kind = "linear probe" if config.freeze else "fine-tune"
    say(f"{kind} of {config.encoder} ({loaded}), {len(records):,} images at {config.image_size} px on {device}")
    say(f"views {config.views}, {config.loss}, {config.optimiser} at {config.learning_rate:.3g}, {config.precision}")
    say("class weights " + ", ".join(f"{weight:.2f}" for weight in weights.tolist()))
    steps_per_epoch = math.ceil(len(records) / config.batch_size) - (len(records) % config.batch_size == 1)
    run.forget_after(state["epoch"] * steps_per_epoch)
    store, validation = ImageStore([(prepared, records)], device), prepared.part("val")
    val_store = ImageStore([(prepared, validation)]) if len(validation) else None
    if not state["epoch"]:
        write_seen(run.path, [(prepared, records)], config.init)
        write_model(
            run, prepared, spec, encoder=config.encoder, features=features, decision=decision, init=config.init,
            frozen=config.freeze,
        )  # fmt: skip
        shown = store.gather(epoch_batches(len(store), 8, config.seed, 0, drop_last=False)[0])
        write_view_sheet(
            run.path / "views.jpg", shown, get_recipe(config.views), config.image_size, step_generator(config.seed, 0)
        )
    # A frozen encoder gives the same features in every epoch: they are computed once.
    model: nn.Module = grader.head if config.freeze else grader
    frozen = encode(grader.encoder, store, spec, device) if config.freeze else None
    frozen_val = encode(grader.encoder, val_store, spec, device) if config.freeze and val_store else None
    if frozen is not None:
        centre, spread = frozen.mean(0), frozen.std(0)
        spread = spread.clamp_min(0.1 * float(spread.mean()))  # a feature that hardly varies must not be blown up
        frozen, frozen_val = (frozen - centre) / spread, None if frozen_val is None else (frozen_val - centre) / spread

    def epoch_inputs(epoch: int) -> Iterator[tuple[Tensor, np.ndarray]]:
        recipe = get_recipe(config.views)
        batches = epoch_batches(
            len(store), config.batch_size, config.seed, epoch, drop_last=False, windows=store.windows
        )
        for number, batch in enumerate(batches):
            if len(batch) == 1:
                continue  # batch statistics of one image mean nothing
            if frozen is not None:
                yield frozen[torch.from_numpy(batch).to(device)], batch
                continue
            step = epoch * steps_per_epoch + number
            table = draw(recipe, len(batch), store.image_shape[0], config.image_size, step_generator(config.seed, step))
            yield random_views(store.take(batch), table, spec, device), batch

    # Loop
    total_steps, step = config.epochs * steps_per_epoch, state["epoch"] * steps_per_epoch
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
    label_tensor = torch.from_numpy(labels).to(device)
    with progress_bar("train", config.epochs * len(records), done=state["epoch"] * len(records)) as bar:
        for epoch in range(state["epoch"], config.epochs):
            torch.manual_seed(config.seed + 1000 * (epoch + 1))  # dropout and stochastic depth, if any
            model.train()
            losses, outputs, indices = [], [], []
            since, waited = time.perf_counter(), 0.0
            inputs = iter(prefetch(epoch_inputs(epoch)))
            for _ in range(steps_per_epoch):
                asked = time.perf_counter()
                images, batch = next(inputs)
                waited += time.perf_counter() - asked
                rate = config.learning_rate * warm_up_cosine(
                    step, total_steps, round(config.warm_up * total_steps), 0.01
                )
                set_learning_rate(optimiser, rate)
                with autocast:
                    logits = model(images)
                targets = label_tensor[torch.from_numpy(batch).to(device)]
                loss = criterion(logits, targets, weights, config.label_smoothing)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                step += 1
                losses.append(loss.detach() * len(batch))
                outputs.append(decide(logits.detach().float().softmax(1), decision))
                indices.append(batch)
                bar.advance(len(batch))
            seconds = time.perf_counter() - since
            # The epoch's only waits for the device: its sums, then the validation part.
            order = np.concatenate(indices)
            row = {"step": step, "epoch": epoch + 1, "loss": float(torch.stack(losses).sum()) / len(order)}
            row |= summarise("train", labels[order], torch.cat(outputs).cpu().numpy(), len(prepared.classes))
            if not math.isfinite(row["loss"]):
                raise ValueError(
                    f"the loss became {row['loss']} in epoch {epoch + 1}; {run.path} keeps the epoch before. Start "
                    f"again with another --out and a lower --learning-rate (now {config.learning_rate:.3g})"
                )
            if val_store is not None:
                val_labels = validation["label"].to_numpy(np.int64)
                logits = grade(model, frozen_val, val_store, spec, device)
                row["val_loss"] = float(criterion(logits, torch.from_numpy(val_labels), weights.cpu()))
                row |= summarise("val", val_labels, decide(logits.softmax(1), decision).numpy(), len(prepared.classes))
            row |= {"learning_rate": rate, "images_per_second": len(order) / seconds, "data_wait": waited / seconds}
            score = selection_score(row, prepared.card["task"], epoch)
            better = state["best"] is None or score > tuple(state["best"]["score"])
            if better:
                state["best"] = {"epoch": epoch + 1, "score": list(score)}
                best = {key: value.clone() for key, value in grader.state_dict().items()}
                if frozen is not None:  # fold the standardisation into the linear layer
                    best["head.weight"] = best["head.weight"] / spread
                    best["head.bias"] = best["head.bias"] - best["head.weight"] @ centre
                checkpoint.save({"grader": best, "epoch": epoch + 1}, run.path / "best.pt")
            state |= {"grader": grader.state_dict(), "optimiser": optimiser.state_dict(), "epoch": epoch + 1}
            run.log(row)
            checkpoint.save(state, run.checkpoint)
            bar.advance(0, note(row))
            say(f"epoch {epoch + 1:>3}  {note(row)}{'  *' if better else ''}")

    # Finish
    finish(run, prepared, state["best"]["epoch"], device)
    run.close()
    return run.path


def check_labels(prepared: PreparedSet, config: TrainConfig) -> pd.DataFrame:
    """The training records; ValueError where nothing can be learned from them."""
    records = prepared.part("train")
    if not len(records):
        raise ValueError(f"{prepared.path} has no labelled training images; `foveal prepare` a source that has labels")
    if records["label"].nunique() < 2:
        raise ValueError(
            f"{prepared.path}: all training images have the same label; a grader needs at least two classes"
        )
    absent = [name for k, name in enumerate(prepared.classes) if k not in set(records["label"])]
    if absent:
        warn(f"no training image of {', '.join(absent)}: this grader cannot learn to tell what it has never seen")
    if config.batch_size > len(records):
        raise ValueError(f"--batch-size {config.batch_size} is larger than the {len(records)} training images")
    return records


def resolve(config: TrainConfig, prepared: PreparedSet, device: torch.device) -> TrainConfig:
    """Replace every `auto` by the value that will be used; what the --init run fixes cannot be changed."""
    start = start_from(config.init, config.encoder, config.image_size, prepared)
    views = config.views
    if views == "auto":
        views = "mild" if prepared.card["fundus"] else ("digits" if prepared.channels == 1 else "plain")
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    rate = config.learning_rate
    if rate is None:
        rate = 1e-3 if config.freeze or config.init == "random" else 4e-4
    loss = config.loss
    if loss == "auto":
        loss = "ordinal" if prepared.card["task"] == "grading" else "cross_entropy"
    weights = config.class_weights
    if weights == "auto":
        weights = "none" if loss == "ordinal" else "balanced"
    return replace(
        config,
        encoder=start.encoder,
        views=views,
        precision=precision,
        learning_rate=rate,
        image_size=start.spec.image_size,
        loss=loss,
        class_weights=weights,
    )
