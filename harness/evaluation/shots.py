"""Many, medium and few: classes grouped by how many images they had in pretraining. No torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

GROUPS = ("many", "medium", "few")
RULES = ("oltr", "sdclr_imagenet", "thirds")
RULE = "thirds"


def shot_groups(counts: Sequence[int], rule: str = RULE) -> NDArray[np.int64]:
    """The group of each class, 0 many, 1 medium, 2 few, from its training images.

    * "oltr": many >= 100, few <= 20 (zhmiao/OpenLongTailRecognition-OLTR, utils.py shot_acc)
    * "sdclr_imagenet": many > 100, few < 20 (SDCLR on ImageNet-LT and Places-LT)
    * "thirds": thirds of the classes by rank, the remainder to many (SDCLR on CIFAR-LT); equal
      counts keep the order of the classes

    Raises ValueError for an unknown rule, naming the valid ones.
    """
    n = np.asarray(counts, dtype=np.int64)
    if rule == "oltr":
        return np.where(n >= 100, 0, np.where(n <= 20, 2, 1))
    if rule == "sdclr_imagenet":
        return np.where(n > 100, 0, np.where(n < 20, 2, 1))
    if rule != "thirds":
        raise ValueError(f"unknown rule '{rule}': choose one of {', '.join(RULES)}")
    third = len(n) // 3
    groups = np.zeros(len(n), dtype=np.int64)
    ranked = np.argsort(-n, kind="stable")
    groups[ranked[len(n) - 2 * third:]] = 1
    groups[ranked[len(n) - third:]] = 2
    return groups


def shot_accuracies(per_class: Sequence[float], counts: Sequence[int],
                    rule: str = RULE) -> dict[str, float]:
    """Mean accuracy over the classes of each group; a group without classes is left out.

    `counts[c]` are class c's images in pretraining. Raises ValueError if lengths differ.
    """
    if len(per_class) != len(counts):
        raise ValueError(f"{len(per_class)} accuracies and {len(counts)} counts: "
                         "give one per class")
    groups = shot_groups(counts, rule)
    accuracies = np.asarray(per_class)
    return {name: float(accuracies[groups == group].mean())
            for group, name in enumerate(GROUPS) if (groups == group).any()}


def long_tail_view(per_class: Sequence[float], counts: Sequence[int],
                   rule: str = RULE) -> dict[str, float]:
    """`shot_accuracies`, and how far they and the classes lie apart, as records name it.

    balancedness: of the groups (SDCLR, arXiv 2106.02990), where there are two at least;
    class_balancedness: of all classes.
    """
    groups = shot_accuracies(per_class, counts, rule)
    apart = {"balancedness": balancedness(list(groups.values()))} if len(groups) > 1 else {}
    return {**groups, **apart, "class_balancedness": balancedness(per_class)}


def balancedness(values: Sequence[float]) -> float:
    """Population standard deviation of accuracies (of groups or of classes); lower is better."""
    return float(np.std(values))
