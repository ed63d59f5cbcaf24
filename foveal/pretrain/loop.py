"""pretrain: learn an encoder from photographs without using a single grade.

The pool is every training and unlabelled image of the sets. All randomness is a function of (seed, step): the same
command resumes an interrupted run and gives the same numbers (up to rounding with another number of processes).
"""

import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from foveal.augment.recipes import recipe_pair
from foveal.augment.views import NetworkInput, write_view_sheet
from foveal.config import check
from foveal.console import is_first_process, say, warn
from foveal.distributed import barrier, choose_device, decided_by_first, joined, lost_process_explained
from foveal.errors import FovealError
from foveal.files import write_json
from foveal.nets.encoder import create_encoder, freeze_stages
from foveal.nets.layers import statistics_layers
from foveal.nets.weights import load_encoder_weights, normalisation_for
from foveal.page.render import print_template
from foveal.page.words import counted
from foveal.pretrain import probe as probing
from foveal.pretrain.auto import resolve, settle
from foveal.pretrain.feed import Feed, identities
from foveal.pretrain.options import PretrainConfig
from foveal.pretrain.outcome import finish
from foveal.pretrain.plan import rehearsed
from foveal.pretrain.step import build, method_of
from foveal.pretrain.training import Training
from foveal.runs import Run, check_out, open_run, record_weights, sole_writer
from foveal.sets.leaks import pool_of, read_seen, refuse_seen, seen_of, write_seen
from foveal.sets.loader import CPU, ImageStore, epoch_batches, step_generator
from foveal.sets.records import PreparedSet, check_alike, open_prepared


def pretrain(config: PretrainConfig) -> Path:
    """Pre-train an encoder and return its run folder; the same config resumes an interrupted run."""
    device = choose_device(config.device)
    with joined(device) as (rank, world), lost_process_explained(config.out), ExitStack() as held:
        return _pretrain(config, device, rank, world, held)


def _pretrain(given: PretrainConfig, device: torch.device, rank: int, world: int, held: ExitStack) -> Path:
    # Images
    began = time.monotonic()
    sets = [open_prepared(path) for path in given.data]
    by_label = getattr(method_of(given.method), "uses_labels", False)
    check_alike(sets, "to learn from them together")
    parts = [(prepared, pool_of(prepared)) for prepared in sets]
    images = sum(len(records) for _, records in parts)
    if given.preview:
        return _preview(resolve(given, sets), parts)
    _check_batch(given, images, world)
    learned, before = seen_of(parts, by_label=by_label), read_seen(given.init)  # what shapes the encoder: now, before
    for prepared in sets:
        refuse_seen(prepared, learned, "the pool", given.allow_leaks)
    config = decided_by_first(lambda: resolve(given, sets, world))
    resuming = not config.plan and decided_by_first(lambda: check_out(config.out, "pretrain", config))
    probe, identity = probing.probe_of(config.probe, sets, config.seed, pd.concat([learned, before])), None
    if by_label or config.simclr.same_group != "ignore":
        identity = identities(parts, by_label, config.simclr.same_group == "positive")

    # Network, and what suits the machine
    channels = sets[0].channels
    torch.manual_seed(config.seed)
    encoder = create_encoder(config.encoder, channels, config.image_size)
    loaded = load_encoder_weights(encoder, config.encoder, config.init, random_stem=config.random_stem)
    freeze_stages(encoder, config.freeze_stages)  # refuses before anything is measured
    if not any(weights.requires_grad for weights in encoder.parameters()):
        what = f"no weights of {config.encoder} would learn: none requires a gradient"
        raise FovealError("encoder.frozen", what, fix="call encoder.requires_grad_(True) before")
    spec = NetworkInput(config.image_size, *normalisation_for(config.init, config.encoder, channels))
    feed, why = settle(Feed(config, ImageStore(parts, device), spec, device, identity, rank, world))
    if config.plan or (config.budget is not None and not resuming):
        feed = rehearsed(feed, why, probe, began)
    config = feed.config
    if config.plan:
        return config.out
    torch.manual_seed(config.seed + 1)  # the heads start alike, whatever was measured before
    built = build(config, channels, encoder, device, world)

    # Run
    decided_by_first(lambda: held.enter_context(sole_writer(config.out, "pretrain")))
    opened: list[Run] = []  # in the first process, which alone has trackers
    hashes = {str(prepared.path): prepared.card["content_hash"] for prepared in sets}
    decided_by_first(lambda: opened.append(open_run(config.out, "pretrain", config, hashes)))
    run = opened[0] if opened else Run(config.out)
    record_weights(run.path, {config.init: loaded.record})
    training = Training(built, feed, run, probe)
    if training.resume():
        say(f"{run.path} is finished: {counted(config.epochs, 'epoch')}; choose another --out for a new run")
    else:
        size = f"{counted(images, 'image')} at {config.image_size} px"
        say(f"{config.method} with {config.encoder} ({loaded}), {size} on {device}")
        _say_what_begins(training, why)
        if not training.step and is_first_process():
            write_seen(run.path, learned, before)
            _write_views(run.path / "views.jpg", feed)
            write_json(run.path / "auto.json", why)
        training.train()
        finish(run, sets[0], built, feed, training.found)
    run.close()
    barrier()
    return run.path


def _check_batch(config: PretrainConfig, count: int, world: int) -> None:
    size, micro, share = config.batch_size, config.micro_batch, config.batch_size // world
    check(config, "batch_size", size <= count, f"at most {count}, the images of the pool")
    check(config, "batch_size", size % world == 0, f"a multiple of the {world} processes")
    fits = not micro.isdigit() or (int(micro) >= 2 and share % int(micro) == 0)
    check(config, "micro_batch", fits, f"at least 2, and a divisor of the {share} images of each process")


def _say_what_begins(training: Training, why: dict[str, str]) -> None:
    config, feed = training.config, training.feed
    shared = [] if feed.identity is None else [size for size in np.bincount(feed.identity).tolist() if size > 1]
    print_template("begins.txt", training=training, why=why, shared=shared)
    whole, seen = config.batch_size, int(config.micro_batch) * feed.world if config.micro_batch.isdigit() else None
    if seen and seen != whole and statistics_layers(training.method):
        warn(f"BatchNorm computes its statistics from {seen} images instead of {whole}, which changes the result")


def _write_views(file: Path, feed: Feed) -> None:
    config, store = feed.config, feed.store
    shown = store.gather(epoch_batches(len(store), 8, config.seed, 0, drop_last=False)[0])
    write_view_sheet(file, shown, recipe_pair(config.views), config.image_size, step_generator(config.seed, 0))


def _preview(config: PretrainConfig, parts: list[tuple[PreparedSet, pd.DataFrame]]) -> Path:
    spec = NetworkInput(config.image_size, *normalisation_for(config.init, config.encoder, parts[0][0].channels))
    file = config.out.with_name(f"{config.out.name}-views.jpg")
    file.parent.mkdir(parents=True, exist_ok=True)
    _write_views(file, Feed(config, ImageStore(parts), spec, CPU, None))
    say(f"views {config.views}: {file}")
    return file
