"""Correlation: fewer distinct images, each repeated as near duplicates, at a fixed total."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from datasets.controls.base import control, ranks
from datasets.types import Selection

if TYPE_CHECKING:
    from numpy.typing import NDArray


@control("correlation", neutral={"repeats": 1})
def correlation(selection: Selection, labels: NDArray[np.int64], *, total: int, seed: int,
                repeats: int) -> Selection:
    """Replace all but every class's first ceil(n_c / repeats) images by near duplicates of those.

    m distinct images each `repeats` times, m * repeats fixed: class counts and the total stay as
    they are, exactly. repeats = 1 changes nothing.
    """
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, not {repeats}")
    if selection.copy.any():
        raise ValueError("correlation acts on distinct images: apply it once, and last")
    own = labels[selection.index]
    rank, sizes = ranks(own), np.bincount(own)
    distinct = np.maximum(-(-sizes // repeats), 1)[own]
    by_class = np.argsort(own, kind="stable")  # class by class, in order of rank
    starts = (np.cumsum(sizes) - sizes)[own]
    kept = by_class[starts + rank % distinct]
    return Selection(selection.index[kept], rank // distinct)
