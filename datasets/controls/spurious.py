"""Spurious correlation: the halves of an image tell different stories (Liu et al., ICLR 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from datasets.controls.base import control, present
from datasets.types import Selection

if TYPE_CHECKING:
    from numpy.typing import NDArray

OWN, BLANK = -1, -2  # values of Selection.partner


@control("spurious", neutral={"share": 0})
def spurious(selection: Selection, labels: NDArray[np.int64], *, total: int, seed: int,
             share: float = 1.0) -> Selection:
    """Give images of frequent classes the right half of a random one; blank the left half of rare.

    The frequent classes are the larger half of the classes, in label order where counts are equal.
    A label then hides in the left half of most images, and in the right half of a few. share: of
    the images that are so changed, drawn by the seed. Liu et al.'s set is CIFAR-10 with long_tail:
    {profile: step, imbalance: 500} and size 25050; it is trained without flips (scale.views:
    {flip: 0}), which would swap the halves. Pixel columns stay where they are.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be between 0 and 1, not {share}")
    own = labels[selection.index]
    classes = present(selection, labels)
    counts = np.bincount(own)[classes]
    frequent = classes[np.argsort(-counts, kind="stable")][:len(classes) // 2]
    # drawn for the whole pool: an image has the same partner whatever else is selected, and so do
    # its near duplicates
    rng = np.random.default_rng([seed, 3])
    partner = rng.permutation(len(labels))[selection.index]
    changed = rng.random(len(labels))[selection.index] < share
    partner = np.where(np.isin(own, frequent), partner, BLANK)
    return Selection(selection.index, selection.copy, np.where(changed, partner, OWN))
