"""What the objectives claim to change, measured on features: rank, false negatives, purity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.evaluation.measures import Measure, declare
from harness.evaluation.registry import register
from harness.evaluation.splits import Features
from harness.lazy import torch
from methods.options import option

if TYPE_CHECKING:
    from torch import Tensor

METRICS = declare(
    Measure("rankme", "effective rank (RankMe)", "dimensions", 0.0, float("inf")),
    Measure("false_negative_rate", "false negatives among the hardest of a batch", better=""),
    Measure("purity", "neighbours of the same class"))
BLOCK = 1024  # queries whose similarities are held together


@dataclass(frozen=True)
class Config:
    """Options of the diagnostics of features."""

    split: str = option("train", choices=("train", "validation"), help="what is looked at")
    k: int = option(10, at_least=1, help="neighbours of an image",
                    source="top-k of FNC, arXiv 2011.11765")
    batch_size: int = option(256, at_least=2, help="images among which negatives are")
    images: int = option(25600, at_least=2, help="at most so many, drawn by seed",
                         source="RankMe, arXiv 2210.02885, section 3")
    seed: int = option(0, at_least=0, help="of the drawing")


@register("diagnostics", config=Config, revision=1, metrics=METRICS)
def diagnostics(data: Features, config: Config,
                class_counts: Sequence[int] | None) -> dict[str, Any]:
    """Effective rank, false negatives among a batch's nearest, classes of the nearest neighbours.

    Raises ValueError for fewer images than neighbours.
    """
    split = data.train if config.split == "train" else data.validation
    generator = torch.Generator().manual_seed(config.seed)
    rows = torch.randperm(len(split), generator=generator)[:config.images]
    features, labels = split.features[rows].cpu(), split.labels[rows].cpu()
    return {"rankme": rankme(features),
            "false_negative_rate": false_negatives(features, labels, config.k, config.batch_size),
            "purity": purity(features, labels, config.k), "n_test": len(labels), "selected": {}}


def rankme(features: Tensor, epsilon: float = 1e-7) -> float:
    """exp of the entropy of the singular values as shares of their sum, for features (n, d).

    RankMe, arXiv 2210.02885, eq. 1 (epsilon as there); Roy and Vetterli, 2007. 1 for a line, d for
    directions of equal strength.
    """
    values = torch.linalg.svdvals(features.double())
    share = values / values.sum().clamp_min(1e-300) + epsilon
    return float((-(share * share.log()).sum()).exp())


def false_negatives(features: Tensor, labels: Tensor, k: int, batch_size: int) -> float:
    """Share of the k nearest others in a batch that have the anchor's label.

    FNC's mechanism (arXiv 2011.11765, section 3.2): the most similar negatives of a batch are the
    ones that may be false. Rows are batches in their order; an incomplete last one counts where it
    holds more than k images.
    """
    size = min(batch_size, len(features))
    parts = [(x, y) for x, y in zip(features.split(size), labels.split(size), strict=True)
             if len(x) > k]
    if not parts:
        raise ValueError(f"diagnostics: batches of {size} images have no k={k} others: choose "
                         f"k < {size}")
    same = [same_label(x, y, k) for x, y in parts]
    return float(torch.cat(same).mean())


def purity(features: Tensor, labels: Tensor, k: int) -> float:
    """Share of an image's k nearest others, of all images, that have its label.

    What local grouping relies on: CLD (arXiv 2008.03813) contrasts an image with the groups of its
    neighbours.
    """
    if k >= len(features):
        raise ValueError(f"diagnostics: {len(features)} images have no k={k} others: choose "
                         f"k < {len(features)}")
    return float(same_label(features, labels, k).mean())


def same_label(features: Tensor, labels: Tensor, k: int) -> Tensor:
    """Share (n,) of each row's k nearest others by cosine with its label, float64; n x BLOCK."""
    unit = torch.nn.functional.normalize(features.float())
    found = []
    for start in range(0, len(unit), BLOCK):
        similarity = unit[start:start + BLOCK] @ unit.T
        rows = torch.arange(len(similarity))
        similarity[rows, rows + start] = -torch.inf
        nearest = similarity.topk(k).indices
        own = labels[start:start + BLOCK]
        found.append((labels[nearest] == own[:, None]).double().mean(1))
    return torch.cat(found)
