"""fit: one grader, from its starting weights to its best epoch. The same order of steps as pretrain/loop.py.

The validation part, where there is one, chooses the epoch; without one the last is kept.
"""

from __future__ import annotations

import math
import time
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from foveal import checkpoint
from foveal.augment.recipes import get_recipe
from foveal.augment.sheet import write_view_sheet
from foveal.augment.views import NetworkInput
from foveal.console import progress_bar, say
from foveal.losses.grading import LOSSES, decide, to_logits
from foveal.losses.targets import importance
from foveal.nets.average import update_average
from foveal.runs import Run
from foveal.schedule import set_learning_rate, stepped, warm_up_cosine
from foveal.sets.loader import ImageStore, epoch_batches, prefetch, step_generator
from foveal.sets.records import PreparedSet
from foveal.train.built import Built, build, folded, standardise
from foveal.train.epoch import Judged, judge, note, re_estimated, refuse_divergence, selection_score, summarise
from foveal.train.feed import feed
from foveal.train.learned import Learned, weights_of
from foveal.train.mistakes import Answers, write_errors
from foveal.train.options import TrainConfig

# Options that change what is learned, and that a person wants to see when they are not the usual ones.
CHOICES = (
    "sampling", "schedule", "layer_decay", "freeze_stages", "head_first", "grow_from", "micro_batch", "batch_norm",
    "ema", "label_smoothing", "mixup", "cutmix", "second", "pseudo_labels",
)  # fmt: skip

USUAL = {"batch_norm": "re-estimate"}  # what `auto` stands for, as a rule


def fit(
    run: Run, config: TrainConfig, prepared: PreparedSet, learned: Learned, held_out: pd.DataFrame, spec: NetworkInput,
    device: torch.device,
) -> int:  # fmt: skip
    """Train into `run`, from its checkpoint where it has one; returns the epoch whose weights are in best.pt.

    config: resolved. held_out: labelled records that choose the epoch, maybe none.
    """
    # Model and optimiser
    built = build(config, prepared, learned, spec, device)
    grader, optimiser, average = built.grader, built.optimiser, built.average
    second_head = grader.second_head or torch.nn.Identity()
    loss, classes = LOSSES[config.loss], len(prepared.classes)
    weights = weights_of(learned, config, classes).to(device)
    smoothing = {"label_smoothing": config.label_smoothing} if loss.smooths else {}

    # Resume
    state: dict[str, Any] = {"epoch": 0, "best": None}
    if run.checkpoint.exists():
        state = checkpoint.load(run.checkpoint)
        checkpoint.load_strict(grader, state["grader"], str(run.checkpoint))
        optimiser.load_state_dict(state["optimiser"])
        if average is not None:
            checkpoint.load_strict(average, state["average"], str(run.checkpoint))
    # A last batch of a single image is left out (feed.py).
    steps_per_epoch = math.ceil(len(learned) / config.batch_size) - (len(learned) % config.batch_size == 1)
    total_steps, step = config.epochs * steps_per_epoch, state["epoch"] * steps_per_epoch
    rising = round(config.warm_up * total_steps)
    run.forget_after(step)
    describe(config, learned, built, weights.tolist(), device)

    # Images
    store = ImageStore(learned.parts, device)
    judged = Judged(prepared, held_out, spec, device) if len(held_out) else None
    if not state["epoch"] and not config.freeze:
        shown = store.gather(epoch_batches(len(store), 8, config.seed, 0, drop_last=False)[0])
        write_view_sheet(
            run.path / "views.jpg", shown, get_recipe(config.views), config.image_size, step_generator(config.seed, 0)
        )
    # A frozen encoder gives the same features in every epoch: they are computed once.
    scale = standardise(built, store, judged, spec, device) if config.freeze else None
    labels, ids = learned.labels, np.array(learned.ids, dtype=object)
    second = None if learned.second is None else torch.from_numpy(learned.second).to(device)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")

    # Loop
    with progress_bar("train", config.epochs * len(store), done=state["epoch"] * len(store)) as bar:
        for epoch in range(state["epoch"], config.epochs):
            torch.manual_seed(config.seed + 1000 * (epoch + 1))  # dropout and stochastic depth, if any
            built.wake(epoch >= config.head_first)
            since_best = epoch - max(config.head_first, state["best"]["epoch"] if state["best"] else epoch)
            if config.patience and since_best >= config.patience:
                say(f"no better epoch for {config.patience}: stopped; epoch {state['best']['epoch']} is kept")
                break
            losses, answers, indices = [], [], []
            since, waited = time.perf_counter(), 0.0
            features = None if scale is None else scale.features
            inputs = iter(prefetch(feed(config, learned, store, spec, epoch, step, features, device)))
            for _ in range(steps_per_epoch):
                asked = time.perf_counter()
                batch = next(inputs)
                waited += time.perf_counter() - asked
                share = min(1.0, (step + 1) / max(1, rising))
                if config.schedule == "steps":
                    share *= stepped(epoch, config.decay)
                elif config.schedule == "cosine":
                    share = warm_up_cosine(step, total_steps, rising, config.final_rate)
                rate = config.learning_rate * share
                set_learning_rate(optimiser, rate)
                optimiser.zero_grad(set_to_none=True)
                whole = importance(batch.targets, weights).sum()
                for part in parts_of(len(batch.index), config.micro_batch):
                    targets = batch.targets[part]
                    with autocast:
                        encoded = batch.inputs[part] if scale is not None else grader.encoder(batch.inputs[part])
                        outputs = grader.head(encoded)
                    # A part counts by what its images weigh, so that all parts give the gradient of the whole batch.
                    cost = loss.cost(outputs, targets, weights, **smoothing)
                    cost = cost * (importance(targets, weights).sum() / whole)
                    if second is not None:
                        asked_too = second[torch.from_numpy(batch.index[part]).to(device)]
                        said = second_head(encoded).float()
                        both = F.cross_entropy(said, asked_too, ignore_index=-1, reduction="sum")
                        cost = cost + config.second_weight * both / len(batch.index)
                    cost.backward()
                    losses.append(cost.detach() * len(batch.index))
                    answers.append(to_logits(outputs.detach().float(), loss.form, classes).softmax(1))
                optimiser.step()
                if average is not None:
                    # At first over the few steps that there are: an average of long memory would keep its random start.
                    update_average(average, grader, min(config.ema, (1 + step) / (10 + step)))
                step += 1
                indices.append(batch.index)
                bar.advance(len(batch.index))
            seconds = time.perf_counter() - since
            # The epoch's only waits for the device: its sums, then the validation part.
            order = np.concatenate(indices)
            row = {"step": step, "epoch": epoch + 1, "loss": float(torch.stack(losses).sum()) / len(order)}
            probabilities = torch.cat(answers).cpu()
            refuse_divergence(row["loss"], probabilities, "training", epoch + 1)
            given = decide(probabilities, loss.decision).numpy()
            row |= summarise("train", labels[order], given, classes)
            model = grader if average is None else average
            looked_at = judged is not None or epoch + 1 == config.epochs
            if config.batch_norm == "re-estimate" and epoch >= config.head_first and looked_at:
                model.train()
                built.hold(model)
                re_estimated(model, store, spec, device, config.seed)
            if judged is not None:
                row |= judge(judged, model, loss, weights.cpu(), epoch + 1)
            row |= {"learning_rate": rate, "images_per_second": len(order) / seconds, "data_wait": waited / seconds}
            score = selection_score(row, config.select_on, epoch)
            better = state["best"] is None or score > tuple(state["best"]["score"])
            if better:
                state["best"] = {"epoch": epoch + 1, "score": list(score)}
                seen = {"image_size": spec.image_size, "mean": list(spec.mean), "std": list(spec.std)}
                kept = {"grader": folded(model, scale), "epoch": epoch + 1, "input": seen}
                checkpoint.save(kept, run.path / "best.pt")
            state |= {"grader": grader.state_dict(), "optimiser": optimiser.state_dict(), "epoch": epoch + 1}
            state |= {} if average is None else {"average": average.state_dict()}
            parts: dict[str, Answers] = {}
            if not config.mixup and not config.cutmix:
                parts["train"] = (ids[order].tolist(), labels[order], given, probabilities.numpy())
            if judged is not None:
                parts["val"] = (judged.ids, judged.labels, judged.grades, judged.probabilities)
            write_errors(run.path, epoch + 1, parts, prepared.classes)
            run.log(row)
            checkpoint.save(state, run.checkpoint)
            bar.advance(0, note(row))
            say(f"epoch {epoch + 1:>3}  {note(row)}{'  *' if better else ''}")
    return int(state["best"]["epoch"])


def parts_of(images: int, most: int) -> list[slice]:
    """A batch in parts of about equal size, `most` images each (0 = whole): from 3 on none has a single image."""
    edges = np.linspace(0, images, (math.ceil(images / most) if most else 1) + 1).round().astype(int)
    return [slice(int(start), int(stop)) for start, stop in pairwise(edges)]


def describe(config: TrainConfig, learned: Learned, built: Built, weights: list[float], device: torch.device) -> None:
    """Say what is trained, with which choices."""
    kind = "linear probe" if config.freeze else "fine-tune"
    say(f"{kind} of {config.encoder} ({built.loaded}), {len(learned):,} images at {config.image_size} px on {device}")
    views = "" if config.freeze else f"views {config.views}, "
    say(f"{views}{config.loss}, {config.optimiser} at {config.learning_rate:.3g}, {config.precision}")
    if config.class_weights != "none":
        say("class weights " + ", ".join(f"{weight:.2f}" for weight in weights))
    plain = TrainConfig(data=config.data, out=config.out)
    others = [
        f"{name.replace('_', ' ')} {getattr(config, name)}"
        for name in CHOICES if getattr(config, name) not in (getattr(plain, name), USUAL.get(name))
    ]  # fmt: skip
    if others:
        say(", ".join(others))
