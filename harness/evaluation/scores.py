"""How well class scores fit labels: top-1, top-5, mean per class, or 11-point mean average
precision."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from harness.evaluation.measures import MAP11, MEAN_PER_CLASS, TOP5
from harness.evaluation.metrics import accuracy, per_class_accuracy, report
from harness.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

RECALLS = 11
PLACES = 5  # of top-5
BLOCK = 8192  # rows that are compared together


def grade(scores: Tensor, labels: Tensor, metric: str) -> float:
    """The metric of class scores (n, C): what settings are chosen by, on validation.

    labels: int64 (n,), or (n, C) of 1, -1 and 0 for "map11". Classes without images are left out.
    """
    if metric == MAP11:
        return float(average_precisions(scores, labels).nanmean())
    predicted = scores.argmax(1)
    if metric == MEAN_PER_CLASS:
        return float(per_class_accuracy(predicted, labels, scores.shape[1]).nanmean())
    return accuracy(predicted, labels)


def report_scores(scores: Tensor, labels: Tensor, metric: str, class_counts: Sequence[int] | None,
                  selected: dict[str, Any]) -> dict[str, Any]:
    """Test metrics as JSON, from class scores (n, C); see `report_blocks`."""
    if metric == MAP11:
        found = average_precisions(scores, labels)
        return {MAP11: float(found.mean()), "per_class": found.tolist(), "n_test": len(labels),
                "selected": selected}
    return report_blocks(scores.split(BLOCK), labels, scores.shape[1], class_counts, selected)


def report_blocks(blocks: Iterable[Tensor], labels: Tensor, num_classes: int,
                  class_counts: Sequence[int] | None, selected: dict[str, Any]) -> dict[str, Any]:
    """`metrics.report` and top5 from class scores (b, C), block by block in the labels' order.

    top5 is the share of images whose class is among the five highest scores. It is left out where
    there are five classes or fewer, of which it would be 1 whatever the scores.
    """
    predicted, near, start = [], [], 0
    for scores in blocks:
        own = labels[start:start + len(scores)]
        predicted.append(scores.argmax(1))
        near.append(place(scores, own) < PLACES)
        start += len(scores)
    found = report(torch.cat(predicted), labels, num_classes, class_counts, selected)
    top5 = {TOP5: float(torch.cat(near).double().mean())} if num_classes > PLACES else {}
    return {**found, **top5}


def place(scores: Tensor, labels: Tensor) -> Tensor:
    """How many classes of (n, C) come before each image's own, int32 (n,); 0 is top-1.

    Of equal scores the class of the lower number comes first, as in argmax, so that top-5 is never
    below top-1. A score that is not a number comes before the image's own.
    """
    own = scores.gather(1, labels[:, None])
    lower = torch.arange(scores.shape[1], device=scores.device) < labels[:, None]
    behind = torch.where(lower, scores < own, scores <= own)
    # int32: the default, int64, took 9 times as long for 8192 x 1000 on a CPU
    return (~behind).sum(1, dtype=torch.int32)


def average_precisions(scores: Tensor, labels: Tensor) -> Tensor:
    """The 11-point average precision of each class, float64 (C,); NaN where no image has it.

    The mean over recalls 0, 0.1, .. 1 of the highest precision at that recall or more; images of
    0 ("difficult") are left out of their class. Source: VOC2007 development kit, VOCevalcls.m;
    Everingham et al., IJCV 2010, eq. 1 and 2.
    """
    return torch.stack([_average_precision(scores[:, c], labels[:, c])
                        for c in range(scores.shape[1])])


def _average_precision(scores: Tensor, labels: Tensor) -> Tensor:
    judged = labels != 0
    scores, right = scores[judged], (labels[judged] == 1).double()
    total = right.sum()
    if not total:
        return torch.tensor(float("nan"), dtype=torch.float64, device=scores.device)
    order = scores.argsort(descending=True, stable=True)
    hits = right[order].cumsum(0)
    precision = hits / torch.arange(1, len(hits) + 1, device=scores.device)
    # recall >= i / 10 in whole numbers: 3 / 10 of 10 positives is 3 of them, whatever 0.3 rounds to
    needed = torch.arange(RECALLS, device=scores.device)[:, None] * total / (RECALLS - 1)
    reached = hits[None] >= needed - 1e-9
    return torch.where(reached, precision[None], 0.0).amax(1).mean()
