"""Linear classification of cached features: multinomial logistic regression by L-BFGS.

The protocol of "Do Better ImageNet Models Transfer Better?", arXiv 1805.08974, as used by SimCLR,
BYOL and DnC (arXiv 2105.08054, appendix F.1): no augmentation, full batches, the l2 penalty chosen
on the validation split along a path of log-spaced values.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.evaluation.metrics import accuracy, per_class_accuracy, report
from harness.evaluation.registry import register
from harness.evaluation.splits import Features, TrainSplit, ValidationSplit, best
from harness.lazy import torch
from methods.options import option

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Config:
    """Options of the linear evaluation."""

    l2_min: float = option(1e-5, above=0, help="weakest penalty of the path")
    l2_max: float = option(10.0, above=0, help="strongest penalty; C = 1 / (n l2) elsewhere")
    l2_count: int = option(13, at_least=1, help="log-spaced penalties, chosen from on validation",
                           source="45 in arXiv 2105.08054, appendix F.1")
    max_iterations: int = option(200, at_least=1, help="L-BFGS iterations for each penalty")
    select: str = option("top1", choices=("top1", "balanced"), help="validation metric")
    dtype: str = option("float64", choices=("float64", "float32"), help="of the optimisation")


@dataclass(frozen=True)
class Classifier:
    """Standardised features -> logits: `mean`, `scale` (d,), `weight` (d, C), `bias` (C,)."""

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    l2: float

    def predict(self, features: Tensor) -> Tensor:
        """The most likely class of each row, int64 (n,)."""
        x = standardise(features, self.mean, self.scale)
        return (x @ self.weight + self.bias).argmax(1)


@register("linear", config=Config, revision=1)
def linear(data: Features, config: Config, class_counts: Sequence[int] | None) -> dict[str, Any]:
    """Logistic regression on standardised features; l2 is chosen on the validation split."""
    classifiers = list(path(data.train, penalties(config), data.num_classes,
                            config.max_iterations, config.dtype))

    def score(classifier: Classifier, split: ValidationSplit) -> float:
        predicted = classifier.predict(split.features)
        if config.select == "top1":
            return accuracy(predicted, split.labels)
        return float(per_class_accuracy(predicted, split.labels, data.num_classes).nanmean())

    chosen, value = best(classifiers, score, data.validation)
    selected = {"l2": chosen.l2, f"validation_{config.select}": value}
    return report(chosen.predict(data.test.features), data.test.read_labels(), data.num_classes,
                  class_counts, selected)


def penalties(config: Config) -> list[float]:
    """Log-spaced penalties, the strongest first: of equal scores the strongest is chosen."""
    if config.l2_min > config.l2_max:
        raise ValueError(f"linear: l2_min={config.l2_min} is above l2_max={config.l2_max}: "
                         "exchange them")
    top, bottom = math.log10(config.l2_max), math.log10(config.l2_min)
    steps = max(1, config.l2_count - 1)
    return [10 ** (top + (bottom - top) * i / steps) for i in range(config.l2_count)]


def path(train: TrainSplit, l2_values: Sequence[float], num_classes: int,
         max_iterations: int = 200, dtype: str = "float64") -> Iterator[Classifier]:
    """A classifier for each penalty, each starting from the one before.

    Each minimises mean cross entropy + l2 / 2 |W|^2 over weights W (d, C) and an unpenalised bias.
    """
    features = train.features.to(getattr(torch, dtype))
    mean = features.mean(0)
    scale = features.std(0, correction=0)
    # a constant feature carries nothing and would be divided by 0
    scale = torch.where(scale > 1e-12, scale, torch.ones_like(scale))
    axes, variance = principal_axes(standardise(features, mean, scale))
    z = standardise(features, mean, scale) @ axes
    parameters = z.new_zeros(z.shape[1] + 1, num_classes)
    for l2 in l2_values:
        parameters = minimise(z, train.labels, l2, parameters, variance, max_iterations)
        yield Classifier(mean, scale, axes @ parameters[:-1], parameters[-1], l2)


def standardise(features: Tensor, mean: Tensor, scale: Tensor) -> Tensor:
    """(features - mean) / scale in the dtype of `mean`."""
    return (features.to(mean.dtype) - mean) / scale


def principal_axes(x: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal axes (d, r) of the centred rows x (n, d), and the variance along each (r,).

    The optimal W lies in their span and |W| is the same in these coordinates, so n images of
    d > n features are a problem of n dimensions.
    """
    n, d = x.shape
    square = (x.T @ x if d <= n else x @ x.T).double() / n
    variance, vectors = torch.linalg.eigh(square)
    kept = variance > 1e-10 * variance[-1].clamp_min(1e-30)
    variance, vectors = variance[kept].to(x.dtype), vectors[:, kept].to(x.dtype)
    if d > n:
        vectors = x.T @ (vectors / (n * variance).sqrt())
    return vectors, variance


def minimise(z: Tensor, labels: Tensor, l2: float, start: Tensor, variance: Tensor,
             max_iterations: int) -> Tensor:
    """The minimiser (r + 1, C) from `start`, its last row the bias; L-BFGS with strong Wolfe.

    It works on W times the root of the curvature along each axis, about variance / C + l2. With
    the principal axes this took 11 penalties on 342 x 3072 raw pixels from 60 s to under 1 s.
    """
    curvature = torch.cat([variance / start.shape[1] + l2, variance.new_ones(1) / start.shape[1]])
    unit = curvature.rsqrt()[:, None]
    scaled = (start / unit).requires_grad_()
    # in these units the loss is within about |gradient|^2 / 2 of its minimum
    optimizer = torch.optim.LBFGS(
        [scaled], max_iter=max_iterations, max_eval=2 * max_iterations, history_size=20,
        tolerance_grad=2e-6, tolerance_change=1e-12, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = objective(z, labels, l2, scaled * unit)
        loss.backward()
        return loss

    optimizer.step(closure)
    return scaled.detach() * unit


def objective(x: Tensor, labels: Tensor, l2: float, parameters: Tensor) -> Tensor:
    """Mean cross entropy + l2 / 2 |W|^2 for features x (n, d) and [W; bias] (d + 1, C)."""
    logits = torch.addmm(parameters[-1], x, parameters[:-1])
    penalty = 0.5 * l2 * parameters[:-1].square().sum()
    return torch.nn.functional.cross_entropy(logits, labels) + penalty
