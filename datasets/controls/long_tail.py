"""Long tail: class counts that fall from head to tail, at a fixed total."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datasets.controls.base import class_order, control, present, weighted
from datasets.counts import profile_weights

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from datasets.types import Selection


@control("long_tail")
def long_tail(selection: Selection, labels: NDArray[np.int64], *, total: int, seed: int,
              imbalance: float, profile: str = "exponential", alpha: float = 6.0,
              order: str = "label") -> Selection:
    """Take `total` images with class counts whose largest is `imbalance` times the smallest.

    profile: 'exponential', 'pareto' (with power alpha) or 'step'; order: 'label' makes the first
    class the head, 'seed' permutes the classes. An imbalance of 1 is the balanced set.
    """
    classes = class_order(present(selection, labels), order, seed)
    weights = profile_weights(profile, len(classes), imbalance, alpha)
    return weighted(selection, labels, classes, weights, total)
