"""Tracks: natural correlation, by many frames of few tracks, at a fixed total."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from datasets.controls.base import control, ranks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.types import Selection


@control("tracks")
def tracks(selection: Selection, labels: NDArray[np.int64], *, total: int, seed: int,
           frames: int, origin: NDArray[np.int64] | None = None) -> Selection:
    """Fill each class track by track, `frames` images of each (its origin: video, object).

    1 takes a frame of every track before a second of any, a number as large as a track takes whole
    tracks: few origins, many frames each. How many images of each class there are is left to the
    total and the long tail, so these stay as they are.
    """
    if frames < 1:
        raise ValueError(f"frames must be at least 1, not {frames}")
    assert origin is not None, "apply() passes the pool's origins"
    own = origin[selection.index]
    if lacking := int((own < 0).sum()):
        raise ValueError(f"tracks needs to know the origin of each image, and {lacking} of "
                         f"{len(own)} have none: use a source with tracks, such as gtsrb")
    _, first, track = np.unique(own, return_index=True, return_inverse=True)
    frame = ranks(track.astype(np.int64))
    # in turns of `frames`, tracks as the seed has drawn them
    return selection.at(np.lexsort((frame, first[track], frame // frames)))
