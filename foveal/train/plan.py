"""How many epochs fit into a time? Measured by real steps on real images, with other weights; nothing is written."""

import time
from dataclasses import replace
from functools import partial
from itertools import chain, count

from foveal.budget import MOST_MEASURED, SHARE_MEASURED, most_epochs, seconds_of
from foveal.console import progress_bar, say
from foveal.distributed import apart, decided_by_first
from foveal.hardware import give_back_memory, wait_for
from foveal.page.words import counted
from foveal.predict.features import seconds_of_pass
from foveal.predict.likeness import MOST_IMAGES
from foveal.predict.predictor import VIEWS
from foveal.schedule import growing_sizes, thirds
from foveal.sets.loader import ImageStore, prefetch
from foveal.train.batches import Objective, feed
from foveal.train.fit import RE_ESTIMATED_ON
from foveal.train.learned import Learned
from foveal.train.options import TrainConfig
from foveal.train.task import Task, build

LEAST_STEPS = 3


def within_budget(task: Task, learned: Learned, judged: int, graded: int, began: float) -> Task:
    """The task with as many epochs as --budget allows; the time since `began` is already spent. judged, graded: images
    of the validation part, and of all parts to grade at the end. Folds share the time."""
    if (config := task.config).budget is None:
        return task
    with apart():  # the first process measures by itself
        epochs = decided_by_first(lambda: _most_epochs(task, learned, judged, graded, began))
    say(f"--budget {config.budget} allows {counted(epochs, 'epoch')}, in place of --epochs {config.epochs}")
    return replace(task, config=replace(config, epochs=epochs))


def _most_epochs(task: Task, learned: Learned, judged: int, graded: int, began: float) -> int:
    config, (step, forward), count = task.config, measure(task, learned), len(learned)
    seconds = (seconds_of(config.budget or "") - (time.monotonic() - began)) / (config.folds or 1)
    if config.folds:
        held_out = count // config.folds
        count, judged, graded = count - held_out, 0, held_out + 2 * graded
    shortest, words = min(_shares(config)) * count * step, f"one epoch of {count:,} images, and grading at the end"
    needed = partial(seconds_of_run, config, (count, judged, graded), step=step, forward=forward)
    return most_epochs(seconds, needed, shortest, words)


def seconds_of_run(config: TrainConfig, images: tuple[int, ...], epochs: int, step: float, forward: float) -> float:
    """Seconds of a run. step, forward: of an image in a step, and in a pass of the encoder without gradients. images:
    those that one grader learns from, those judged after each epoch, and those graded at the end."""
    learned, judged, graded = images
    passes = sum(number * share for number, share in zip(thirds(epochs), _shares(config), strict=True))
    anew = min(learned, RE_ESTIMATED_ON) if config.batch_norm == "re-estimate" and judged else 0
    end = VIEWS[config.tta] * graded + min(learned, MOST_IMAGES) + min(judged, MOST_IMAGES)
    return passes * learned * step + (epochs * (judged + anew) + end) * forward


def _shares(config: TrainConfig) -> list[float]:
    """What an image takes in each third of a run, where images grow; 1 is all of it."""
    return [(side / config.image_size) ** 2 for side in growing_sizes(config.grow_from, config.image_size)]


def measure(task: Task, learned: Learned) -> tuple[float, float]:
    """Seconds of an image in a step, and in a pass of the encoder without gradients."""
    seconds = min(MOST_MEASURED, SHARE_MEASURED * seconds_of(task.config.budget or ""))
    task = replace(task, config=replace(task.config, grow_from=0))
    built, store = build(task, learned), ImageStore(learned.parts, task.device)
    objective = Objective(task, learned, built.grader)
    built.training_mode()
    endless = chain.from_iterable(feed(task, learned, store, epoch, 0, None) for epoch in count())
    batches, taken, images = iter(prefetch(endless)), list[float](), list[int]()
    with progress_bar("measuring", seconds, "s") as bar:
        while len(taken) < LEAST_STEPS or sum(taken) < seconds:
            began = time.perf_counter()
            batch = next(batches)
            built.optimiser.zero_grad(set_to_none=True)
            objective.backward(batch)
            built.optimiser.step()
            wait_for(task.device)
            taken.append(time.perf_counter() - began)
            images.append(len(batch.index))
            bar.advance(taken[-1])
    batches.close()  # type: ignore[attr-defined]
    forward = seconds_of_pass(built.grader.encoder.eval(), store, task.spec, task.device)
    give_back_memory()
    return sum(taken[1:]) / sum(images[1:]), forward  # the first step is slow
