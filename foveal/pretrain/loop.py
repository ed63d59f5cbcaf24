"""pretrain: learn an encoder from photographs without using a single grade.

    foveal pretrain DATA --out RUN --encoder tf_efficientnet_lite0 --init imagenet --epochs 20
    torchrun --nproc-per-node 2 -m foveal pretrain DATA --out RUN

The pool is every training and unlabelled image of the sets; validation and test parts are never touched. All
randomness is a function of (seed, step): the same command resumes an interrupted run and ends with the same numbers.
In another number of processes they are the same but for the rounding of float32, which grows from step to step.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from foveal import checkpoint
from foveal.augment.sheet import write_view_sheet
from foveal.augment.views import NetworkInput
from foveal.console import is_first_process, progress_bar, say, warn
from foveal.distributed import barrier, choose_device, decided_by_first, from_first_process, joined, mean_over_processes
from foveal.errors import FovealError
from foveal.files import write_json
from foveal.nets.average import update_average
from foveal.nets.encoder import create_encoder, normalisation_of
from foveal.nets.stages import freeze_stages
from foveal.nets.weights import load_encoder_weights
from foveal.predict.features import encode
from foveal.pretrain import probe as probing
from foveal.pretrain.auto import Machine, check_micro_batch, describe, settle
from foveal.pretrain.built import build
from foveal.pretrain.faults import check_first
from foveal.pretrain.feed import Feed, MicroBatches, identities
from foveal.pretrain.health import CALMER, bounds_of, check_loss
from foveal.pretrain.options import PretrainConfig, seconds_of
from foveal.pretrain.outcome import estimate_statistics, finish, look_on_the_way
from foveal.pretrain.plan import BUDGET_SECONDS, PLAN_SECONDS, epochs_between_looks, epochs_within, rehearse, show_plan
from foveal.pretrain.resolve import METHODS, resolve
from foveal.pretrain.step import gradients
from foveal.runs import Run, check_out, open_run, read_metrics, sole_writer
from foveal.schedule import set_learning_rate, warm_up_cosine
from foveal.sets.leaks import pool_of, read_seen, refuse_seen, seen_of, write_seen
from foveal.sets.loader import CPU, ImageStore, epoch_batches, prefetch, step_generator
from foveal.sets.records import PreparedSet, check_alike, open_prepared

LOG_EVERY = (50, 10, 2)  # steps between two looks at the loss, each of which waits for the device
LOOK_WITHIN = 120.0  # seconds between two looks, of which the steps are chosen; two steps may take longer
SAVE_WITHIN = 300.0  # seconds after which the next look within an epoch writes a checkpoint
SAVE_SHARE = 0.05  # checkpoints at the ends of epochs take no more of the time than that
PREVIEW_IMAGES = 8


def pretrain(config: PretrainConfig) -> Path:
    """Pre-train an encoder and return its run folder; the same config resumes where a run stopped."""
    device = choose_device(config.device)
    with joined(device) as (rank, world), lost_process_explained(config.out), ExitStack() as held:
        return _pretrain(config, device, rank, world, held)


def _pretrain(config: PretrainConfig, device: torch.device, rank: int, world: int, held: ExitStack) -> Path:
    # Data
    began = time.monotonic()
    sets = [open_prepared(path) for path in config.data]
    check_alike(sets, "to learn from them together")
    pool = [(prepared, pool_of(prepared)) for prepared in sets]
    count = sum(len(records) for _, records in pool)
    if config.preview:
        return _preview(resolve(config, sets), sets, pool)
    if config.batch_size > count:
        raise FovealError(
            "option.value", f"--batch-size is {config.batch_size}", expected=f"at most {count}, the images of the pool"
        )
    if config.batch_size % world:
        raise FovealError(
            "option.value", f"--batch-size is {config.batch_size}", expected=f"a multiple of the {world} processes"
        )
    by_label, by_group = METHODS[config.method].uses_labels, config.simclr.same_group in ("mask", "positive")
    learned, learned_before = seen_of(pool, by_label=by_label), read_seen(config.init)
    for prepared in sets:
        refuse_seen(prepared, learned, "the pool", config.allow_leaks)
    check_micro_batch(config, world)
    given = config
    config = decided_by_first(lambda: resolve(given, sets, world))
    resuming = not config.plan and decided_by_first(lambda: check_out(config.out, "pretrain", config))
    probe = None
    if config.probe is not None:
        probe = probing.open_probe(config.probe, sets[0], config.seed, pd.concat([learned, learned_before]))
    identity = identities(pool, by_label, config.simclr.same_group == "positive") if by_label or by_group else None

    # Model
    channels = sets[0].channels
    torch.manual_seed(config.seed)
    encoder = create_encoder(config.encoder, channels, config.image_size)
    loaded = load_encoder_weights(encoder, config.encoder, config.init)
    freeze_stages(encoder, config.freeze_stages)
    machine = Machine(device, world, (sets[0].size, sets[0].size, channels), count)
    config, rates = settle(config, machine)
    spec = NetworkInput(config.image_size, *normalisation_of(config.encoder, channels))
    store = ImageStore(pool, device)
    if config.plan or (config.budget is not None and not resuming):
        rehearsed = build(config, channels, create_encoder(config.encoder, channels, config.image_size), device, world)
        feed = Feed(config, store, spec, device, identity, rank, world)
        measuring = BUDGET_SECONDS if config.budget is None else min(BUDGET_SECONDS, seconds_of(config.budget) / 10)
        rehearsal = rehearse(rehearsed, feed, probe, PLAN_SECONDS if config.plan else measuring)
        del rehearsed  # the run itself needs that memory
        if config.budget is not None:
            spent = from_first_process(time.monotonic() - began) - (PLAN_SECONDS - measuring if config.plan else 0.0)
            epochs = epochs_within(
                seconds_of(config.budget) - spent, rehearsal, feed.steps * config.batch_size, config.probe_every
            )
            say(f"--budget {config.budget} allows {epochs:,} epochs, whatever --epochs says")
            config = replace(config, epochs=epochs)
        if config.plan:
            show_plan(config, machine, rates, rehearsal, feed.steps * config.batch_size)
            return config.out
    torch.manual_seed(config.seed + 1)  # the heads start alike, whatever was measured before
    built = build(config, channels, encoder, device, world)
    method, trained, optimiser = built.method, built.trained, built.optimiser
    averaged = copy.deepcopy(method.encoder).requires_grad_(False) if config.ema else None
    kept = method.encoder if averaged is None else averaged

    # Run folder, resume
    decided_by_first(lambda: held.enter_context(sole_writer(config.out, "pretrain")))
    opened: list[Run] = []  # in the first process, which alone has trackers
    hashes = {str(prepared.path): prepared.card["content_hash"] for prepared in sets}
    decided_by_first(lambda: opened.append(open_run(config.out, "pretrain", config, hashes)))
    run = opened[0] if opened else Run(config.out)
    feed = Feed(config, store, spec, device, identity, rank, world)
    total_steps, step, log_every = config.epochs * feed.steps, 0, LOG_EVERY[0]
    state = decided_by_first(lambda: checkpoint.load(run.checkpoint) if run.checkpoint.exists() else None)
    if state is not None:
        checkpoint.load_strict(method, state["method"], str(run.checkpoint))
        optimiser.load_state_dict(state["optimiser"])
        if averaged is not None:
            checkpoint.load_strict(averaged, state["averaged"], str(run.checkpoint))
        step, log_every = state["step"], state.get("log_every", log_every)
    del state
    run.forget_after(step)  # rows that were logged after the last checkpoint, if any
    if step == total_steps and decided_by_first((run.path / "health.json").is_file):
        say(f"{run.path} is finished: {config.epochs} epochs; another --out begins a new run")
        run.close()
        return run.path
    say(f"{config.method} with {config.encoder} ({loaded}), {count:,} images at {config.image_size} px on {device}")
    say(f"{describe(config)}; views {config.views}")
    normed = any(isinstance(module, _BatchNorm) for module in method.modules())
    seen = config.batch_size if config.micro_batch == "whole" else int(config.micro_batch) * world
    if seen != config.batch_size and normed:
        warn(
            f"BatchNorm takes its statistics of micro-batches, of {seen} images instead of {config.batch_size}: a "
            "somewhat different network than without --micro-batch"
        )
    if identity is not None:
        say(_who_belongs_together(identity, "label" if by_label else "group"))
    left_over = count % config.batch_size
    say(
        f"{config.optimiser} at {config.learning_rate:.3g}, {config.epochs} epochs of {feed.steps:,} steps"
        + (f"; {left_over} images of each epoch, other ones each time, do not fill a batch" if left_over else "")
    )
    before = read_metrics(run.path)[-1].get("statistics_of", seen) if step and is_first_process() else seen
    if seen != before and normed:
        warn(
            f"BatchNorm took its statistics of {before} images until now and goes on with {seen}, which an "
            "uninterrupted run would not: --micro-batch, or the number of processes, is another one"
        )
    if step:
        say(f"resuming after step {step:,}, in epoch {step // feed.steps + 1} of {config.epochs}")
    elif is_first_process():
        write_seen(run.path, learned, learned_before)
        _write_views(run.path / "views.jpg", config, store, feed)
        if rates:
            write_json(run.path / "auto.json", {"images_per_second": rates})

    def save() -> tuple[float, float]:
        """Write the checkpoint, right after a row was logged; returns when it was done and how long it took."""
        began = time.perf_counter()
        if is_first_process():
            state = {"method": method.state_dict(), "optimiser": optimiser.state_dict(), "step": step}
            state |= {"log_every": log_every} | ({} if averaged is None else {"averaged": averaged.state_dict()})
            checkpoint.save(state, run.checkpoint)
        return time.perf_counter(), time.perf_counter() - began

    def judge(epoch: int) -> None:
        if probe is not None and is_first_process():
            rows = probing.judge(probe, encode(kept.eval(), probe.store, spec, device))
            probing.append(run.path, epoch, rows)
            say(f"probe after epoch {epoch}: {probing.describe(rows)}")
        barrier()

    def looks(epoch: int) -> bool:
        return epoch % probe_every == 0 or epoch == config.epochs

    # Loop
    peak = config.learning_rate
    assert peak is not None
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
    saved, saving = time.perf_counter(), 0.0
    warm_up, probe_every = round(config.warm_up * total_steps), epochs_between_looks(config.epochs, config.probe_every)
    bounds, rank_seed = method.bounds(config.batch_size), 100_003 * rank
    if step == 0:
        judge(0)
    with progress_bar("pretrain", total_steps * config.batch_size, done=step * config.batch_size) as bar:
        for epoch in range(step // feed.steps, config.epochs):
            built.training_mode()
            totals: dict[str, Tensor] = {}
            since = time.perf_counter()
            waited, steps_since, first = 0.0, 0, step % feed.steps
            batches = iter(prefetch(feed.epoch(epoch, first)))
            for number in range(first, feed.steps):
                asked = time.perf_counter()
                views, own_identity = next(batches)
                waited += time.perf_counter() - asked
                rate = peak * warm_up_cosine(step, total_steps, warm_up)
                set_learning_rate(optimiser, rate)
                optimiser.zero_grad(set_to_none=True)
                seed = config.seed + 1_000_003 * (step + 1) + rank_seed
                if step == 0:
                    check_first(method, views[0], own_identity, autocast)
                loss, facts = gradients(trained, method, views, own_identity, autocast, seed)
                waited += views.waited if isinstance(views, MicroBatches) else 0.0
                optimiser.step()
                step, steps_since = step + 1, steps_since + 1
                method.after_step(step / total_steps)
                if averaged is not None:
                    # A young average follows quickly, so that a short run does not keep its starting weights.
                    update_average(averaged, method.encoder, min(config.ema, (1 + step) / (10 + step)))
                for name, value in {"loss": loss, **facts}.items():
                    totals[name] = totals[name] + value if name in totals else value.clone()
                bar.advance(config.batch_size)
                if steps_since == log_every or number + 1 == feed.steps or step == 1:
                    # The only place where the device is waited for.
                    means = mean_over_processes(torch.stack(list(totals.values())) / steps_since).tolist()
                    row: dict[str, Any] = {"step": step, "epoch": epoch + 1, **dict(zip(totals, means, strict=True))}
                    seconds = time.perf_counter() - since
                    row["learning_rate"] = rate
                    row["images_per_second"] = steps_since * config.batch_size / seconds
                    row["data_wait"] = waited / seconds
                    if normed:
                        row["statistics_of"] = seen
                    if not math.isfinite(row["loss"]):
                        between = f"between steps {step - steps_since} and {step}, in epoch {epoch + 1}"
                        raise _diverged(f"the loss became {row['loss']} {between}", run, config)
                    if not all(bool(weights.isfinite().all()) for weights in method.parameters()):
                        raise _diverged(f"weights are no longer finite numbers at step {step}", run, config)
                    check_loss(row["loss"], bounds_of(row, bounds), row, first=step == 1)
                    if step == 1:
                        log_every = steps_between_looks(from_first_process(seconds))
                    if number + 1 == feed.steps and looks(epoch + 1):
                        if averaged is not None:
                            estimate_statistics(averaged, feed)
                        row |= look_on_the_way(run, row, built, kept, feed)
                        built.training_mode()
                    run.log(row)
                    bar.advance(0, f"epoch {epoch + 1} loss {row['loss']:.3f} wait {row['data_wait']:.0%}")
                    if number + 1 < feed.steps and time.perf_counter() - saved > SAVE_WITHIN:
                        saved, saving = save()
                    totals, since, waited, steps_since = {}, time.perf_counter(), 0.0, 0
            if looks(epoch + 1):  # before the checkpoint: what is judged after it would be lost with a kill in between
                judge(epoch + 1)
            if epoch + 1 == config.epochs or SAVE_SHARE * (time.perf_counter() - saved) > saving:
                saved, saving = save()
            barrier()

    # Finish
    finish(run, config, sets[0], built, kept, feed)
    run.close()
    barrier()
    return run.path


def steps_between_looks(seconds: float) -> int:
    """By the first step, for the whole run: a row is a mean over them, and must not depend on when a run was killed."""
    return next((steps for steps in LOG_EVERY if steps * seconds <= LOOK_WITHIN), LOG_EVERY[-1])


def _diverged(what: str, run: Run, config: PretrainConfig) -> FovealError:
    kept = f"; {run.path} keeps the last good state" if run.checkpoint.is_file() else ""
    return FovealError(
        "training.diverged", f"{what}, at a learning rate of {config.learning_rate:.3g}{kept}", fix=CALMER
    )


def _who_belongs_together(identity: np.ndarray, what: str) -> str:
    sizes = np.bincount(identity)
    shared = sizes[sizes > 1]
    return (
        f"{shared.sum():,} of {len(identity):,} images share their {what} with another: {len(shared):,} {what}s, the "
        f"largest with {shared.max():,} images"
    )


def _write_views(file: Path, config: PretrainConfig, store: ImageStore, feed: Feed) -> None:
    shown = store.gather(epoch_batches(len(store), PREVIEW_IMAGES, config.seed, 0, drop_last=False)[0])
    write_view_sheet(file, shown, feed.recipes, config.image_size, step_generator(config.seed, 0))


def _preview(config: PretrainConfig, sets: list[PreparedSet], pool: Sequence[tuple[PreparedSet, Any]]) -> Path:
    """Write OUT-views.jpg, a sheet of random views of a few images of the pool; OUT itself stays free for the run."""
    spec = NetworkInput(config.image_size, *normalisation_of(config.encoder, sets[0].channels))
    store = ImageStore(pool)
    file = config.out.with_name(f"{config.out.name}-views.jpg")
    file.parent.mkdir(parents=True, exist_ok=True)
    _write_views(file, config, store, Feed(config, store, spec, CPU, None))
    say(f"views {config.views}: {file}")
    return file


@contextmanager
def lost_process_explained(out: Path) -> Iterator[None]:
    """FovealError in place of the connection error that a process gets when another one has died."""
    try:
        yield
    except RuntimeError as error:
        words = str(error)
        if dist.is_initialized() and any(sign in words for sign in ("Connection", "peer", "NCCL", "gloo", "timed out")):
            first = words.splitlines()[0].rpartition("] ")[2][:160]
            resumes = f"which resumes from the checkpoint in {out}, " if (out / "checkpoint.pt").is_file() else ""
            raise FovealError(
                "training.process_lost", f"another process of this run has ended, so this one ends too ({first})",
                fix=f"run the same command again, {resumes}in any number of processes that divides the batch",
            ) from error  # fmt: skip
        raise
