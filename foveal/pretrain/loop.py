"""pretrain: learn an encoder from photographs without using a single grade.

    foveal pretrain DATA --out RUN --encoder tf_efficientnet_lite0 --init imagenet --epochs 20
    torchrun --nproc-per-node 2 -m foveal pretrain DATA --out RUN

The pool is every training and unlabelled image of the sets; validation and test parts are never touched. All
randomness is a function of (seed, step): the same command resumes an interrupted run and ends with the same numbers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from foveal import checkpoint
from foveal.augment.draw import draw
from foveal.augment.recipes import RECIPES, get_recipe
from foveal.augment.sheet import write_view_sheet
from foveal.augment.views import NetworkInput, plain_view, random_views
from foveal.config import pick
from foveal.console import is_first_process, progress_bar, say, warn
from foveal.data.leaks import check_overlap, pool_of, write_seen
from foveal.data.loader import ImageStore, epoch_batches, prefetch, shard_of, step_generator
from foveal.data.records import PreparedSet, open_prepared
from foveal.distributed import barrier, choose_device, joined, mean_over_processes
from foveal.losses.ntxent import ntxent_chance, ntxent_floor
from foveal.nets.batchnorm import synchronise
from foveal.nets.encoder import create_encoder, feature_size, load_encoder_weights, normalisation_of
from foveal.pretrain.health import effective_rank, verdict
from foveal.pretrain.simclr import SimCLR, SimCLRConfig
from foveal.runs import Run, check_out, open_run, read_metrics, write_json
from foveal.schedule import build_optimiser, parameter_groups, set_learning_rate, warm_up_cosine

METHODS = {"simclr": (SimCLR, SimCLRConfig)}
LOG_EVERY = 50  # steps between two looks at the loss: each look waits for the device
HEALTH_IMAGES = 512


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """Options of `foveal pretrain`."""

    # Prepared sets; their training and unlabelled images are the pool.
    data: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="DATA…")]
    # Run folder to write, or to resume.
    out: Path
    # Self-supervised method.
    method: Literal["simclr"] = "simclr"
    # Any timm model name, or small_conv for images of 28-64 pixels.
    encoder: str = "tf_efficientnet_lite0"
    # Starting weights: random, imagenet, a run folder, or a .safetensors file in timm's keys.
    init: str = "random"
    # Recipe of random views: simclr, cifar, fundus, mild, digits or plain; auto chooses by the kind of images.
    views: str = "auto"
    # Pixels the network sees; 0 takes the size of the prepared images.
    image_size: int = 0
    # Passes over the pool.
    epochs: int = 100
    # Images per step, over all processes; each gives two views.
    batch_size: int = 128
    # Optimiser; lars is meant for batches of 1,024 and more.
    optimiser: Literal["adamw", "sgd", "lars"] = "adamw"
    # Peak learning rate; by default adamw 0.001, sgd 0.12 and lars 0.6, times batch size / 256 (adamw: its root).
    learning_rate: float | None = None
    # Weight decay of matrices and kernels; by default adamw 0.01, sgd 0.0005, lars 0.000001.
    weight_decay: float | None = None
    # Share of all steps in which the learning rate rises to its peak.
    warm_up: float = 0.05
    # Temperature of the contrastive loss; lower makes near neighbours count more.
    temperature: float = 0.2
    # Hidden width of the projection; 0 takes the encoder's number of features.
    projection_hidden: int = 0
    # Dimensions in which views are compared.
    projection_size: int = 128
    # Arithmetic: auto is bf16 on GPUs that have it and fp32 elsewhere.
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    # Go on although images of a validation or test part stand in the pool.
    allow_leaks: bool = False
    # Send the metrics to tensorboard (RUN/tensorboard) or mlflow (a SQLite file beside RUN) as well.
    track: tuple[Literal["tensorboard", "mlflow"], ...] = ()
    # auto, cpu, cuda or mps.
    device: str = "auto"
    # Decides initial weights, order and views.
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.data:
            raise ValueError("pretrain needs at least one prepared set")
        if self.epochs < 1 or self.batch_size < 2:
            raise ValueError(
                f"--epochs must be at least 1 and --batch-size at least 2: {self.epochs}, {self.batch_size}"
            )
        if not self.temperature > 0:
            raise ValueError(f"--temperature must be positive, got {self.temperature}")
        if not 0 <= self.warm_up < 1:
            raise ValueError(f"--warm-up is a share of all steps, from 0 to below 1, got {self.warm_up}")
        if self.views != "auto":
            get_recipe(self.views)


def pretrain(config: PretrainConfig) -> Path:
    """Pre-train an encoder and return its run folder; the same config resumes where a run stopped."""
    device = choose_device(config.device)
    with joined(device) as (rank, world):
        return _pretrain(config, device, rank, world)


def _pretrain(config: PretrainConfig, device: torch.device, rank: int, world: int) -> Path:
    # Data
    sets = [open_prepared(path) for path in config.data]
    pool = [(prepared, pool_of(prepared)) for prepared in sets]
    count = sum(len(records) for _, records in pool)
    if config.batch_size > count or config.batch_size % world:
        raise ValueError(
            f"--batch-size {config.batch_size} must be at most the {count} images of the pool "
            f"and a multiple of the {world} process(es)"
        )
    check_overlap(sets, pool, config.allow_leaks)
    config = resolve(config, sets, device)
    resuming = check_out(config.out, "pretrain", config)
    barrier()  # all have looked before the first process begins to write

    # Model and optimiser
    torch.manual_seed(config.seed)
    channels = sets[0].channels
    encoder = create_encoder(config.encoder, channels, config.image_size)
    loaded = load_encoder_weights(encoder, config.encoder, config.init)
    method_class, method_config = METHODS[config.method]
    method = method_class(encoder, feature_size(encoder), pick(method_config, config))
    method = method.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    spec = NetworkInput(config.image_size, *normalisation_of(config.encoder, channels))
    assert config.learning_rate is not None and config.weight_decay is not None
    optimiser = build_optimiser(config.optimiser, parameter_groups(method, config.weight_decay), config.learning_rate)
    trained = DistributedDataParallel(synchronise(method)) if world > 1 else method

    # Run folder, resume
    store = ImageStore(pool, device)
    run = open_run(config.out, "pretrain", config, {str(s.path): s.card["content_hash"] for s in sets})
    steps_per_epoch = count // config.batch_size
    total_steps = config.epochs * steps_per_epoch
    first_epoch = 0
    if resuming and run.checkpoint.exists():
        state = checkpoint.load(run.checkpoint)
        checkpoint.load_strict(method, state["method"], str(run.checkpoint))
        optimiser.load_state_dict(state["optimiser"])
        first_epoch = state["epoch"]
    run.forget_after(first_epoch * steps_per_epoch)  # rows that were logged after the last checkpoint, if any
    recipe = get_recipe(config.views)
    say(f"{config.method} with {config.encoder} ({loaded}), {count:,} images at {config.image_size} px on {device}")
    rate = config.learning_rate
    say(f"views {config.views}, {config.optimiser} at {rate:.3g}, {config.precision}, {total_steps:,} steps")
    if first_epoch:
        say(f"resuming after epoch {first_epoch} of {config.epochs}")
    elif is_first_process():
        write_seen(run.path, pool, config.init)
        shown = store.gather(epoch_batches(count, 8, config.seed, 0, drop_last=False)[0])
        write_view_sheet(run.path / "views.jpg", shown, recipe, spec.image_size, step_generator(config.seed, 0))

    def two_views(batch: np.ndarray, step: int) -> tuple[Tensor, Tensor]:
        # The table is drawn for the whole batch and each process takes its part: the views do not depend on `world`.
        part = shard_of(batch, rank, world)
        images = store.take(batch[part])
        tables = draw(recipe, 2 * len(batch), store.image_shape[0], spec.image_size, step_generator(config.seed, step))
        first, second = tables[: len(batch)][part], tables[len(batch) :][part]
        return random_views(images, first, spec, device), random_views(images, second, spec, device)

    def epoch_views(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        batches = epoch_batches(count, config.batch_size, config.seed, epoch, drop_last=True, windows=store.windows)
        for number, batch in enumerate(batches):
            yield two_views(batch, epoch * steps_per_epoch + number)

    # Loop
    step = first_epoch * steps_per_epoch
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
    row: dict[str, float] = {}
    with progress_bar("pretrain", total_steps * config.batch_size, done=step * config.batch_size) as bar:
        for epoch in range(first_epoch, config.epochs):
            torch.manual_seed(config.seed + 1000 * (epoch + 1) + rank)  # dropout and stochastic depth, if any
            trained.train()
            totals: dict[str, Tensor] = {}
            since, waited, steps_since = time.perf_counter(), 0.0, 0
            views = iter(prefetch(epoch_views(epoch)))
            for _ in range(steps_per_epoch):
                asked = time.perf_counter()
                view1, view2 = next(views)
                waited += time.perf_counter() - asked
                rate = config.learning_rate * warm_up_cosine(step, total_steps, round(config.warm_up * total_steps))
                set_learning_rate(optimiser, rate)
                with autocast:
                    loss, facts = trained(view1, view2)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                step, steps_since = step + 1, steps_since + 1
                for name, value in {"loss": loss.detach(), **facts}.items():
                    totals[name] = totals[name] + value if name in totals else value.clone()
                bar.advance(config.batch_size)
                if steps_since == LOG_EVERY or step % steps_per_epoch == 0:
                    # The only place where the device is waited for.
                    means = mean_over_processes(torch.stack(list(totals.values())) / steps_since).tolist()
                    row = {"step": step, "epoch": epoch + 1, **dict(zip(totals, means, strict=True))}
                    seconds = time.perf_counter() - since
                    row["learning_rate"] = rate
                    row["images_per_second"] = steps_since * config.batch_size / seconds
                    row["data_wait"] = waited / seconds
                    if not math.isfinite(row["loss"]):
                        raise ValueError(
                            f"the loss became {row['loss']} between steps {step - steps_since} and {step}, in epoch "
                            f"{epoch + 1}; {run.path} keeps the state of epoch {epoch}. Start again with another --out "
                            f"and a lower --learning-rate (now {config.learning_rate:.3g}), a longer --warm-up, "
                            "or --precision fp32"
                        )
                    run.log(row)
                    bar.advance(0, f"epoch {epoch + 1} loss {row['loss']:.3f} wait {row['data_wait']:.0%}")
                    totals, since, waited, steps_since = {}, time.perf_counter(), 0.0, 0
            if is_first_process():
                state = {"method": method.state_dict(), "optimiser": optimiser.state_dict(), "epoch": epoch + 1}
                checkpoint.save(state, run.checkpoint)
            barrier()

    # Finish
    if is_first_process():
        _finish(run, config, sets, method, store, spec, device)
        run.close()
    barrier()
    return run.path


def _finish(
    run: Run, config: PretrainConfig, sets: list[PreparedSet], method: SimCLR, store: ImageStore, spec: NetworkInput,
    device: torch.device,
) -> None:  # fmt: skip
    """Write the encoder and what it needs, and say whether the training was healthy."""
    encoder = method.encoder.eval()
    checkpoint.save_weights(encoder, run.path / "encoder.safetensors")
    chosen = epoch_batches(len(store), HEALTH_IMAGES, config.seed, 0, drop_last=False)[0]
    with torch.inference_mode():
        parts = [
            encoder(plain_view(store.gather(part), spec, device)) for part in np.array_split(chosen, 8) if len(part)
        ]
    features = torch.cat(parts).float().cpu()
    rank = effective_rank(features)
    last = read_metrics(run.path)[-1]
    word, reasons = verdict(last["loss"], config.batch_size, config.temperature, rank, min(features.shape))
    bounds = {
        "loss_floor": ntxent_floor(config.batch_size, config.temperature),
        "loss_chance": ntxent_chance(config.batch_size),
    }
    write_json(
        run.path / "health.json", {"verdict": word, "reasons": reasons, "effective_rank": rank, **bounds, **last}
    )
    write_json(run.path / "model.json", {
        "kind": "encoder", "encoder": config.encoder, "channels": sets[0].channels, "features": features.shape[1],
        "image_size": spec.image_size, "mean": spec.mean, "std": spec.std, "preparation": sets[0].card["options"],
    })  # fmt: skip
    say(f"done: loss {last['loss']:.3f}, {last['images_per_second']:,.0f} images/s, waiting {last['data_wait']:.0%}")
    say(f"verdict: {word}" + "".join(f"\n  - {reason}" for reason in reasons))
    if word != "healthy":
        warn("look at the reasons above before using this encoder")
    say(f"encoder: {run.path / 'encoder.safetensors'}")


def resolve(config: PretrainConfig, sets: list[PreparedSet], device: torch.device) -> PretrainConfig:
    """Replace every `auto` by the value that will be used."""
    channels, size = sets[0].channels, config.image_size or sets[0].size
    views = config.views
    if views == "auto":
        colour = "fundus" if all(s.card["fundus"] for s in sets) else ("cifar" if size <= 64 else "simclr")
        views = "digits" if channels == 1 else colour
    assert views in RECIPES
    scale = config.batch_size / 256
    rates = {"adamw": 1e-3 * math.sqrt(scale), "sgd": 0.12 * scale, "lars": 0.6 * scale}
    decays = {"adamw": 0.01, "sgd": 5e-4, "lars": 1e-6}
    precision = config.precision
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    hidden = config.projection_hidden
    if not hidden:
        hidden = feature_size(create_encoder(config.encoder, channels, size))
    return replace(
        config, views=views, image_size=size, precision=precision, projection_hidden=hidden,
        learning_rate=rates[config.optimiser] if config.learning_rate is None else config.learning_rate,
        weight_decay=decays[config.optimiser] if config.weight_decay is None else config.weight_decay,
    )  # fmt: skip
