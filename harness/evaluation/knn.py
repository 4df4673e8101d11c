"""Weighted k nearest neighbours on l2-normalised features.

"Unsupervised Feature Learning via Non-Parametric Instance Discrimination", arXiv 1805.01978,
section 3.4. Released code: zhirongw/lemniscate.pytorch, test.py; CLD uses the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from harness.evaluation.metrics import accuracy, report
from harness.evaluation.neighbours import nearest
from harness.evaluation.registry import register
from harness.evaluation.splits import Features, TrainSplit, ValidationSplit, best
from harness.lazy import torch
from methods.options import option

if TYPE_CHECKING:
    from torch import Tensor

CANDIDATES = (1, 5, 10, 20, 50, 100, 200)
CHUNK = 16384  # queries whose neighbours and votes are held together


@dataclass(frozen=True)
class Config:
    """Options of weighted kNN."""

    ADDED: ClassVar[tuple[str, ...]] = ("backend",)
    k: int = option(20, at_least=1, help="neighbours that vote", source="200 in lemniscate test.py")
    sigma: float = option(0.1, above=0, help="temperature of the votes",
                          source="0.07 in arXiv 1805.01978, 0.1 in its CIFAR code")
    select_k: bool = option(False, help="choose k on the validation split among 1, 5, .. 200")
    backend: str = option("torch", choices=("torch", "faiss"),
                          help="what searches; the result is the same")


@dataclass(frozen=True)
class BalancedConfig:
    """Options of kNN on long-tailed images."""

    k: int = option(10, at_least=1, help="neighbours that vote",
                    source="1 and 10 in Annusha/temperature_schedules, notebooks")
    votes: str = option("equal", choices=("equal", "weighted"),
                        help="one vote a neighbour, or exp(similarity / sigma)")
    sigma: float = option(0.1, above=0, help="temperature of weighted votes")
    prior: str = option("as_is", choices=("as_is", "divided", "equal_images"),
                        help="of the classes: left; votes divided by the class's training images; "
                             "as many images of each class as of the rarest")
    seed: int = option(0, at_least=0, help="of the choice of images, prior=equal_images")
    backend: str = option("torch", choices=("torch", "faiss"),
                          help="what searches; the result is the same")


@register("knn", config=Config, revision=1)
def knn(data: Features, config: Config, class_counts: Sequence[int] | None) -> dict[str, Any]:
    """Each of the k nearest training images votes exp(similarity / sigma) for its class.

    Raises ValueError if there are fewer training images than k, or if images have several classes.
    """
    _require_one_class(data)
    k, selected = config.k, {}
    if config.select_k:
        k, value = _select(data.train, data.validation, data.num_classes, config)
        selected = {"k": k, "validation_top1": value}
    predicted = predict(data.train, data.test.features, k, config.sigma, data.num_classes,
                        config.backend)
    return report(predicted, data.test.read_labels(), data.num_classes, class_counts, selected)


@register("knn_balanced", config=BalancedConfig, revision=1)
def knn_balanced(data: Features, config: BalancedConfig,
                 class_counts: Sequence[int] | None) -> dict[str, Any]:
    """kNN of the long-tail papers, one vote a neighbour; `balanced` is the mean over classes.

    "Temperature Schedules for Self-Supervised Contrastive Methods on Long-Tail Data", ICLR 2023:
    kNN@1 and kNN@10 on l2-normalised features, accuracy averaged over classes. `prior` takes the
    gallery's class frequencies out of the vote; no paper's number has been made with it.
    """
    _require_one_class(data)
    train = data.train
    if config.prior == "equal_images":
        train = equal_images(train, data.num_classes, config.seed)
    sigma = config.sigma if config.votes == "weighted" else None
    share = None
    if config.prior == "divided":
        share = 1 / torch.bincount(train.labels, minlength=data.num_classes).clamp_min(1).float()
    predicted = predict(train, data.test.features, config.k, sigma, data.num_classes,
                        config.backend, share)
    return report(predicted, data.test.read_labels(), data.num_classes, class_counts,
                  {"n_train": len(train)})


def equal_images(train: TrainSplit, num_classes: int, seed: int) -> TrainSplit:
    """As many images of each class as the rarest has, at random."""
    counts = torch.bincount(train.labels, minlength=num_classes)
    least = int(counts[counts > 0].min())
    shuffled = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
    order = shuffled[train.labels.cpu()[shuffled].argsort(stable=True)]
    starts = counts.cpu().cumsum(0) - counts.cpu()
    chosen = torch.cat([order[start:start + least] for start in starts.unique().tolist()])
    chosen = chosen.sort().values.to(train.labels.device)
    return TrainSplit(train.features[chosen], train.labels[chosen])


def predict(train: TrainSplit, queries: Tensor, k: int, sigma: float | None, num_classes: int,
            backend: str = "torch", share: Tensor | None = None) -> Tensor:
    """The class with most votes, int64 (n,), of equals the first; `share` (C,) multiplies them."""
    found = []
    for block in queries.split(CHUNK):
        scores = class_scores(train, block, k, sigma, num_classes, backend)
        found.append((scores if share is None else scores * share).argmax(1))
    return torch.cat(found)


def class_scores(train: TrainSplit, queries: Tensor, k: int, sigma: float | None,
                 num_classes: int, backend: str = "torch") -> Tensor:
    """The votes for each class, float32 (n, C)."""
    similarity, labels = neighbours(train, queries, k, backend)
    return votes(similarity, labels, sigma, num_classes)


def votes(similarity: Tensor, labels: Tensor, sigma: float | None, num_classes: int) -> Tensor:
    """Sum exp(similarity / sigma), or 1 without a sigma, over the neighbours (n, k) of each class:
    (n, C)."""
    # on the CPU, which adds in a fixed order; a GPU would add in any
    one_each = torch.ones_like(similarity)
    weights = (one_each if sigma is None else (similarity / sigma).exp()).cpu()
    scores = weights.new_zeros(len(weights), num_classes).scatter_add_(1, labels.cpu(), weights)
    return scores.to(similarity.device)


def neighbours(train: TrainSplit, queries: Tensor, k: int,
               backend: str = "torch") -> tuple[Tensor, Tensor]:
    """Similarities (n, k), descending, and labels (n, k) of the nearest training images."""
    similarity, index = nearest(train.features, queries, k, backend)
    return similarity, train.labels[index]


def _select(train: TrainSplit, validation: ValidationSplit, num_classes: int,
            config: Config) -> tuple[int, float]:
    """The best k on the validation split; neighbours are found once for the largest."""
    candidates = [k for k in CANDIDATES if k <= len(train)]
    similarity, labels = neighbours(train, validation.features, candidates[-1], config.backend)

    def score(k: int, split: ValidationSplit) -> float:
        scores = votes(similarity[:, :k], labels[:, :k], config.sigma, num_classes)
        return accuracy(scores.argmax(1), split.labels)

    return best(candidates, score, validation)


def _require_one_class(data: Features) -> None:
    if data.train.labels.ndim > 1:
        raise ValueError("kNN votes for one class an image, and these have several: use linear")
