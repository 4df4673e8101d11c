"""Controls: pure functions on a selection and labels, one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.controls import correlation as correlation
from datasets.controls import diversity as diversity
from datasets.controls import long_tail as long_tail
from datasets.controls import size as size
from datasets.controls.base import CONTROLS, Control
from datasets.types import Selection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from datasets.types import Pool

__all__ = ["CONTROLS", "ORDER", "Control", "apply", "start"]

# The stated order, whatever the order of writing: which classes, how many of each, how distinct.
ORDER = ("diversity", "long_tail", "size", "correlation")


def start(pool: Pool, seed: int) -> Selection:
    """The whole pool in an order drawn by the seed, lower tiers first."""
    order = np.random.default_rng([seed, 0]).permutation(len(pool))
    order = order[np.argsort(pool.tier[order], kind="stable")]
    return Selection(order, np.zeros(len(order), dtype=np.int64))


def apply(pool: Pool, controls: Mapping[str, Mapping[str, Any]], total: int | None,
          seed: int) -> Selection:
    """Apply controls in the stated order; without `long_tail` a total is drawn balanced.

    total None takes all there is. Raises ValueError (TooFewImages) if they cannot be satisfied.
    """
    selection = start(pool, seed)
    steps = dict(controls)
    if total is not None and "long_tail" not in steps:
        steps.setdefault("size", {})
    for name in ORDER:
        if name in steps:
            wanted = len(selection) if total is None else total
            selection = CONTROLS[name].function(selection, pool.labels, total=wanted, seed=seed,
                                                **steps[name])
    return selection
