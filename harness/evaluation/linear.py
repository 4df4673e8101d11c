"""Linear classification of cached features: multinomial logistic regression by L-BFGS.

The protocol of "Do Better ImageNet Models Transfer Better?", arXiv 1805.08974, as used by SimCLR,
BYOL and DnC (arXiv 2105.08054, appendix F.1): no augmentation, full batches, the l2 penalty chosen
on the validation split along a path of log-spaced values. Of images of several classes (VOC2007)
every class is a binary regression of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from harness.evaluation.measures import MEAN_PER_CLASS
from harness.evaluation.registry import register
from harness.evaluation.scores import grade, report_scores
from harness.evaluation.splits import Features, Labelled, ValidationSplit, best
from harness.lazy import torch
from methods.options import option

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 16384  # standardised together
RESIDENT = 2**27  # numbers of a training split that is standardised once: 1 GiB in float64


@dataclass(frozen=True)
class Config:
    """Options of the linear evaluation; the transfer protocol is l2_min 1e-6, l2_max 1e5,
    l2_count 45, retrain and rows as_is."""

    ADDED: ClassVar[tuple[str, ...]] = ("retrain", "rows")
    l2_min: float = option(1e-5, above=0, help="weakest penalty of the path")
    l2_max: float = option(10.0, above=0, help="strongest penalty; C = 1 / (n l2) elsewhere")
    l2_count: int = option(13, at_least=1, help="log-spaced penalties, chosen from on validation",
                           source="45 in arXiv 2105.08054, appendix F.1")
    max_iterations: int = option(200, at_least=1, help="L-BFGS iterations for each penalty")
    select: str = option("top1", choices=("top1", "balanced"), help="validation metric")
    dtype: str = option("float64", choices=("float64", "float32"), help="of the optimisation")
    retrain: bool = option(False, help="fit again to train and validation with the chosen l2",
                           source="arXiv 1805.08974, appendix A.4")
    rows: str = option("standard", choices=("as_is", "standard"),
                       help="features as they are, as no paper says otherwise, or standardised")


@dataclass(frozen=True)
class Classifier:
    """Features -> logits: `mean`, `scale` (d,), 1 as they are; `weight` (d, C), `bias` (C,)."""

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor
    l2: float

    def predict(self, features: Tensor) -> Tensor:
        """The most likely class of each row, int64 (n,)."""
        return torch.cat([self.scores(block).argmax(1) for block in features.split(ROWS)])

    def scores(self, features: Tensor) -> Tensor:
        """Logits (n, C)."""
        return standardise(features, self.mean, self.scale) @ self.weight + self.bias


@register("linear", config=Config, revision=2, several=True, ranks=True)
def linear(data: Features, config: Config, class_counts: Sequence[int] | None) -> dict[str, Any]:
    """Logistic regression on standardised features or as they are; l2 is chosen on validation."""
    classifiers = list(path(data.train, penalties(config), data.num_classes,
                            config.max_iterations, config.dtype, config.rows))
    balanced = config.select == "balanced" and data.metric == "top1"
    metric = MEAN_PER_CLASS if balanced else data.metric

    def score(classifier: Classifier, split: ValidationSplit) -> float:
        return grade(_all_scores(classifier, split.features), split.labels, metric)

    chosen, value = best(classifiers, score, data.validation)
    name = config.select if data.metric == "top1" else data.metric
    selected = {"l2": chosen.l2, f"validation_{name}": value}
    if config.retrain:
        (chosen,) = path((data.train, data.validation), [chosen.l2], data.num_classes,
                         config.max_iterations, config.dtype, config.rows)
    return report_scores(_all_scores(chosen, data.test.features), data.test.read_labels(),
                         data.metric, class_counts, selected)


def _all_scores(classifier: Classifier, features: Tensor) -> Tensor:
    """Logits (n, C), in blocks."""
    return torch.cat([classifier.scores(block) for block in features.split(ROWS)])


def penalties(config: Config) -> list[float]:
    """Log-spaced penalties, the strongest first: of equal scores the strongest is chosen."""
    if config.l2_min > config.l2_max:
        raise ValueError(f"linear: l2_min={config.l2_min} is above l2_max={config.l2_max}: "
                         "exchange them")
    top, bottom = math.log10(config.l2_max), math.log10(config.l2_min)
    steps = max(1, config.l2_count - 1)
    return [10 ** (top + (bottom - top) * i / steps) for i in range(config.l2_count)]


def path(splits: Labelled | Sequence[Labelled], l2_values: Sequence[float], num_classes: int,
         max_iterations: int = 200, dtype: str = "float64",
         rows: str = "standard") -> Iterator[Classifier]:
    """A classifier for each penalty, each starting from the one before.

    rows: "as_is" centres the features only, which the unpenalised bias makes no difference of.

    Each minimises mean cross entropy + l2 / 2 |W|^2 over weights W (d, C) and an unpenalised bias.
    splits: what it is fitted to, one after the other; large ones stay where they are.
    """
    parts = (splits,) if isinstance(splits, Labelled) else tuple(splits)
    if sum(part.features.numel() for part in parts) > RESIDENT:
        yield from _path_in_blocks(parts, l2_values, num_classes, max_iterations, dtype, rows)
        return
    features = torch.cat([part.features.to(getattr(torch, dtype)) for part in parts])
    labels = torch.cat([part.labels for part in parts])
    mean = features.mean(0)
    scale = features.std(0, correction=0)
    # a constant feature carries nothing and would be divided by 0
    scale = torch.where((scale > 1e-12) & (rows == "standard"), scale, torch.ones_like(scale))
    axes, variance = principal_axes(standardise(features, mean, scale))
    z = standardise(features, mean, scale) @ axes
    parameters = z.new_zeros(z.shape[1] + 1, num_classes)
    for l2 in l2_values:
        parameters = minimise(z, labels, l2, parameters, variance, max_iterations)
        yield Classifier(mean, scale, axes @ parameters[:-1], parameters[-1], l2)


def _path_in_blocks(parts: Sequence[Labelled], l2_values: Sequence[float], num_classes: int,
                    max_iterations: int, dtype: str, rows: str) -> Iterator[Classifier]:
    """As `path`, reading the features block by block in every evaluation of the loss."""
    kind = getattr(torch, dtype)
    mean, scale, square = moments([part.features for part in parts], rows)
    axes, variance = axes_of(square, kind)
    mean, scale = mean.to(kind), scale.to(kind)
    parameters = axes.new_zeros(axes.shape[1] + 1, num_classes)

    def loss_of(parameters: Tensor, l2: float) -> Tensor:
        return in_blocks(parts, mean, scale, axes, parameters, l2)

    for l2 in l2_values:
        parameters = descend(loss_of, l2, parameters, variance, max_iterations)
        yield Classifier(mean, scale, axes @ parameters[:-1], parameters[-1], l2)


def moments(parts: Sequence[Tensor], rows: str = "standard") -> tuple[Tensor, Tensor, Tensor]:
    """Mean and deviation (d,), and the mean product (d, d) of standardised rows, float64.

    With rows "as_is" the deviation is 1.
    """
    n, d, device = sum(map(len, parts)), parts[0].shape[1], parts[0].device
    mean = torch.zeros(d, dtype=torch.float64, device=device)
    for block in (block for part in parts for block in part.split(ROWS)):
        mean += block.double().sum(0) / n
    square = torch.zeros(d, d, dtype=torch.float64, device=device)
    for block in (block for part in parts for block in part.split(ROWS)):
        centred = block.double() - mean
        square.addmm_(centred.T, centred, alpha=1 / n)
    scale = square.diagonal().sqrt()
    scale = torch.where((scale > 1e-12) & (rows == "standard"), scale, torch.ones_like(scale))
    return mean, scale, square / scale / scale[:, None]


def in_blocks(parts: Sequence[Labelled], mean: Tensor, scale: Tensor, axes: Tensor,
              parameters: Tensor, l2: float) -> Tensor:
    """The objective in the principal axes, with the gradient of each block taken at once."""
    folded = torch.cat([axes @ parameters[:-1], parameters[-1:]]).detach().requires_grad_()
    total = parameters.new_zeros(())
    n = sum(map(len, parts))
    blocks = (pair for part in parts for pair in
              zip(part.features.split(ROWS), part.labels.split(ROWS), strict=True))
    for x, labels in blocks:
        loss = objective(standardise(x, mean, scale), labels, 0.0, folded) * (len(x) / n)
        loss.backward()
        total += loss.detach()
    assert folded.grad is not None
    gradient = torch.cat([axes.T @ folded.grad[:-1], folded.grad[-1:]])
    # a function of `parameters` with this value and this gradient
    linear_part = (parameters * gradient).sum()
    return (total + linear_part - linear_part.detach()
            + 0.5 * l2 * parameters[:-1].square().sum())


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
    vectors, variance = axes_of(square, x.dtype)
    if d > n:
        vectors = x.T @ (vectors / (n * variance).sqrt())
    return vectors, variance


def axes_of(square: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Eigenvectors (d, r) and eigenvalues (r,) of a mean product (d, d) that are not 0."""
    variance, vectors = torch.linalg.eigh(square)
    kept = variance > 1e-10 * variance[-1].clamp_min(1e-30)
    return vectors[:, kept].to(dtype), variance[kept].to(dtype)


def minimise(z: Tensor, labels: Tensor, l2: float, start: Tensor, variance: Tensor,
             max_iterations: int) -> Tensor:
    """`descend` on the objective of z (n, r)."""
    def loss_of(parameters: Tensor, l2: float) -> Tensor:
        return objective(z, labels, l2, parameters)

    return descend(loss_of, l2, start, variance, max_iterations)


def descend(loss_of: Callable[[Tensor, float], Tensor], l2: float, start: Tensor,
            variance: Tensor, max_iterations: int) -> Tensor:
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
        loss = loss_of(scaled * unit, l2)
        loss.backward()
        return loss

    optimizer.step(closure)
    return scaled.detach() * unit


def objective(x: Tensor, labels: Tensor, l2: float, parameters: Tensor) -> Tensor:
    """Mean cross entropy + l2 / 2 |W|^2 for features x (n, d) and [W; bias] (d + 1, C).

    labels: int64 (n,), or (n, C) of 1, -1 and 0 (not judged): then the sum over the classes of the
    binary cross entropies, each summed over what is judged and divided by n.
    """
    logits = torch.addmm(parameters[-1], x, parameters[:-1])
    penalty = 0.5 * l2 * parameters[:-1].square().sum()
    if labels.ndim == 1:
        return torch.nn.functional.cross_entropy(logits, labels) + penalty
    each = torch.nn.functional.softplus(-labels.to(logits) * logits)
    return (each * (labels != 0)).sum() / len(x) + penalty
