"""Rows of a memory-mapped array that are read when they are asked for, and not before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from datasets.duplicates import near_duplicates

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What a choice of rows may take in memory; more stays in the file. A gather from the page cache
# costs about what one from memory costs, so this only spares the near duplicates being made again.
IN_MEMORY = 1 << 28


class Rows:
    """uint8 (n, H, W, 3) that behaves as an array when indexed along its first axis.

    base: the memory-mapped images; index: int64 (n,) rows of it; copy: int64 (n,), 0 for the image
    itself, else the number of a near duplicate, which is made from (seed, index, copy) on reading.
    """

    def __init__(self, base: NDArray[np.uint8], index: NDArray[np.int64],
                 copy: NDArray[np.int64] | None = None, seed: int = 0) -> None:
        self.base, self.index, self.seed = base, index, seed
        self.copy = np.zeros_like(index) if copy is None else copy
        self.shape = (len(index), *base.shape[1:])
        self.dtype, self.ndim = base.dtype, base.ndim
        self.nbytes = len(index) * int(np.prod(base.shape[1:]))

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, at: Any) -> NDArray[np.uint8]:
        if isinstance(at, (int, np.integer)):
            return self[np.array([at])][0]
        index, copy = self.index[at], self.copy[at]
        return near_duplicates(self.base[index], index, copy, self.seed)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return (self[number] for number in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype=dtype)

    def at(self, positions: NDArray[np.int64]) -> Rows:
        """These rows of these rows; nothing is read."""
        return Rows(self.base, self.index[positions], self.copy[positions], self.seed)


def is_mapped(pixels: Any) -> bool:
    """Whether images stay in their file until they are indexed, in any order."""
    return isinstance(pixels, (Rows, np.memmap))


def take(pixels: NDArray[np.uint8], index: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The images at `index`; those of a file stay there."""
    if isinstance(pixels, np.memmap):
        return cast("NDArray[np.uint8]", Rows(pixels, index))
    if isinstance(pixels, np.ndarray):
        return pixels[index]
    return cast("NDArray[np.uint8]", pixels.at(index))  # Rows, a Stream, Photographs


def settle(rows: Rows, limit: int = IN_MEMORY) -> NDArray[np.uint8]:
    """The whole file where the rows are just that; the rows in memory if small; else themselves."""
    whole = len(rows) == len(rows.base) and not rows.copy.any()
    if whole and bool((rows.index == np.arange(len(rows))).all()):
        return rows.base
    return rows[:] if rows.nbytes <= limit else cast("NDArray[np.uint8]", rows)
