"""Controls: pure functions on a selection and labels, one file each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from datasets.controls import correlation as correlation
from datasets.controls import diversity as diversity
from datasets.controls import index_list as index_list
from datasets.controls import ldam as ldam
from datasets.controls import long_tail as long_tail
from datasets.controls import mixture as mixture
from datasets.controls import power as power
from datasets.controls import purity as purity
from datasets.controls import size as size
from datasets.controls import spurious as spurious
from datasets.controls import tracks as tracks
from datasets.controls.base import CONTROLS, Control
from datasets.types import Selection

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from datasets.types import Pool

__all__ = ["CONTROLS", "NOTHING", "ORDER", "Control", "Known", "apply", "start"]

# The stated order, whatever the order of writing: which images may be used, which classes, which
# images of a class come first, how many of each, how distinct, how they look, what else is among
# them.
ORDER = ("index_list", "diversity", "tracks", "ldam", "long_tail", "power", "purity", "size",
         "correlation", "spurious", "mixture")
# Each of these alone says how many images a class has.
SHARES = ("ldam", "long_tail", "power", "purity")
FREE = {"diversity", "index_list", "ldam", "spurious"}  # need no total


class Known(NamedTuple):
    """What is known of a source beside its pool: names of files and classes, where lists lie."""

    names: Sequence[str] | None = None
    folder: Path | None = None
    class_names: Sequence[str] = ()
    coarse_names: Sequence[str] | None = None


NOTHING = Known()


def bound(controls: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The controls that hold a total fixed, and so need one."""
    return [name for name in sorted(controls) if name not in FREE
            and not (name == "mixture" and controls[name].get("fixed") is False)]


def sized(controls: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the controls themselves say how many images there are, as a published set does."""
    return bool({"index_list", "ldam"} & set(controls)) and not bound(controls)


def start(pool: Pool, seed: int) -> Selection:
    """The whole pool in an order drawn by the seed, lower tiers first."""
    order = np.random.default_rng([seed, 0]).permutation(len(pool))
    order = order[np.argsort(pool.tier[order], kind="stable")]
    return Selection(order, np.zeros(len(order), dtype=np.int64))


def apply(pool: Pool, controls: Mapping[str, Mapping[str, Any]], total: int | None,
          seed: int, known: Known = NOTHING) -> Selection:
    """Apply controls in the stated order; a total that none of SHARES divides is drawn balanced.

    total None takes all there is. Raises ValueError (TooFewImages) if they cannot be satisfied.
    """
    steps = dict(controls)
    shares = [name for name in (*SHARES, "size") if name in steps]
    if len(shares) > 1 and shares != ["long_tail", "size"]:
        raise ValueError(f"controls {' and '.join(shares)} both say how many images each class "
                         "has: use one of them")
    own = total
    if total is not None:
        own = mixture.own_total(total, steps["mixture"]) if "mixture" in steps else total
        if not shares:
            steps["size"] = {}
    selection = start(pool, seed)
    given = {**known._asdict(), "ids": pool.ids, "origin": pool.origin}
    for name in ORDER:
        if name in steps:
            wanted = total if name == "mixture" else own
            selection = CONTROLS[name].function(
                selection, pool.labels, total=len(selection) if wanted is None else wanted,
                seed=seed, **steps[name], **{key: given[key] for key in CONTROLS[name].wants})
        if name == "ldam" and name in steps and own not in (None, len(selection)):
            raise ValueError(f"ldam makes {len(selection)} images by its own rule, not "
                             f"{own}: set data.size=null, or use long_tail")
    return selection
