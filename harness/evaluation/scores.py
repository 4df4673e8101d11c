"""How well class scores fit labels: top-1, mean per class, or 11-point mean average precision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.evaluation.measures import MAP11, MEAN_PER_CLASS
from harness.evaluation.metrics import accuracy, per_class_accuracy, report
from harness.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

RECALLS = 11


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
    """Test metrics as JSON, from class scores (n, C); see `metrics.report`."""
    if metric == MAP11:
        found = average_precisions(scores, labels)
        return {MAP11: float(found.mean()), "per_class": found.tolist(), "n_test": len(labels),
                "selected": selected}
    return report(scores.argmax(1), labels, scores.shape[1], class_counts, selected)


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
