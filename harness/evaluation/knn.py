"""Weighted k nearest neighbours on l2-normalised features.

"Unsupervised Feature Learning via Non-Parametric Instance Discrimination", arXiv 1805.01978,
section 3.4. Released code: zhirongw/lemniscate.pytorch, test.py; CLD uses the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.evaluation.metrics import accuracy, report
from harness.evaluation.registry import register
from harness.evaluation.splits import Features, TrainSplit, ValidationSplit, best
from harness.lazy import torch
from methods.options import option

if TYPE_CHECKING:
    from torch import Tensor

CANDIDATES = (1, 5, 10, 20, 50, 100, 200)
# a block of float32 similarities is 64 MiB, whatever the number of images
QUERIES, GALLERY = 1024, 16384


@dataclass(frozen=True)
class Config:
    """Options of weighted kNN."""

    k: int = option(20, at_least=1, help="neighbours that vote", source="200 in lemniscate test.py")
    sigma: float = option(0.1, above=0, help="temperature of the votes",
                          source="0.07 in arXiv 1805.01978, 0.1 in its CIFAR code")
    select_k: bool = option(False, help="choose k on the validation split among 1, 5, .. 200")


@register("knn", config=Config, revision=1)
def knn(data: Features, config: Config, class_counts: Sequence[int] | None) -> dict[str, Any]:
    """Each of the k nearest training images votes exp(similarity / sigma) for its class.

    Raises ValueError if there are fewer training images than k.
    """
    k, selected = config.k, {}
    if config.select_k:
        k, value = _select(data.train, data.validation, data.num_classes, config.sigma)
        selected = {"k": k, "validation_top1": value}
    scores = class_scores(data.train, data.test.features, k, config.sigma, data.num_classes)
    return report(scores.argmax(1), data.test.read_labels(), data.num_classes, class_counts,
                  selected)


def class_scores(train: TrainSplit, queries: Tensor, k: int, sigma: float,
                 num_classes: int) -> Tensor:
    """The votes for each class, float32 (n, C). Exact; memory is bounded by the blocks."""
    similarity, labels = neighbours(train, queries, k)
    return votes(similarity, labels, sigma, num_classes)


def votes(similarity: Tensor, labels: Tensor, sigma: float, num_classes: int) -> Tensor:
    """Sum exp(similarity / sigma) over the neighbours (n, k) of each class: (n, C)."""
    # on the CPU, which adds in a fixed order; a GPU would add in any
    weights = (similarity / sigma).exp().cpu()
    scores = weights.new_zeros(len(weights), num_classes).scatter_add_(1, labels.cpu(), weights)
    return scores.to(similarity.device)


def neighbours(train: TrainSplit, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Similarities (n, k), descending, and labels (n, k) of the nearest training images."""
    if k > len(train):
        raise ValueError(f"kNN with k={k} has {len(train)} training images: choose "
                         f"k <= {len(train)}")
    gallery = torch.nn.functional.normalize(train.features.float())
    queries = torch.nn.functional.normalize(queries.float())
    found = [_nearest(block, gallery, k) for block in queries.split(QUERIES)]
    similarity = torch.cat([values for values, _ in found])
    return similarity, train.labels[torch.cat([index for _, index in found])]


def _nearest(queries: Tensor, gallery: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Top k inner products of a block of queries, merged over blocks of the gallery."""
    values = queries.new_empty(len(queries), 0)
    index = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    for start in range(0, len(gallery), GALLERY):
        block = gallery[start:start + GALLERY]
        top = (queries @ block.T).topk(min(k, len(block)), dim=1)
        values = torch.cat([values, top.values], 1)
        index = torch.cat([index, top.indices + start], 1)
        best_ones = values.topk(min(k, values.shape[1]), dim=1)
        values, index = best_ones.values, index.gather(1, best_ones.indices)
    return values, index


def _select(train: TrainSplit, validation: ValidationSplit, num_classes: int,
            sigma: float) -> tuple[int, float]:
    """The best k on the validation split; neighbours are found once for the largest."""
    candidates = [k for k in CANDIDATES if k <= len(train)]
    similarity, labels = neighbours(train, validation.features, candidates[-1])

    def score(k: int, split: ValidationSplit) -> float:
        scores = votes(similarity[:, :k], labels[:, :k], sigma, num_classes)
        return accuracy(scores.argmax(1), split.labels)

    return best(candidates, score, validation)
