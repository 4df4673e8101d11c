"""From predictions to the numbers of a record."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.evaluation.shots import shot_accuracies
from harness.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor


def per_class_accuracy(predicted: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Share of each class's images that are right, float64 (C,); every class must have images."""
    right = torch.bincount(labels[predicted == labels], minlength=num_classes)
    return right.double() / torch.bincount(labels, minlength=num_classes)


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Share of images that are right."""
    return float((predicted == labels).double().mean())


def report(predicted: Tensor, labels: Tensor, num_classes: int,
           class_counts: Sequence[int] | None, selected: dict[str, Any]) -> dict[str, Any]:
    """Test metrics as JSON: top1, balanced, per_class, n_test, selected, and many/medium/few
    (thirds) where the pretraining images' `class_counts` are given."""
    per_class = per_class_accuracy(predicted, labels, num_classes).tolist()
    groups = shot_accuracies(per_class, class_counts) if class_counts else {}
    return {"top1": accuracy(predicted, labels), "balanced": sum(per_class) / num_classes,
            **groups, "per_class": per_class, "n_test": len(labels), "selected": selected}
