"""The training loop of a run: steps, rows of metrics.jsonl, checkpoints, and looks on the way."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from foveal import checkpoint
from foveal.console import is_first_process, progress_bar
from foveal.distributed import barrier, decided_by_first, from_first_process, mean_over_processes
from foveal.errors import FovealError
from foveal.hardware import give_back_memory, in_precision
from foveal.predict.features import encode
from foveal.pretrain import probe as probing
from foveal.pretrain.faults import check_first, check_loss
from foveal.pretrain.feed import Feed, MicroBatches, Views
from foveal.pretrain.health import CALMER, bounds_of
from foveal.pretrain.outcome import examine, facts_for_row
from foveal.pretrain.plan import epochs_between_looks
from foveal.pretrain.step import Built, gradients
from foveal.runs import Run
from foveal.schedule import set_learning_rate, warm_up_cosine
from foveal.sets.loader import prefetch

LOG_EVERY = (50, 10, 2)  # steps between two looks at the loss, each of which waits for the device
LOOK_WITHIN = 120.0  # seconds between two looks, of which the steps are chosen; two steps may take longer
SAVE_WITHIN = 300.0  # seconds after which the next look within an epoch writes a checkpoint
SAVE_SHARE = 0.05  # checkpoints at the ends of epochs take no more of the time than that


@dataclass
class Span:
    """Sums since the last row of metrics.jsonl: of loss and facts, of steps, and of seconds spent waiting for views."""

    totals: dict[str, Tensor] = field(default_factory=dict)
    steps: int = 0
    waited: float = 0.0
    since: float = field(default_factory=time.perf_counter)

    def add(self, values: Mapping[str, Tensor]) -> None:
        """Add the numbers of a step; nothing waits for the device."""
        self.steps += 1
        for name, value in values.items():
            self.totals[name] = self.totals[name] + value if name in self.totals else value.clone()

    def means(self) -> dict[str, float]:
        """The means over steps and processes. Only here does training wait for the device."""
        means = mean_over_processes(torch.stack(list(self.totals.values())) / self.steps).tolist()
        return dict(zip(self.totals, means, strict=True))


class Training:
    """A method that learns from its feed and writes to its run; `step` counts the steps that are done."""

    def __init__(self, built: Built, feed: Feed, run: Run, probe: probing.Probe | None) -> None:
        self.config, self.built, self.feed, self.run, self.probe = feed.config, built, feed, run, probe
        self.method, config = built.method, feed.config
        self.step, self.log_every, self.total_steps = 0, LOG_EVERY[0], config.epochs * feed.steps
        self.autocast = in_precision(config.precision, feed.device)
        self.bounds = self.method.bounds(config.batch_size)
        self.every = epochs_between_looks(config.epochs, config.probe_every)
        self.saved_at, self.saving = time.perf_counter(), 0.0
        self.found: dict[str, Any] | None = None  # by the last look

    def resume(self) -> bool:
        """Load the last checkpoint, if there is one; True if the run is finished."""
        file = self.run.checkpoint
        if (state := decided_by_first(lambda: checkpoint.load(file) if file.exists() else None)) is not None:
            checkpoint.load_strict(self.method, state["method"], str(file))
            self.built.optimiser.load_state_dict(state["optimiser"])
            self.step, self.log_every = state["step"], state.get("log_every", self.log_every)
        self.run.forget_after(self.step)  # rows that were logged after the last checkpoint, if any
        return self.step == self.total_steps and decided_by_first((self.run.path / "health.json").is_file)

    def train(self) -> None:
        """Learn to the last epoch."""
        batch, feed, self.saved_at = self.config.batch_size, self.feed, time.perf_counter()
        if self.step == 0:
            self.judge(0)
        with progress_bar("pretrain", self.total_steps * batch, done=self.step * batch) as bar:
            for epoch in range(self.step // feed.steps, self.config.epochs):
                self._epoch(epoch, bar)
                if self._looks(epoch + 1):  # before the checkpoint, so that a kill in between loses no probe
                    self.judge(epoch + 1)
                if epoch + 1 == self.config.epochs or SAVE_SHARE * (time.perf_counter() - self.saved_at) > self.saving:
                    self.save()
                barrier()

    def _epoch(self, epoch: int, bar: Any) -> None:
        self.built.training_mode()
        span, feed, first = Span(), self.feed, self.step % self.feed.steps
        batches = iter(prefetch(feed.epoch(epoch, first)))
        for number in range(first, feed.steps):
            asked, last = time.perf_counter(), number + 1 == feed.steps
            views, identity = next(batches)
            span.waited += time.perf_counter() - asked
            rate = self._step(views, identity, span)
            bar.advance(self.config.batch_size)
            if span.steps == self.log_every or last or self.step == 1:
                row = self._log(epoch, span, rate, last)
                bar.advance(0, f"epoch {epoch + 1} loss {row['loss']:.3f} wait {row['data_wait']:.0%}", line=last)
                if not last and time.perf_counter() - self.saved_at > SAVE_WITHIN:
                    self.save()
                span = Span()

    def _step(self, views: Sequence[Views], identity: Tensor | None, span: Span) -> float:
        config, method, optimiser = self.config, self.method, self.built.optimiser
        assert config.learning_rate is not None
        warm_up = round(config.warm_up * self.total_steps)
        rate = config.learning_rate * warm_up_cosine(self.step, self.total_steps, warm_up)
        set_learning_rate(optimiser, rate)
        optimiser.zero_grad(set_to_none=True)
        if self.step == 0:
            check_first(method, views[0], identity, self.autocast)
        seed = config.seed + 1_000_003 * (self.step + 1) + 100_003 * self.feed.rank
        loss, facts = gradients(self.built.trained, method, views, identity, self.autocast, seed)
        span.waited += views.waited if isinstance(views, MicroBatches) else 0.0
        optimiser.step()
        self.step += 1
        method.after_step(self.step / self.total_steps)
        span.add({"loss": loss, **facts})
        return rate

    def _log(self, epoch: int, span: Span, rate: float, last: bool) -> dict[str, Any]:
        """Check and write a row of metrics.jsonl; at the last step of some epochs with a look at the embeddings."""
        row: dict[str, Any] = {"step": self.step, "epoch": epoch + 1, **span.means()}
        seconds = time.perf_counter() - span.since
        speed = span.steps * self.config.batch_size / seconds
        row |= {"learning_rate": rate, "images_per_second": speed, "data_wait": span.waited / seconds}
        self._check(row, span.steps)
        if self.step == 1:
            self.log_every = steps_between_looks(from_first_process(seconds))
        if last and self._looks(epoch + 1):
            give_back_memory()  # looking has other shapes
            self.found = examine(self.built, self.feed)
            row |= facts_for_row(self.run, row, self.found, self.built, self.feed)
            self.built.training_mode()
            give_back_memory()
        self.run.log(row)
        return row

    def _check(self, row: dict[str, Any], steps: int) -> None:
        """FovealError if the run has diverged, or its loss must be wrong."""
        what = ""
        if not math.isfinite(row["loss"]):
            what = f"the loss became {row['loss']} between steps {self.step - steps} and {self.step}"
        elif not all(bool(weights.isfinite().all()) for weights in self.method.parameters()):
            what = f"some weights are not finite numbers at step {self.step}"
        if what:
            kept = f"; {self.run.path} keeps the last good state" if self.run.checkpoint.is_file() else ""
            what += f", at a learning rate of {self.config.learning_rate:.3g}{kept}"
            raise FovealError("training.diverged", what, fix=CALMER)
        check_loss(row["loss"], bounds_of(row, self.bounds), row, first=self.step == 1)

    def save(self) -> None:
        """Write the checkpoint, right after a row was logged."""
        began = time.perf_counter()
        if is_first_process():
            state = {"method": self.method.state_dict(), "optimiser": self.built.optimiser.state_dict(),
                     "step": self.step, "log_every": self.log_every}  # fmt: skip
            checkpoint.save(state, self.run.checkpoint)
        self.saved_at = time.perf_counter()
        self.saving = self.saved_at - began

    def judge(self, epoch: int) -> None:
        """Probe the encoder; with labels of the pool itself, only before and after the run."""
        wanted = self.config.probe is not None or epoch in (0, self.config.epochs)
        if self.probe is not None and wanted and is_first_process():
            features = encode(self.method.encoder.eval(), self.probe.store, self.feed.spec, self.feed.device)
            probing.record(self.run.path, epoch, self.probe, features)
        barrier()

    def _looks(self, epoch: int) -> bool:
        return epoch % self.every == 0 or epoch == self.config.epochs


def steps_between_looks(seconds: float) -> int:
    """Set once, from the seconds of the first step: rows must not depend on when a run was killed."""
    return next((steps for steps in LOG_EVERY if steps * seconds <= LOOK_WITHIN), LOG_EVERY[-1])
