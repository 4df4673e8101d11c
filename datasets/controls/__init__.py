"""Controls: pure functions on a selection and labels, one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.controls import correlation as correlation
from datasets.controls import diversity as diversity
from datasets.controls import index_list as index_list
from datasets.controls import long_tail as long_tail
from datasets.controls import size as size
from datasets.controls.base import CONTROLS, Control
from datasets.types import Selection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from datasets.types import Pool

__all__ = ["CONTROLS", "ORDER", "Control", "apply", "start"]

# The stated order, whatever the order of writing: which images may be used, which classes, how many
# of each, how distinct.
ORDER = ("index_list", "diversity", "long_tail", "size", "correlation")


def start(pool: Pool, seed: int) -> Selection:
    """The whole pool in an order drawn by the seed, lower tiers first."""
    order = np.random.default_rng([seed, 0]).permutation(len(pool))
    order = order[np.argsort(pool.tier[order], kind="stable")]
    return Selection(order, np.zeros(len(order), dtype=np.int64))


def apply(pool: Pool, controls: Mapping[str, Mapping[str, Any]], total: int | None,
          seed: int, *, names: Sequence[str] | None = None,
          folder: Path | None = None) -> Selection:
    """Apply controls in the stated order; without `long_tail` a total is drawn balanced.

    names: class/file of each image of the pool, folder: where index lists lie, if there are any.

    total None takes all there is. Raises ValueError (TooFewImages) if they cannot be satisfied.
    """
    selection = start(pool, seed)
    steps = dict(controls)
    if total is not None and "long_tail" not in steps:
        steps.setdefault("size", {})
    given = {"ids": pool.ids, "names": names, "folder": folder}
    for name in ORDER:
        if name in steps:
            extra = {key: given[key] for key in CONTROLS[name].wants}
            wanted = len(selection) if total is None else total
            selection = CONTROLS[name].function(selection, pool.labels, total=wanted, seed=seed,
                                                **steps[name], **extra)
    return selection
