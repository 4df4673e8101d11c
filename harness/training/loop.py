"""The training loop: batches, views, one step, checkpoints. It knows methods by their interface."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.schema import Training
from harness.training import checkpoint, distributed, schedules
from harness.training.feed import Feed
from harness.training.optim import build_optimizer, set_lr
from harness.training.precision import autocast
from harness.training.seeds import Seed, derive
from harness.training.settings import equal_parts
from harness.training.teachers import Teachers
from methods.base import Batch, Method

# of a batch of images, a Tensor or a Canvas
View = Callable[[Any, torch.Generator], Tensor]
PROGRESS_SECONDS = 0.5


class Interrupted(Exception):
    """The loop was asked to stop: its checkpoint is written and the same call continues it."""


@dataclass(frozen=True)
class Job:
    """One pretraining run.

    feed: the n images; labels: int64 (n,) on the device; groups: int64 (n,) on the CPU;
    views: one augmentation per view of the method, which draws for the whole batch where several
    processes share it; identity: the stage that the checkpoint must belong to; at_once: images of a
    forward pass over all processes where a batch has more, so that gradients are accumulated.
    """

    method: Method
    feed: Feed
    labels: Tensor
    views: Sequence[View]
    training: Training
    seed: Seed
    device: str
    identity: str
    groups: Tensor | None = None
    teachers: Teachers | None = None
    at_once: int | None = None

    @property
    def batch_size(self) -> int:
        """Images of a batch, over all processes; a small set is one batch."""
        return min(self.training.batch_size, len(self.feed))

    @property
    def parts(self) -> int:
        """Forward passes of an update, each of an equal part of the batch."""
        return equal_parts(self.batch_size, self.at_once)

    @property
    def num_steps(self) -> int:
        """Updates of the run."""
        return schedules.num_steps(self.training.epochs, len(self.feed), self.batch_size)


@dataclass(frozen=True)
class Surroundings:
    """Where and under whose eyes a job runs; none of it changes a number.

    Several processes read the checkpoint from one folder, the first one writes and reports.
    """

    checkpoint_dir: Path
    checkpoint_seconds: float
    progress: Callable[[dict[str, Any]], None]
    stop: Callable[[], bool]


class Loop:
    """A run in progress. `run` makes it, or what a checkpoint has left of it.

    In a process group every rank has the same job and takes its rows of every batch.
    """

    def __init__(self, job: Job, surroundings: Surroundings) -> None:
        """Raise ValueError for a batch that the processes cannot share."""
        self.part_size = job.batch_size // job.parts
        distributed.shares(self.part_size)
        distributed.convert(job.method)
        self.job, self.around = job, surroundings
        training = job.training
        self.num_steps = job.num_steps
        self.warmup = schedules.num_warmup_steps(
            training.warmup_epochs, len(job.feed), job.batch_size,
            self.num_steps) if self.num_steps else 0
        self.optimizer = build_optimizer(
            job.method, training.optimizer, lr=training.lr, momentum=training.momentum,
            weight_decay=training.weight_decay, decay_all=training.decay_all,
            fixed=job.method.fixed_rate)
        self.batches = job.feed.batches(self.part_size, derive(job.seed, "sampling"))
        # on the CPU whatever the device, as the views ask for: the same crops everywhere
        self.augmentation = torch.Generator().manual_seed(derive(job.seed, "views"))
        self.losses = torch.zeros(self.num_steps, device=job.device)
        self.step, self.seconds = 0, 0.0
        # reading the loss waits for a GPU to finish the step; on a CPU it is free
        self.check_every = 1 if job.device == "cpu" else 25

    def run(self) -> None:
        """Train to the end.

        Raises FloatingPointError naming the step whose loss was not finite, and Interrupted after
        a checkpoint when `stop()` asks for it.
        """
        self._resume()
        distributed.same_start(self.job.method, self.step, self.job.device)
        self.job.method.train()
        clock = _Clock(self)
        try:
            while self.step < self.num_steps:
                self._one_step()
                self.step += 1
                if self.step % self.check_every == 0 or self.step == self.num_steps:
                    self._check_finite()
                    clock.tick()
        finally:
            self.batches.close()
        _wait(self.job.device)
        clock.stop()

    def _one_step(self) -> None:
        job, optimizer = self.job, self.optimizer
        training = job.training
        set_lr(optimizer, schedules.learning_rate(
            training.schedule, self.step, self.num_steps, self.warmup, training.lr))
        optimizer.zero_grad(set_to_none=True)
        losses = [self._backward(self._batch()) for _ in range(job.parts)]
        loss = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
        self.losses[self.step] = distributed.average(job.method.parameters(), loss)
        optimizer.step()
        job.method.after_step(self.step / self.num_steps)

    def _backward(self, batch: Batch) -> Tensor:
        """Add a part's share of the gradients of the batch; its share of the loss ().

        A loss that couples images is so the mean of the parts' losses, each as if it were a batch.
        """
        job = self.job
        with autocast(job.training.precision, job.device):
            loss = job.method.loss(batch)
            if isinstance(loss, dict):
                loss = torch.stack([part.float() for part in loss.values()]).sum()
        if job.parts > 1:
            loss = loss / job.parts
        loss.backward()
        return loss.detach()

    def _batch(self) -> Batch:
        job = self.job
        drawn = self.batches.next()
        index = drawn.index
        views = [view(drawn.images, self.augmentation) for view in job.views]
        groups = None if job.groups is None else job.groups[drawn.rows]
        return Batch(
            views=views, index=index, progress=self.step / self.num_steps,
            labels=job.labels[index] if job.method.needs_labels else None,
            groups=None if groups is None else groups.to(job.device, non_blocking=True),
            teachers=[] if job.teachers is None else job.teachers.embed(views, groups, index),
        )

    def _check_finite(self) -> None:
        first = max(0, self.step - self.check_every)
        finite = torch.isfinite(self.losses[first:self.step])
        if not finite.all():
            bad = first + int((~finite).nonzero()[0])
            training = self.job.training
            raise FloatingPointError(
                f"loss became {float(self.losses[bad])} at step {bad + 1} of {self.num_steps} "
                f"(lr {training.lr}, precision {training.precision}: lower lr, lengthen "
                "warmup_epochs or use precision=fp32)")

    # -- checkpoints --------------------------------------------------------------------------

    def save(self) -> None:
        """Write everything that the rest of the run depends on; it is the same on all ranks."""
        if distributed.rank():
            return
        rng = {"global": torch.get_rng_state(), "augmentation": self.augmentation.get_state()}
        if self.job.device == "cuda":
            rng["device"] = torch.cuda.get_rng_state()
        checkpoint.save(self.around.checkpoint_dir, {
            "identity": self.job.identity, "step": self.step, "seconds": self.seconds,
            "method": self.job.method.state_dict(), "optimizer": self.optimizer.state_dict(),
            "sampler": self.batches.state_dict(), "rng": rng, "losses": self.losses})

    def _resume(self) -> None:
        state = checkpoint.load(self.around.checkpoint_dir, self.job.identity)
        if state is None:
            return
        self.step, self.seconds = int(state["step"]), float(state["seconds"])
        self.job.method.load_state_dict(state["method"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.batches.load_state_dict(state["sampler"])
        self.losses.copy_(state["losses"])
        # last: building and loading above may draw from the global generator
        self.augmentation.set_state(state["rng"]["augmentation"])
        torch.set_rng_state(state["rng"]["global"])
        if self.job.device == "cuda":
            torch.cuda.set_rng_state(state["rng"]["device"])


class _Clock:
    """Between steps: time spent, progress to report, checkpoints due, requests to stop."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._first_step, self._before = loop.step, loop.seconds
        self._start = self._reported = self._saved = time.monotonic()

    def tick(self) -> None:
        now = time.monotonic()
        self._loop.seconds = self._before + now - self._start
        around = self._loop.around
        if now - self._reported >= PROGRESS_SECONDS and not distributed.rank():
            self._reported = now
            around.progress(self._state(now))
        stopping, due = distributed.agree(
            around.stop(), now - self._saved >= around.checkpoint_seconds,
            device=self._loop.job.device)
        if stopping or due:
            self._loop.save()
            self._saved = time.monotonic()
        if stopping:
            raise Interrupted(f"stopped after step {self._loop.step} of {self._loop.num_steps}")

    def stop(self) -> None:
        self._loop.seconds = self._before + time.monotonic() - self._start

    def _state(self, now: float) -> dict[str, Any]:
        loop = self._loop
        steps_per_second = (loop.step - self._first_step) / (now - self._start)
        return {
            "step": loop.step, "steps": loop.num_steps,
            "images_per_second": steps_per_second * loop.job.batch_size,
            "eta_seconds": (loop.num_steps - loop.step) / steps_per_second,
            "loss": float(loop.losses[loop.step - 1])}


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
