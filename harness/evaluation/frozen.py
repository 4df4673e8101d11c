"""Linear classifiers of all settings on one stream of augmented images. Imports torch."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from datasets import views
from datasets.recipes import View
from harness.evaluation.heads import Heads, Rows, batches
from harness.evaluation.sgd_config import OnImages, Settings
from harness.evaluation.splits import Labelled
from harness.evaluation.subject import Subject
from harness.training import checkpoint
from harness.training.loop import Interrupted
from harness.training.precision import autocast
from harness.training.seeds import derive

BATCH = 256  # of evaluation
PROGRESS_SECONDS = 0.5


class Frozen:
    """A backbone in evaluation mode, without gradients, and the heads that are trained on it."""

    def __init__(self, subject: Subject, config: OnImages, num_classes: int) -> None:
        self.subject, self.config, self.num_classes = subject, config, num_classes
        self.network: nn.Module = subject.network(subject.layer).eval().requires_grad_(False)
        self.network.to(subject.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.view = View(crop_min=config.crop_min,
                         aspect=4 / 3 if config.crop_min < 1 else 1.0, flip=config.flip)
        self._resumed = checkpoint.load(subject.context.checkpoint_dir, subject.key)
        self._saved = self._reported = time.monotonic()

    def fit(self, settings: list[Settings], *parts: Labelled) -> Heads:
        """Train every setting; raises Interrupted after a checkpoint."""
        rows, subject = Rows(parts), self.subject
        width = self.network.feature_dim
        assert isinstance(width, int)
        heads = Heads.start(width, self.num_classes, settings, self.config, subject.device)
        generator = torch.Generator().manual_seed(derive(subject.seed, "linear views"))
        done = self._resume(heads, len(parts), generator)
        for _, index, factor, step in batches(len(rows), self.config,
                                              derive(subject.seed, "linear sampling")):
            if step < done:  # the sampler is the same stream, drawn again
                continue
            pixels, labels = rows.take(index)
            images = views.apply(pixels.to(subject.device), self.view, generator, subject.size)
            heads.step(self._embed(images), labels.to(subject.device), factor)
            self._pause(heads, len(parts), step + 1, generator)
        return heads

    def scores(self, heads: Heads, index: int, pixels: Tensor) -> Iterator[Tensor]:
        """Logits (b, C) of the images' plain views, block by block, on the CPU."""
        for part in pixels.split(BATCH):
            x = views.plain(part.to(self.subject.device), self.subject.size)
            yield heads.scores(index, self._embed(x)).cpu()

    @torch.no_grad()
    def _embed(self, images: Tensor) -> Tensor:
        with autocast(self.subject.precision, self.subject.device):
            embedded: Tensor = self.network(images)
        return embedded.float()

    def _pause(self, heads: Heads, splits: int, step: int, generator: torch.Generator) -> None:
        now, context = time.monotonic(), self.subject.context
        if now - self._reported >= PROGRESS_SECONDS:
            self._reported = now
            context.progress({"step": step})
        stopping = context.stop()
        if stopping or now - self._saved >= context.checkpoint_seconds:
            checkpoint.save(context.checkpoint_dir, {
                "identity": self.subject.key, "splits": splits, "step": step,
                "settings": len(heads.settings), "heads": heads.state(),
                "views": generator.get_state()})
            self._saved = now
        if stopping:
            raise Interrupted(f"stopped after step {step}")

    def _resume(self, heads: Heads, splits: int, generator: torch.Generator) -> int:
        """Take up the checkpoint if it is of this training; the steps that are done."""
        state = self._resumed
        if state is None or state["splits"] != splits:
            return 0
        self._resumed = None
        heads.load(state["heads"])
        generator.set_state(state["views"])
        return int(state["step"])
