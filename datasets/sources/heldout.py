"""Sources published as train and test (and perhaps validation) parts in a fixed order."""

from __future__ import annotations

import functools
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from datasets.sources.base import HOLDOUT_SHARE, Source, holdout
from datasets.types import Pool

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datasets.types import Split

TEST_SEED = 1  # of the test images where the source publishes none


@dataclass(frozen=True)
class HeldOut(Source):
    """A source whose missing splits are held out of its published training part.

    A validation split is a class-balanced tenth of the training part, by a fixed seed and by
    origin; a missing test split likewise, first. A pool's ids are indices in the published order.
    holdout=false leaves the published training part whole, and the missing splits empty: for
    official index lists, which refer to all of it.
    """

    holdout: bool = True

    validation_share: ClassVar[float] = HOLDOUT_SHARE  # of the training part, where it is held out

    @abstractmethod
    def parts(self) -> tuple[str, ...]:
        """The published parts: 'train' and perhaps 'validation' and 'test'."""

    @abstractmethod
    def known(self, part: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Labels and origins (-1 unknown) of a published part in its order; int64 (N,) each."""

    @abstractmethod
    def decode(self, part: str, ids: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 (n, H, W, 3) at these indices of a published part."""

    def part_of(self, split: Split) -> str:
        """The published part that a split's images come from."""
        return split if split in self.parts() else "train"

    def pool(self, split: Split) -> Pool:
        """Labels, origins and ids of a split, in the published order; one tier."""
        labels, origin = self.known(self.part_of(split))
        ids = self._ids(split, labels, origin)
        return Pool(labels[ids], origin[ids], np.zeros(len(ids), dtype=np.int64), ids)

    def pixels(self, split: Split, index: NDArray[np.int64]) -> NDArray[np.uint8]:
        """uint8 (n, H, W, 3) at these positions of the pool."""
        return self.decode(self.part_of(split), self.pool(split).ids[index])

    def _ids(self, split: Split, labels: NDArray[np.int64],
             origin: NDArray[np.int64]) -> NDArray[np.int64]:
        """Indices of a split inside its published part."""
        if self.part_of(split) != split or split == "train":
            missing = tuple(name for name in ("test", "validation") if name not in self.parts())
            if not self.holdout:
                return np.arange(len(labels) if split == "train" else 0)
            owner = _owners(missing, labels.tobytes(), origin.tobytes(), self.validation_share)
            return np.flatnonzero(owner == ("train", *missing).index(split))
        return np.arange(len(labels))


@functools.lru_cache(maxsize=8)
def _owners(missing: tuple[str, ...], labels_raw: bytes, origin_raw: bytes,
            share: float) -> NDArray[np.int64]:
    """Which split every training image goes to: 0 train, i + 1 the i-th missing split."""
    labels = np.frombuffer(labels_raw, dtype=np.int64)
    origin = np.frombuffer(origin_raw, dtype=np.int64)
    owner = np.zeros(len(labels), dtype=np.int64)
    for number, name in enumerate(missing, start=1):
        free = np.flatnonzero(owner == 0)
        seed = TEST_SEED if name == "test" else 0
        owner[free[holdout(labels[free], origin[free], seed, share)]] = number
    return owner
