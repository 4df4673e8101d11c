"""Power: the class counts of a published set, raised to a power, at a fixed total."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datasets import lists
from datasets.controls.base import class_order, control, present, weighted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.types import Selection


@control("power")
def power(selection: Selection, labels: NDArray[np.int64], *, total: int, seed: int,
          alpha: float, file: str, order: str = "label",
          folder: Path | None = None) -> Selection:
    """Take `total` images with class counts in proportion to counts^alpha: only the skew changes.

    file: the counts, one of each class, as a JSON list or as a published list with labels; of
    ImageNet-LT's they give BalFeat's ImageNet-LT0..8 (alpha 0, .2, .4, .6, .8). For the source's
    own counts use size: {profile: natural, alpha: ...}.
    """
    if not alpha >= 0 or not np.isfinite(alpha):
        raise ValueError(f"alpha must be at least 0, not {alpha}")
    classes = class_order(present(selection, labels), order, seed)
    counts = lists.counts(lists.find(file, folder))
    if len(counts) != len(classes) or counts.min() < 1:
        raise ValueError(f"{file} has counts of {np.count_nonzero(counts)} classes, the training "
                         f"set has {len(classes)} classes: use the counts of this data")
    return weighted(selection, labels, classes, counts.astype(np.float64) ** alpha, total)
