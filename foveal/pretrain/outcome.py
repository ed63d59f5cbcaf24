"""The results of pre-training: the encoder, what it needs, and whether a fault was found."""

import math
from typing import Any

import numpy as np
import torch

from foveal import checkpoint
from foveal.augment.views import plain_view
from foveal.console import is_first_process, warn
from foveal.files import write_json
from foveal.hardware import in_precision
from foveal.nets.encoder import feature_size
from foveal.page.render import print_template
from foveal.pretrain.feed import Feed
from foveal.pretrain.health import EARLY, NO_FAULT, TOO_EASY, bounds_of, look, verdict
from foveal.pretrain.probe import helped
from foveal.pretrain.step import Built, running_statistics_still
from foveal.runs import FINISHED, Run, read_metrics
from foveal.sets.loader import epoch_batches
from foveal.sets.records import PreparedSet

HEALTH_IMAGES = 512
LOOKED_AT_ONCE = 64  # images


def finish(run: Run, prepared: PreparedSet, built: Built, feed: Feed, found: dict[str, Any] | None) -> None:
    """Write the files of the encoder, and print the verdict; all processes call this.

    found: the result of `examine` after the last epoch, if this process was there.
    """
    final = found or examine(built, feed)
    config, encoder, file = feed.config, built.method.encoder, run.path / FINISHED
    if not is_first_process():
        return
    checkpoint.save_weights(encoder, file)
    rows = read_metrics(run.path)
    last, bounds = rows[-1], bounds_of(rows[-1], built.method.bounds(config.batch_size))
    word, reasons = judged(rows, final, built, feed)
    probed = helped(run.path)
    known = {} if bounds is None else {"loss_floor": bounds[0], "loss_chance": bounds[1]}
    write_json(run.path / "health.json", {**last, **known, **final, "verdict": word, "reasons": reasons,
                                         "helped": {row["probe"]: row["answer"] for row in probed}})  # fmt: skip
    write_json(run.path / "model.json", {
        "kind": "encoder", "encoder": config.encoder, "channels": prepared.channels, "features": feature_size(encoder),
        **vars(feed.spec), "preparation": prepared.card["options"], "fundus": prepared.card["fundus"],
    })  # fmt: skip
    fault = word != NO_FAULT
    print_template("finished.txt", last=last, judgement=word, reasons=reasons, fault=fault, probed=probed, file=file)


def judged(rows: list[dict[str, Any]], found: dict[str, Any], built: Built, feed: Feed) -> tuple[str, list[str]]:
    """The verdict on the rows of a run and a last look."""
    config, method = feed.config, built.method
    together = method.uses_labels or config.simclr.same_group == "positive"
    return verdict(rows, found, method.bounds(config.batch_size), config.method, config.batch_size, together)


@torch.inference_mode()
def examine(built: Built, feed: Feed, images: int = HEALTH_IMAGES) -> dict[str, Any]:
    """`health.look` at the features and embeddings of 512 images of the pool, always the same ones.

    Features are those of whole images in evaluation mode, in float32: rounding would hide a collapse. Embeddings are
    those of random views as in training: in a short run, running statistics lag behind, and a good one looks collapsed.
    """
    config = feed.config
    chosen = epoch_batches(len(feed.store), images, config.seed, 0, drop_last=False)[0]
    alone = Feed(config, feed.store, feed.spec, feed.device, None)
    held = int(config.micro_batch) if config.micro_batch.isdigit() else config.batch_size
    at_once = min(LOOKED_AT_ONCE, held)  # no more than a step holds
    features, embedded = [], []
    for number, part in enumerate(np.array_split(chosen, math.ceil(len(chosen) / at_once))):
        features.append(built.method.encoder.eval()(plain_view(feed.store.gather(part), feed.spec, feed.device)))
        built.training_mode()
        with running_statistics_still(built.method), in_precision(config.precision, feed.device):
            for views in alone.batch(part, number)[0]:
                embedded.append(built.method(*views)[:2])
    first, second = zip(*embedded, strict=True)
    return look(*(torch.cat(column).float().cpu() for column in (first, second, features)))


def facts_for_row(run: Run, row: dict[str, Any], found: dict[str, Any], built: Built, feed: Feed) -> dict[str, Any]:
    """What `examine` found, to add to a row of metrics.jsonl at the end of an epoch; warns if the task is too easy."""
    if not is_first_process():
        return {}
    word, reasons = judged([*read_metrics(run.path), row], found, built, feed)
    for reason in reasons:
        if reason.startswith(TOO_EASY) and row["epoch"] <= EARLY:
            warn(f"epoch {row['epoch']}: {reason}")
    return {"effective_rank": found["effective_rank"], "verdict": word}
