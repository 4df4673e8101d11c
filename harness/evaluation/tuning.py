"""Fine-tuning: a classifier on a trained network, all of it trained on labels. Imports torch.

One training for each setting of a grid, each from the same start and over the same batches; the
setting is chosen on the validation split, and the test split is read once, at the end. It can be
stopped between any two steps and goes on from its checkpoint.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datasets import views
from datasets.recipes import View
from harness.evaluation.measures import MAP11
from harness.evaluation.photographs import joined
from harness.evaluation.scores import grade, report_scores
from harness.evaluation.splits import Features, Labelled, TrainSplit, ValidationSplit, best
from harness.evaluation.subject import Subject
from harness.evaluation.tuning_config import Tuning
from harness.training import checkpoint, schedules
from harness.training.loop import Interrupted
from harness.training.optim import build_optimizer, set_lr
from harness.training.precision import autocast
from harness.training.sampling import Sampler
from harness.training.seeds import derive

BATCH = 256  # of evaluation
PROGRESS_SECONDS = 0.5


@dataclass(frozen=True)
class Setting:
    """One point of the grid; weight_decay is what the optimiser is given."""

    lr: float
    weight_decay: float


class Tuned(nn.Module):
    """A network and a linear classifier that starts at zero, so that every start is the same."""

    def __init__(self, network: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.network = network
        width = network.feature_dim
        assert isinstance(width, int)
        self.classifier = nn.Linear(width, num_classes)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> logits (B, C)."""
        logits: Tensor = self.classifier(self.network(x))
        return logits


def tune(subject: Subject, data: Features, config: Tuning,
         class_counts: Sequence[int] | None) -> dict[str, Any]:
    """Fine-tune on `data.train`, choose on `data.validation`, measure on `data.test`.

    Raises ValueError for fewer than 2 images, FloatingPointError where every setting diverges and
    Interrupted after a checkpoint.
    """
    tuner = _Tuner(subject, data, config)
    chosen, value = best(range(len(tuner.settings)), tuner.score, data.validation)
    if value < 0:
        raise FloatingPointError("fine-tuning: the loss was not finite in any setting: lower lrs")
    if config.retrain and len(data.validation):
        tuner.fit_again(chosen, merged(data.train, data.validation))
    else:
        tuner.use(chosen)
    scores = tuner.predict(data.test.features)
    selected = {**asdict(tuner.settings[chosen]), f"validation_{data.metric}": value,
                "steps": tuner.steps_of(len(data.train)), "n_train": len(data.train)}
    return report_scores(scores, data.test.read_labels(), data.metric, class_counts, selected)


def merged(train: TrainSplit, validation: ValidationSplit) -> TrainSplit:
    """Both splits as one to train on, after everything is chosen."""
    return TrainSplit(joined(train.features, validation.features),
                      torch.cat([train.labels, validation.labels]))


def settings_of(config: Tuning) -> list[Setting]:
    """The grid: every learning rate with every weight decay, the smallest rate first."""
    return [Setting(lr, decay / lr if config.decay_over_lr else decay)
            for lr, decay in itertools.product(config.lrs, config.weight_decays)]


class _Tuner:
    """The trainings of a grid, one after the other."""

    def __init__(self, subject: Subject, data: Features, config: Tuning) -> None:
        if len(data.train) < 2:
            raise ValueError(f"fine-tuning needs 2 images, the data set has {len(data.train)}")
        self.subject, self.data, self.config = subject, data, config
        self.settings = settings_of(config)
        self.scores: list[float] = []
        self.best: dict[str, Tensor] = {}
        self.view = View(crop_min=config.crop_min, aspect=4 / 3 if config.crop_min < 1 else 1.0,
                         flip=config.flip)
        self.model: Tuned | None = None
        self._resumed = checkpoint.load(subject.context.checkpoint_dir, subject.key)
        if self._resumed is not None:
            self.scores = list(self._resumed["scores"])
            self.best = {name: value.to(subject.device)
                         for name, value in self._resumed["best"].items()}
        self._saved = self._reported = self._began = time.monotonic()
        self._first: tuple[int, float] | None = None  # step and time that the rate counts from

    def score(self, index: int, split: ValidationSplit) -> float:
        """The validation score of a setting; -1 where its loss is not finite."""
        if index < len(self.scores):
            return self.scores[index]
        finite = self._fit(index, self.data.train)
        value = grade(self.predict(split.features), split.labels, self.data.metric) \
            if finite else -1.0
        if value > max(self.scores, default=-2.0):
            assert self.model is not None
            self.best = {name: tensor.detach().clone()
                         for name, tensor in self.model.state_dict().items()}
        self.scores.append(value)
        return value

    def use(self, index: int) -> None:
        """Take the network of the chosen setting, which is the one that was kept."""
        self.model = self._start()
        self.model.load_state_dict(self.best)

    def fit_again(self, index: int, train: TrainSplit) -> None:
        """Train the chosen setting from the start on other images."""
        if not self._fit(index, train, again=True):
            raise FloatingPointError("fine-tuning on training and validation images: the loss is "
                                     "not finite: lower lrs")

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """Logits float32 (n, C) of the images' plain views, on the CPU."""
        assert self.model is not None
        self.model.eval()
        subject, found = self.subject, []
        with autocast(subject.precision, subject.device):
            for part in images.split(BATCH):
                x = views.plain(part.to(subject.device), subject.size)
                found.append(self.model(x).float().cpu())
        return torch.cat(found)

    def steps_of(self, images: int) -> int:
        """Updates of one training."""
        config = self.config
        return config.steps or schedules.num_steps(config.epochs, images,
                                                   min(config.batch_size, images))

    def _start(self) -> Tuned:
        data = self.data
        model = Tuned(self.subject.network(self.subject.layer), data.num_classes)
        model.to(self.subject.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model

    # -- one training -------------------------------------------------------------------------

    def _fit(self, index: int, train: TrainSplit, again: bool = False) -> bool:
        """Train from the start, or from the checkpoint; whether every loss was finite."""
        config, setting, seed = self.config, self.settings[index], self.subject.seed
        self.model = model = self._start()
        batch = min(config.batch_size, len(train))
        total = self.steps_of(len(train))
        warmup = schedules.num_warmup_steps(config.warmup_epochs, len(train), batch, total)
        _set_norms(model, config.norm_momentum, max(1, len(train) // batch))
        optimizer = build_optimizer(
            model, config.optimizer, lr=setting.lr, momentum=config.momentum,
            weight_decay=setting.weight_decay, nesterov=config.optimizer == "sgd")
        sampler = Sampler(len(train), batch, derive(seed, "finetune sampling"))
        generator = torch.Generator().manual_seed(derive(seed, "finetune views"))
        save = partial(self._save, index, again, optimizer, sampler, generator)
        step = self._resume(index, again, optimizer, sampler, generator)
        loss = torch.zeros(())
        while step < total:
            rate = schedules.learning_rate(config.schedule, step, total, warmup, setting.lr)
            loss = self._step(optimizer, rate, train, sampler.next(), generator)
            step += 1
            if not torch.isfinite(loss):
                return False
            self._pause(index, step, total, loss, save)
        return True

    def _step(self, optimizer: torch.optim.Optimizer, rate: float, train: Labelled, rows: Tensor,
              generator: torch.Generator) -> Tensor:
        subject, model = self.subject, self.model
        assert model is not None
        model.train()
        images = views.apply(train.features[rows].to(subject.device), self.view, generator,
                             subject.size)
        labels = train.labels[rows].to(subject.device)
        set_lr(optimizer, rate)
        optimizer.zero_grad(set_to_none=True)
        with autocast(subject.precision, subject.device):
            logits = model(images)
        loss = classification_loss(logits.float(), labels, self.data.metric)
        loss.backward()
        optimizer.step()
        return loss.detach()

    # -- stopping and going on ----------------------------------------------------------------

    def _pause(self, index: int, step: int, total: int, loss: Tensor, save: Any) -> None:
        now, context = time.monotonic(), self.subject.context
        if now - self._reported >= PROGRESS_SECONDS:
            self._reported = now
            context.progress(self._state(index * total + step, total, float(loss), now))
        stopping = context.stop()
        if stopping or now - self._saved >= context.checkpoint_seconds:
            save(step)
            self._saved = time.monotonic()
        if stopping:
            raise Interrupted(f"stopped after step {step} of {total} of setting {index + 1}")

    def _state(self, step: int, total: int, loss: float, now: float) -> dict[str, Any]:
        """What is shown: steps of all settings together, and what the last ones took."""
        steps = len(self.settings) * total
        if self._first is None:
            self._first = step - 1, self._began
        rate = (step - self._first[0]) / max(1e-9, now - self._first[1])
        return {"step": step, "steps": steps, "loss": loss,
                "images_per_second": rate * min(self.config.batch_size, len(self.data.train)),
                "eta_seconds": max(0.0, (steps - step) / rate)}

    def _save(self, index: int, again: bool, optimizer: torch.optim.Optimizer, sampler: Sampler,
              generator: torch.Generator, step: int) -> None:
        assert self.model is not None
        checkpoint.save(self.subject.context.checkpoint_dir, {
            "identity": self.subject.key, "index": index, "again": again, "step": step,
            "scores": self.scores, "best": self.best, "model": self.model.state_dict(),
            "optimizer": optimizer.state_dict(), "sampler": sampler.state_dict(),
            "views": generator.get_state(), "rng": torch.get_rng_state()})

    def _resume(self, index: int, again: bool, optimizer: torch.optim.Optimizer, sampler: Sampler,
                generator: torch.Generator) -> int:
        """Take up the checkpoint if it is of this training; the step to go on from."""
        state = self._resumed
        if state is None or (state["index"], state["again"]) != (index, again):
            return 0
        self._resumed = None
        assert self.model is not None
        self.model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        sampler.load_state_dict(state["sampler"])
        generator.set_state(state["views"])
        torch.set_rng_state(state["rng"])
        return int(state["step"])


def classification_loss(logits: Tensor, labels: Tensor, metric: str) -> Tensor:
    """Mean cross entropy; for images of several classes the mean binary one of what is judged."""
    if metric != MAP11:
        return F.cross_entropy(logits, labels)
    judged = (labels != 0).float()
    each = F.binary_cross_entropy_with_logits(logits, (labels == 1).float(), reduction="none")
    return (each * judged).sum() / judged.sum().clamp_min(1)


def _set_norms(model: nn.Module, rule: str, steps_per_epoch: int) -> None:
    """"simclr": the running statistics keep max(1 - 10 / s, 0.9) of themselves each step."""
    if rule == "torch":
        return
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 1 - max(1 - 10 / steps_per_epoch, 0.9)
