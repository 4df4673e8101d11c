"""Mixture: images of another source among the own, without labels: an uncurated set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.controls.base import control
from datasets.controls.spurious import OWN
from datasets.types import Selection

if TYPE_CHECKING:
    from numpy.typing import NDArray


@control("mixture", neutral={"share": 0})
def mixture(selection: Selection, labels: NDArray[np.int64], *, total: int, seed: int,
            share: float, source: str, options: Mapping | None = None, path: str | None = None,
            fixed: bool = True, foreign: int = 0, content: str = "") -> Selection:
    """Make a share of the images foreign: drawn from the training images of another source.

    They have no label (-1). source, options, path: as of a dataset, decoded to the same side.
    fixed: the total stays and the own images, with all other controls, make up the rest of it;
    false adds the foreign images to the others. A larger share keeps those of a smaller one.
    foreign, content: images and fingerprint of the other source, found when this is resolved.
    """
    wanted = (total if fixed else grown(len(selection), share)) - len(selection)
    if wanted > foreign:
        raise ValueError(f"mixture needs {wanted} images of source '{source}', which has {foreign}:"
                         f" {wanted - foreign} too few; reduce controls.mixture.share or size")
    drawn = np.random.default_rng([seed, 4]).permutation(foreign)[:wanted]
    index = np.concatenate([selection.index, len(labels) + drawn])
    copy = np.concatenate([selection.copy, np.zeros_like(drawn)])
    if selection.partner is None:
        return Selection(index, copy)
    return Selection(index, copy, np.concatenate([selection.partner, np.full_like(drawn, OWN)]))


def own_total(total: int, given: Mapping[str, Any]) -> int:
    """How many of `total` images are the source's own. Raises ValueError for a bad share."""
    share = given["share"]
    if not 0 <= share < 1:
        raise ValueError(f"share must be at least 0 and below 1, not {share}")
    return total - round(share * total) if given.get("fixed", True) else total


def grown(own: int, share: float) -> int:
    """The total at which `own` images are all but a share."""
    return round(own / (1 - share))
