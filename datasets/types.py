"""The two values that the data layer passes around: images, and a choice of images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class Images:
    """Decoded images with what is known about them.

    pixels: uint8 (N, H, W, 3); labels: int64 (N,), -1 without a label; origin: int64 (N,),
    the photograph, track or file that the pixels come from, -1 where unknown; class_names: one name
    per label value. Of a packed or streamed source the pixels are a memmap, `rows.Rows` or a
    `streams.Stream`, read when indexed: `rows.take` chooses from any of them without reading.
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    origin: NDArray[np.int64]
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        n = len(self.pixels)
        assert self.pixels.dtype == np.uint8 and self.pixels.shape[3:] == (3,), self.pixels.shape
        assert self.labels.shape == (n,) and self.origin.shape == (n,), "one label, one origin each"

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True, eq=False)
class Selection:
    """Positions in a source's training pool, in order of priority.

    index: int64 (n,), from the pool's size on positions in the other source of a mixture;
    copy: int64 (n,), 0 for the image itself, c > 0 for its c-th near duplicate; partner: int64
    (n,) or None, the image whose right half it is given (-1 its own, -2 its left half is blank).
    """

    index: NDArray[np.int64]
    copy: NDArray[np.int64]
    partner: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        assert self.index.shape == self.copy.shape and self.index.ndim == 1, "one copy per index"
        assert self.partner is None or self.partner.shape == self.index.shape, "one partner each"

    def __len__(self) -> int:
        return len(self.index)

    def at(self, positions: NDArray[np.int64] | NDArray[np.bool_]) -> Selection:
        """The part of this selection at `positions` (indices or a mask), in that order."""
        partner = None if self.partner is None else self.partner[positions]
        return Selection(self.index[positions], self.copy[positions], partner)


@dataclass(frozen=True, eq=False)
class Pool:
    """What is known of a split without its pixels.

    labels, origin: as in `Images`; tier: int64 (N,), lower tiers are used up first (the photo
    source puts windows that overlap others into tier 1); ids: int64 (N,), the official index of
    each image in its published order, which index lists refer to.
    """

    labels: NDArray[np.int64]
    origin: NDArray[np.int64]
    tier: NDArray[np.int64]
    ids: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, positions: NDArray[np.int64] | NDArray[np.bool_]) -> Pool:
        """The part of this pool at `positions` (indices or a mask), in that order."""
        return Pool(self.labels[positions], self.origin[positions], self.tier[positions],
                    self.ids[positions])
