"""The training loop of dense evaluations: updates, warm-up and steps, checkpoints."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from harness.evaluation.dense.feed import Feed
from harness.evaluation.dense.schedule import Schedule
from harness.training import checkpoint, distributed
from harness.training.loop import PROGRESS_SECONDS, Interrupted
from harness.training.optim import set_lr
from harness.training.precision import autocast
from harness.training.seeds import derive

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from harness.execute import Context

T = TypeVar("T")
READERS = 8  # threads that decode, at most: a ResNet-50 detector takes about 20 images a second


@dataclass(frozen=True)
class Task:
    """What is trained.

    losses(batch): the named parts of the loss of a list of samples; make(number, generator): one
    sample of the training part, which has `count` images; identity: whom a checkpoint belongs to.
    """

    model: nn.Module
    losses: Callable[[list[Any]], dict[str, Tensor]]
    make: Callable[[int, np.random.Generator], Any]
    count: int
    schedule: Schedule
    seed: int
    identity: str
    context: Context


def train(task: Task) -> NDArray[np.float32]:
    """Train to the end, or what a checkpoint has left of it; the loss of each step.

    Raises FloatingPointError naming the step whose loss was not finite, and Interrupted after a
    checkpoint when the context asks to stop. Random numbers of a step are a function of (seed,
    step), so a resumed run makes the same bytes.
    """
    distributed.shares(task.schedule.batch_size)
    distributed.convert(task.model)
    extra = task.schedule.precise_bn if task.schedule.iterations else 0
    with Feed(task.make, task.count, task.schedule.batch_size, task.schedule.iterations + extra,
              derive(task.seed, "feed"), min(READERS, os.cpu_count() or 1)) as feed:
        run = _Run(task, feed)
        run.resume()
        distributed.same_start(task.model, run.step, task.context.device)
        task.model.train()
        while run.step < task.schedule.iterations:
            run.one_step()
        if run.moved:  # what follows must not cost the training when it is interrupted
            run.save()
        _precise(task, feed, extra)
    return run.losses


def final(losses: NDArray[np.float32]) -> float | None:
    """The mean loss of the last tenth of a run; None for a run of no step."""
    return float(losses[-max(1, len(losses) // 10):].mean()) if len(losses) else None


class _Run:
    """The state of a run in progress."""

    def __init__(self, task: Task, feed: Feed[Any]) -> None:
        self.task, self.feed = task, feed
        schedule = task.schedule
        self.optimizer = torch.optim.SGD(_groups(task.model, schedule.weight_decay), schedule.lr,
                                         schedule.momentum)
        self.losses = np.zeros(schedule.iterations, np.float32)
        self.step, self.moved = 0, False
        self._first: int | None = None
        self._start = self._reported = self._saved = time.monotonic()

    def one_step(self) -> None:
        """One update, and whatever is due after it."""
        task, step = self.task, self.step
        samples = self.feed.take(step)
        seed_step(task, step)
        set_lr(self.optimizer, task.schedule.lr_at(step))
        with autocast(task.schedule.precision, task.context.device):
            parts = task.losses(samples)
            loss = torch.stack([part.float() for part in parts.values()]).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        value = float(distributed.average(task.model.parameters(), loss))
        if not np.isfinite(value):
            raise FloatingPointError(
                f"loss became {value} at step {step + 1} of {task.schedule.iterations} (lr "
                f"{task.schedule.lr}, batch {task.schedule.batch_size}: lower lr in proportion to "
                "the batch, or lengthen warmup)")
        self.optimizer.step()
        self.losses[step] = value
        self.step, self.moved = step + 1, True
        self._tick()

    def _tick(self) -> None:
        now, context = time.monotonic(), self.task.context
        if self._first is None:
            self._first, self._start = self.step, now
        elif now - self._reported >= PROGRESS_SECONDS and not distributed.rank():
            self._reported = now
            context.progress(self._state(now, self._first))
        stopping, due = distributed.agree(
            context.stop(), now - self._saved >= context.checkpoint_seconds, device=context.device)
        if stopping or due:
            self.save()
            self._saved = now
        if stopping:
            raise Interrupted(f"stopped after step {self.step} of {self.task.schedule.iterations}")

    def _state(self, now: float, first: int) -> dict[str, Any]:
        schedule = self.task.schedule
        rate = (self.step - first) / (now - self._start)
        return {"step": self.step, "steps": schedule.iterations,
                "images_per_second": rate * schedule.batch_size,
                "eta_seconds": (schedule.iterations - self.step) / rate,
                "loss": float(self.losses[self.step - 1])}

    def save(self) -> None:
        """Write everything that the rest of the run depends on; it is the same on all ranks."""
        if not distributed.rank():
            checkpoint.save(self.task.context.checkpoint_dir, {
                "identity": self.task.identity, "step": self.step,
                "model": self.task.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                "losses": torch.from_numpy(self.losses)})

    def resume(self) -> None:
        """Continue where the checkpoint folder says, if it holds anything."""
        state = checkpoint.load(self.task.context.checkpoint_dir, self.task.identity)
        if state is not None:
            self.step = int(state["step"])
            self.task.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.losses[:] = state["losses"].numpy()


def seed_step(task: Task, step: int) -> None:
    """Make the draws of a step (which proposals a loss samples) a function of seed and step."""
    torch.manual_seed(derive(task.seed, f"step {step}, rank {distributed.rank()}"))


def _groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Parameters with weight decay, and those of normalisation layers without, as detectron2."""
    norms = {id(parameter) for module in model.modules() if isinstance(module, _BatchNorm)
             for parameter in module.parameters()}
    found = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in found if id(p) not in norms], "weight_decay": weight_decay},
        {"params": [p for p in found if id(p) in norms], "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


@torch.no_grad()
def _precise(task: Task, feed: Feed[Any], batches: int) -> None:
    """Take BatchNorm's statistics anew, as the plain mean over training batches.

    Source: "precise BN", Wu and Johnson, arXiv 2105.07576, section 3; detectron2 does so at the
    end of MoCo's runs.
    """
    norms = [m for m in task.model.modules() if isinstance(m, _BatchNorm)]
    if not batches or not norms:
        return
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # cumulative average
    for step in range(task.schedule.iterations, task.schedule.iterations + batches):
        samples = feed.take(step)
        seed_step(task, step)
        with autocast(task.schedule.precision, task.context.device):
            task.losses(samples)
        if distributed.agree(task.context.stop(), device=task.context.device)[0]:
            raise Interrupted("stopped while taking the statistics of BatchNorm")
    for norm, momentum in zip(norms, before, strict=True):
        norm.momentum = momentum
