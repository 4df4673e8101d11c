"""Size: how many training images, balanced or in the source's own proportions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from datasets.controls.base import control, present, weighted

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.types import Selection


@control("size")
def size(selection: Selection, labels: NDArray[np.int64], *, total: int, seed: int,
         profile: str = "balanced", alpha: float = 1.0) -> Selection:
    """Take `total` images: 'balanced', or 'natural' in proportion to the source's counts^alpha.

    alpha between 0 (balanced) and 1 (natural) changes the skew alone (BalFeat's ImageNet-LT0..8).
    """
    classes = present(selection, labels)
    if profile not in ("balanced", "natural"):
        raise ValueError(f"profile must be 'balanced' or 'natural', not {profile!r}")
    has = np.bincount(labels[selection.index])[classes].astype(np.float64)
    weights = has ** alpha if profile == "natural" else np.ones(len(classes))
    return weighted(selection, labels, classes, weights, total)
