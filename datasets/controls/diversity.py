"""Diversity: how many classes the training images come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from datasets.controls.base import class_order, control, present

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.types import Selection


@control("diversity")
def diversity(selection: Selection, labels: NDArray[np.int64], *, total: int, seed: int,
              classes: int, order: str = "seed") -> Selection:
    """Keep the images of `classes` classes; a larger number keeps all classes of a smaller one.

    order: 'seed' draws the classes, 'label' takes the first. The total is set by what follows.
    """
    there = present(selection, labels)
    if not 1 <= classes <= len(there):
        raise ValueError(f"classes must be between 1 and {len(there)}, not {classes}")
    kept = class_order(there, order, seed)[:classes]
    return selection.at(np.isin(labels[selection.index], kept))
