"""Index list: exactly the images that a published list names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datasets import lists
from datasets.controls.base import control

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.types import Selection


@control("index_list")
def index_list(selection: Selection, labels: NDArray[np.int64], *, total: int, seed: int,
               file: str, key: str = "", ids: NDArray[np.int64] | None = None,
               names: Sequence[str] | None = None, folder: Path | None = None) -> Selection:
    """Keep the images of an official list, e.g. SDCLR's split1_D_i; the total is the list's.

    file: relative to data.path or $CURATION_GAP_LISTS; key: the array of an .npz. ids and names
    (published index, class/file) are those of the pool. Raises ValueError if listed images are not
    in the pool, and says how many.
    """
    listed = lists.read(lists.find(file, folder), key)
    if listed.ids is not None:
        assert ids is not None, "apply() passes the pool's ids"
        wanted, own = listed.ids, ids[selection.index]
        absent = np.setdiff1d(wanted, own)
        kept = np.isin(own, wanted)
    else:
        if names is None:
            raise ValueError(f"index list {file} names files, which this source does not have: "
                             "use a list of indices, or source=folder")
        known = {lists.short(name) for name in listed.names or ()}
        there = [names[position] for position in selection.index]
        absent = np.array(sorted(known - set(there)))
        kept = np.array([name in known for name in there])
    if len(absent):
        raise ValueError(f"index list {file} names {len(absent)} images that the training split "
                         f"lacks (first: {absent[0]}): set data.options.holdout=false if they are "
                         "held out for validation, else the list is for other data")
    return selection.at(kept)
