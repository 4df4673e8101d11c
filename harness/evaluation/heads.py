"""Linear classifiers of many settings trained at once, on the same batches. Imports torch.

S settings cost one gather (or one forward of the backbone) a step and two products with a matrix of
S C columns; each classifier gets what it would get alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.evaluation.photographs import joined
from harness.evaluation.sgd_config import Settings, Sgd
from harness.training import schedules
from harness.training.sampling import Sampler

BLOCK = 8192  # rows that are classified together


@dataclass
class Heads:
    """S classifiers of features (b, d): weight (d, S C), bias (S C,), and SGD's buffers.

    They start at zero (FNC, BYOL), so no seed is in them. The update is torch.optim.SGD's; its
    weight decay includes the bias.
    """

    weight: Tensor
    bias: Tensor
    buffers: tuple[Tensor, Tensor]
    settings: list[Settings]
    num_classes: int
    momentum: float
    nesterov: bool
    low: bool = False  # products of bfloat16

    @classmethod
    def start(cls, d: int, num_classes: int, settings: list[Settings], config: Sgd,
              device: torch.device | str) -> Heads:
        """All at zero."""
        shapes = (d, len(settings) * num_classes), (len(settings) * num_classes,)
        weight, bias, *buffers = (torch.zeros(shape, device=device) for shape in shapes * 2)
        return cls(weight, bias, (buffers[0], buffers[1]), settings, num_classes, config.momentum,
                   config.nesterov, config.products == "bf16")

    def step(self, x: Tensor, labels: Tensor, factor: float) -> None:
        """One update from features (b, d) and labels (b,); each rate is its lr times `factor`."""
        shape = (len(x), len(self.settings), self.num_classes)
        slope = self._product(x, self.weight).add_(self.bias).view(shape).softmax(2)
        # of the mean cross entropy: softmax - 1 at the label, over b
        slope.scatter_add_(2, labels.view(-1, 1, 1).expand(-1, shape[1], 1),
                           slope.new_full((1, 1, 1), -1.0).expand(shape[0], shape[1], 1))
        slope = slope.view(len(x), -1).div_(len(x))
        rate = self._columns([s.lr * factor for s in self.settings])
        decay = self._columns([s.weight_decay for s in self.settings])
        decays = any(s.weight_decay for s in self.settings)
        for value, gradient, buffer in ((self.weight, self._product(x.T, slope), self.buffers[0]),
                                        (self.bias, slope.sum(0), self.buffers[1])):
            if decays:
                gradient.addcmul_(value, decay)
            torch.add(gradient, buffer, alpha=self.momentum, out=buffer)  # one pass, not two
            update = gradient.add_(buffer, alpha=self.momentum) if self.nesterov else buffer
            value.addcmul_(update, rate, value=-1)

    def _product(self, a: Tensor, b: Tensor) -> Tensor:
        """a @ b, float32."""
        return (a.bfloat16() @ b.bfloat16()).float() if self.low else a @ b

    def scores(self, index: int, x: Tensor) -> Tensor:
        """Logits (n, C) of one setting."""
        columns = slice(index * self.num_classes, (index + 1) * self.num_classes)
        return torch.addmm(self.bias[columns], x, self.weight[:, columns])

    def finite(self, index: int) -> bool:
        """Whether training of a setting has not diverged."""
        columns = slice(index * self.num_classes, (index + 1) * self.num_classes)
        parts = self.weight[:, columns], self.bias[columns]
        return all(bool(part.isfinite().all()) for part in parts)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"weight": self.weight, "bias": self.bias, "buffers": list(self.buffers)}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from `state`."""
        self.weight.copy_(state["weight"])
        self.bias.copy_(state["bias"])
        for buffer, value in zip(self.buffers, state["buffers"], strict=True):
            buffer.copy_(value)

    def _columns(self, values: list[float]) -> Tensor:
        """One value for each setting as one for each column."""
        each = torch.tensor(values, device=self.weight.device)
        return each.repeat_interleave(self.num_classes)


@dataclass(frozen=True)
class Rows:
    """Features and labels of splits one after the other; they stay where they are."""

    parts: tuple[Any, ...]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Features and labels of the rows int64 (b,), in that order, on the splits' device."""
        if len(self.parts) == 1:
            return self.parts[0].features[index], self.parts[0].labels[index]
        first, second = self.parts
        late = index >= len(first)
        order = torch.cat([(~late).nonzero(), late.nonzero()]).flatten().argsort()
        found = [(part.features[rows], part.labels[rows]) for part, rows in
                 ((first, index[~late]), (second, index[late] - len(first)))]
        features, labels = (joined(*both)[order] for both in zip(*found, strict=True))
        return features, labels


def batches(count: int, config: Sgd, seed: int) -> Iterator[tuple[Sampler, Tensor, float, int]]:
    """Of every step: the sampler, the rows, the factor of the learning rates and the step."""
    size = min(config.batch_size, count)
    sampler = Sampler(count, size, seed)
    total = schedules.num_steps(config.epochs, count, size)
    for step in range(total):
        yield sampler, sampler.next(), factor(config, step, total), step


def factor(config: Sgd, step: int, total: int) -> float:
    """What the learning rates are multiplied by: half a cosine, or drop ** milestones passed."""
    if config.schedule == "step":
        return float(config.drop ** sum(step >= total * share for share in config.milestones))
    return schedules.learning_rate(config.schedule, step, total, 0, 1.0)

