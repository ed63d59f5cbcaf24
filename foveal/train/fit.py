"""fit: train one grader from its starting weights; after each epoch, the validation images are graded."""

import math
import time
from dataclasses import fields
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from foveal import checkpoint
from foveal.augment.recipes import get_recipe
from foveal.augment.views import plain_view, write_view_sheet
from foveal.config import plain
from foveal.console import progress_bar, say
from foveal.distributed import apart, decided_by_first, from_first_process
from foveal.errors import FovealError
from foveal.given import Given
from foveal.hardware import give_back_memory
from foveal.losses.grading import one_hot
from foveal.metrics import accuracy, confusion_matrix, macro_f1, precision, quadratic_kappa, recall
from foveal.nets.heads import Grader
from foveal.nets.layers import re_estimate
from foveal.nets.probes import mean_and_spread
from foveal.page.render import print_template
from foveal.page.words import counted
from foveal.predict.features import EVALUATION_BATCH, encode
from foveal.readout.decisions import decide
from foveal.runs import Run
from foveal.schedule import set_learning_rate, warm_up_cosine
from foveal.sets.loader import ImageStore, epoch_batches, prefetch, step_generator
from foveal.train.batches import Objective, feed, least_batch
from foveal.train.learned import Learned
from foveal.train.options import TrainConfig
from foveal.train.outcome import write_errors
from foveal.train.task import Built, Scale, Task, build, weights_to_keep

RE_ESTIMATED_ON = 1024  # images: 16 batches, enough to estimate the statistics to within a few per cent
LOOK_EVERY = 50  # steps
# Options that `fit` does not print: they are on the command line, or do not affect what is learned.
UNSAID = ("data", "out", "init", "encoder", "image_size", "device", "track", "seed", "allow_leaks", "hold_out")


class Judged:
    """The validation part: its images (or the features of a frozen encoder), labels and latest predictions."""

    def __init__(self, task: Task, records: pd.DataFrame) -> None:
        self.task, self.store = task, ImageStore([(task.prepared, records)])
        self.ids, self.labels = list(records["id"]), records["label"].to_numpy(np.int64)
        self.features: Tensor | None = None

    def judge(self, grader: Grader, weights: Tensor, epoch: int) -> dict[str, Any]:
        """Grade the images, without flips: loss (with class weights [K]) and figures for metrics.jsonl."""
        task, features = self.task, self.features
        grader.eval()
        if features is None:
            features = encode(grader.encoder, self.store, task.spec, task.device)
        with torch.inference_mode():
            outputs = grader.head(features).float().cpu()
            probabilities = grader.logits(outputs).softmax(1)
            cost = task.loss.cost(outputs, one_hot(torch.from_numpy(self.labels), grader.classes), weights)
            refuse_divergence(float(cost), probabilities, "validation", epoch)
            self.probabilities = probabilities.numpy()
            self.grades = decide(self.probabilities, task.decision)
        return {"val_loss": float(cost)} | summarise("val", self.labels, self.grades, grader.classes)


def refuse_divergence(loss: float, probabilities: Tensor, part: str, epoch: int) -> None:
    """FovealError if a loss or probabilities [n, K] are not finite."""
    if not math.isfinite(loss) or not probabilities.isfinite().all():
        what = f"training diverged: the {part} loss of epoch {epoch} is {loss}"
        fix = "start again with another --out and a lower --learning-rate than the one in config.toml"
        raise FovealError("training.diverged", what, fix=fix)


def re_estimate_statistics(task: Task, grader: Grader, store: ImageStore) -> None:
    """Re-estimate the encoder's batch statistics from plain training images, for layers in training mode."""
    chosen = np.random.default_rng(task.config.seed).permutation(len(store))[:RE_ESTIMATED_ON]
    parts = [chosen[start : start + EVALUATION_BATCH] for start in range(0, len(chosen), EVALUATION_BATCH)]
    views = (plain_view(store.gather(part), task.spec, task.device) for part in parts if len(part) > 1)
    re_estimate(grader.encoder, views)


def summarise(part: str, labels: np.ndarray, grades: np.ndarray, classes: int) -> dict[str, Any]:
    """Accuracy, quadratic kappa, macro F1, and precision and recall of each class of one part, for metrics.jsonl."""
    confusion = confusion_matrix(labels, grades, classes)
    kappa = float(quadratic_kappa(confusion))
    figures = {
        "accuracy": float(accuracy(confusion)), "kappa": 0.0 if math.isnan(kappa) else kappa,
        "macro_f1": float(macro_f1(confusion)),
        **{of.__name__: [None if math.isnan(value) else round(float(value), 4) for value in of(confusion)]
           for of in (precision, recall)},
        "constant": bool((confusion.sum(0) > 0).sum() == 1),
    }  # fmt: skip
    return {f"{part}_{name}": figure for name, figure in figures.items()}


def note(row: dict[str, Any]) -> str:
    """One line about an epoch for the terminal."""
    parts = [
        f"{name}loss {row[loss]:.3f} accuracy {row[f'{part}_accuracy']:.3f} kappa {row[f'{part}_kappa']:.3f}"
        + (" (all images got the same grade!)" if row[f"{part}_constant"] else "")
        for name, part, loss in (("", "train", "loss"), ("val ", "val", "val_loss")) if loss in row
    ]  # fmt: skip
    return " | ".join([*parts, f"{row['images_per_second']:,.0f} images/s, waiting {row['data_wait']:.0%}"])


def fit(run: Run, task: Task, learned: Learned, held_out: pd.DataFrame) -> int:
    """Train into `run`, or resume; returns the epoch in best.pt. held_out: records that choose it, or none."""
    # Model and optimiser
    config, built = task.config, build(task, learned)
    grader = built.grader
    objective = Objective(task, learned, grader)

    # Resume
    saved = decided_by_first(lambda: checkpoint.load(run.checkpoint) if run.checkpoint.exists() else None)
    state: dict[str, Any] = saved or {"epoch": 0, "best": None}
    if saved is not None:
        checkpoint.load_strict(grader, state["grader"], str(run.checkpoint))
        built.optimiser.load_state_dict(state["optimiser"])
    steps_per_epoch = math.ceil(len(learned) / config.batch_size)
    steps_per_epoch -= 0 < len(learned) % config.batch_size < least_batch()  # which is skipped (batches.py)
    total_steps, step = config.epochs * steps_per_epoch, state["epoch"] * steps_per_epoch
    run.forget_after(step)
    usual = {field.name: field.default for field in fields(TrainConfig)}
    said = [(name, value) for name, value in vars(config).items() if name not in UNSAID and value != usual[name]]
    print_template("begins_to_train.txt", task=task, images=len(learned), loaded=built.loaded, said=said)

    # Images
    store, labels = ImageStore(learned.parts, task.device), learned.labels
    judged = Judged(task, held_out) if len(held_out) else None
    scale, features = standardised(task, built, store, judged) if config.freeze else (None, None)
    ids = np.array([name for _, records in learned.parts for name in records["id"]], dtype=object)
    if not state["epoch"] and not config.freeze:
        shown = store.gather(epoch_batches(len(store), 8, config.seed, 0, drop_last=False)[0])
        recipes, generator = [get_recipe(config.views)] * 2, step_generator(config.seed, 0)
        write_view_sheet(run.path / "views.jpg", shown, recipes, config.image_size, generator)

    # Loop
    with progress_bar("train", config.epochs * len(store), done=state["epoch"] * len(store)) as bar:
        for epoch in range(state["epoch"], config.epochs):
            if config.patience and state["best"] and epoch - state["best"]["epoch"] >= config.patience:
                waited_for = counted(config.patience, "epoch")
                say(f"no improvement for {waited_for}: stopped early; kept epoch {state['best']['epoch']}")
                break
            torch.manual_seed(config.seed + 1000 * (epoch + 1))  # dropout and stochastic depth, if any
            built.training_mode()
            losses, answers, indices = [], [], []
            since, waited = time.perf_counter(), 0.0
            made = feed(task, learned, store, epoch, step, features)
            # Views by a function of a program are made in this thread, since threads share torch's generator.
            inputs = iter(made if isinstance(config.views, Given) else prefetch(made))
            for _ in range(steps_per_epoch):
                asked = time.perf_counter()
                batch = next(inputs)
                waited += time.perf_counter() - asked
                rate = rate_at(config, epoch, step, total_steps)
                set_learning_rate(built.optimiser, rate)
                built.optimiser.zero_grad(set_to_none=True)
                cost, probabilities = objective.backward(batch)
                built.optimiser.step()
                step += 1
                losses.append(cost * len(batch.index))
                answers.append(probabilities)
                indices.append(batch.index)
                looked = step % LOOK_EVERY == 0 or task.device.type == "cpu"  # a look waits for the device
                bar.advance(len(batch.index), f"epoch {epoch + 1} loss {float(cost):.3f}" if looked else None)
            seconds = time.perf_counter() - since
            give_back_memory()  # validation has other shapes

            # The only places in an epoch that wait for the device: these sums, then the validation part.
            order, given_probabilities = np.concatenate(indices), torch.cat(answers).cpu()
            row = {"step": step, "epoch": epoch + 1, "loss": float(torch.stack(losses).sum()) / len(order)}
            refuse_divergence(row["loss"], given_probabilities, "training", epoch + 1)
            given = decide(given_probabilities.numpy(), task.decision)
            row |= summarise("train", labels[order], given, grader.classes)
            if config.batch_norm == "re-estimate" and (judged is not None or epoch + 1 == config.epochs):
                built.training_mode()
                with apart():  # every process does it alike
                    re_estimate_statistics(task, grader, store)
            if judged is not None:
                row |= judged.judge(grader, objective.weights.cpu(), epoch + 1)
            give_back_memory()
            row |= {"learning_rate": rate, "images_per_second": len(order) / seconds, "data_wait": waited / seconds}

            # Save; the checkpoint comes last, so that an interrupted epoch is repeated.
            # Best is the epoch with the highest figure, then the lowest validation loss; without validation, the last.
            figure = "val_kappa" if task.ordered else "val_accuracy"
            score = from_first_process((float(epoch + 1), 0.0) if judged is None else (row[figure], -row["val_loss"]))
            if better := state["best"] is None or score > tuple(state["best"]["score"]):
                state["best"] = {"epoch": epoch + 1, "score": list(score)}
                weights = weights_to_keep(grader, scale)
                kept = {"grader": weights, "epoch": epoch + 1, "input": plain(task.spec)}  # predict checks the input
                checkpoint.save(kept, run.path / "best.pt")
            parts = {"train": (ids[order].tolist(), labels[order], given, given_probabilities.numpy())}
            if judged is not None:
                parts["val"] = (judged.ids, judged.labels, judged.grades, judged.probabilities)
            write_errors(run.path, epoch + 1, parts)
            run.log(row)
            state |= {"grader": grader.state_dict(), "optimiser": built.optimiser.state_dict(), "epoch": epoch + 1}
            checkpoint.save(state, run.checkpoint)
            bar.advance(0, note(row))
            say(f"epoch {epoch + 1:>3}  {note(row)}{'  best so far' if better else ''}")
    return int(state["best"]["epoch"])


def standardised(task: Task, built: Built, store: ImageStore, judged: Judged | None) -> tuple[Scale, Tensor]:
    """The scale and the standardised features [n, D] of a frozen encoder; also sets those of `judged`."""
    features = encode(built.grader.encoder, store, task.spec, task.device)
    centre, spread = mean_and_spread(features)
    if judged is not None:
        judged.features = (encode(built.grader.encoder, judged.store, task.spec, task.device) - centre) / spread
    return (centre, spread), (features - centre) / spread


def rate_at(config: TrainConfig, epoch: int, step: int, total_steps: int) -> float:
    """The learning rate of a step: it rises during the warm-up, then falls according to --schedule."""
    assert config.learning_rate is not None
    rising = round(config.warm_up * total_steps)
    if config.schedule == "cosine":
        return config.learning_rate * warm_up_cosine(step, total_steps, rising, config.final_rate)
    share = min(1.0, (step + 1) / max(1, rising))
    return config.learning_rate * (share * config.decay**epoch if config.schedule == "steps" else share)
