"""LDAM: the official long-tailed CIFAR sets, image for image, with a total of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from datasets.controls.base import class_order, control, present
from datasets.counts import ldam_counts, ldam_indices
from datasets.messages import TooFewImages
from datasets.types import Selection

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROFILES = {"exponential": "exp", "step": "step"}


@control("ldam")
def ldam(selection: Selection, labels: NDArray[np.int64], *, total: int, seed: int,
         imbalance: float = 100.0, profile: str = "exponential", largest: int | None = None,
         order: str = "label") -> Selection:
    """Draw the official CIFAR-10/100-LT: LDAM's counts with its rounding, its images by its seed 0.

    largest: images of the head class, by default images / classes as LDAM has it (5000 and 500);
    4500 and 450 make SDCLR's. order: 'seed' permutes which class is the head, as SDCLR's five
    splits do. LDAM samples all 50,000 images in their published order: data.options.holdout=false.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile must be 'exponential' or 'step', not {profile!r}")
    if not imbalance >= 1 or not np.isfinite(imbalance):
        raise ValueError("imbalance is max/min of the class counts, so at least 1, "
                         f"not {imbalance}")
    there = present(selection, labels)
    members = np.sort(selection.index)  # the published order
    head = len(members) / len(there) if largest is None else largest
    counts = ldam_counts(len(there), head, PROFILES[profile], 1 / imbalance)
    if counts[-1] < 1:
        raise ValueError(f"imbalance {imbalance:g} leaves no image of the last class: set it to at "
                         f"most {int(head)}, the images of the first")
    wanted = np.zeros(int(there[-1]) + 1, dtype=np.int64)
    wanted[class_order(there, order, seed)] = counts
    missing = wanted - np.bincount(labels[members], minlength=len(wanted))
    if (missing > 0).any():
        worst = int(np.argmax(missing))
        raise TooFewImages(worst, int(wanted[worst]), int(wanted[worst] - missing[worst]), -1)
    # the legacy generator takes seeds of 32 bits
    chosen = members[ldam_indices(labels[members], wanted[there], seed % 2**32)]
    return Selection(chosen, np.zeros_like(chosen))
