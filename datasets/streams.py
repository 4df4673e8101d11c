"""Images that stay in their shards: read in order, a piece at a time, never all at once."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from datasets import decoders, shards
from datasets.messages import DatasetError
from datasets.sources.resize import square

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOG = logging.getLogger(__name__)
PIECE = 256  # images that are decoded at a time where many are asked for
CANVAS = 16 / 7  # 512 for crops of 224: ImageNet's and YFCC100M's usual sides are 500


@dataclass(frozen=True, eq=False)
class Stream:
    """The images of a listing; in the place of an array of pixels (N, side, side, 3).

    Training reads them through `shards.Epoch` and decodes whole images that fit into `canvas`
    pixels. Indexed with a slice, as evaluations do, it reads that piece in order and gives centred
    squares of `side`. lanes, window: see `shards.Share`, the window over all lanes. on_corrupt:
    'error' raises DatasetError for an image that cannot be decoded; 'skip' puts the next good one
    of the batch in its place, logs its name and notes it in `skipped`.
    """

    listing: shards.Listing
    side: int
    canvas: int
    decoder: str = "pil"
    on_corrupt: str = "error"
    lanes: int = 8
    window: int = 2048
    skipped: dict[str, str] = field(default_factory=dict)

    dtype = np.dtype(np.uint8)
    ndim = 4

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """As of an array with all the images."""
        return (len(self), self.side, self.side, 3)

    def __len__(self) -> int:
        return self.listing.images

    def __getitem__(self, at: Any) -> NDArray[np.uint8]:
        if isinstance(at, (int, np.integer)):
            return self[int(at):int(at) + 1][0]
        if not isinstance(at, slice):
            return self.at(np.asarray(at))[:]
        start, stop, step = at.indices(len(self))
        if step != 1:
            raise IndexError("a stream is read forwards: step 1")
        out = np.empty((max(stop - start, 0), *self.shape[1:]), np.uint8)
        for begin in range(start, stop, PIECE):
            samples = list(self._run(begin, min(begin + PIECE, stop)))
            for place, pixels in enumerate(self.decode(samples)[1], begin - start):
                out[place] = square(Image.fromarray(pixels), self.side)
        return out

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        for start in range(0, len(self), PIECE):
            yield from self[start:start + PIECE]

    def at(self, rows: NDArray[np.int64]) -> Stream:
        """The images at these ascending positions; nothing is read."""
        return replace(self, listing=self.listing.at(rows))

    def decode(self, samples: Sequence[shards.Sample],
               ) -> tuple[NDArray[np.int64], list[NDArray[np.uint8]]]:
        """Positions and whole images (h, w, 3), at most `canvas` on a side, in threads."""
        one = partial(_decoded, limit=self.canvas, decoder=self.decoder)
        found = list(threads().map(one, samples))
        if not any(isinstance(pixels, str) for pixels in found):
            return (np.array([sample.number for sample in samples], dtype=np.int64),
                    [pixels for pixels in found if not isinstance(pixels, str)])
        return self._without_bad(samples, found)

    def _without_bad(self, samples: Sequence[shards.Sample],
                     found: list[NDArray[np.uint8] | str],
                     ) -> tuple[NDArray[np.int64], list[NDArray[np.uint8]]]:
        bad = {sample.key: cause for sample, cause in zip(samples, found, strict=True)
               if isinstance(cause, str)}
        listed = ", ".join(f"{key} ({cause})" for key, cause in bad.items())
        if self.on_corrupt != "skip" or len(bad) == len(samples):
            raise DatasetError([f"{len(bad)} of {len(samples)} images read are no readable images: "
                                f"{listed}; write the shards again, or set "
                                "data.options.on_corrupt=skip"])
        if new := [key for key in bad if key not in self.skipped]:
            LOG.warning("%d images are skipped: %s", len(new), listed)
        self.skipped.update(bad)
        numbers, pixels, good = [], [], _next_good(found)
        for place in good:
            image = found[place]
            assert not isinstance(image, str)
            numbers.append(samples[place].number)
            pixels.append(image)
        return np.array(numbers, dtype=np.int64), pixels

    def _run(self, start: int, stop: int) -> Iterator[shards.Sample]:
        """The images from `start` to `stop` in the order of the listing."""
        ends = self.listing.ends()
        shard = int(np.searchsorted(ends, start, side="right")) if ends is not None else (
            start // (self.listing.per_shard or 1))
        while start < stop:
            first, count = self.listing.start(shard), self.listing.count(shard)
            upto = min(stop, first + count)
            yield from shards.read(self.listing, shard, start - first, upto - first)
            start, shard = max(start, upto), shard + 1


def _next_good(found: Sequence[NDArray[np.uint8] | str]) -> list[int]:
    """For every place itself, or the next one (around the end) that has an image."""
    good = [place for place, pixels in enumerate(found) if not isinstance(pixels, str)]
    at = np.searchsorted(good, np.arange(len(found)))
    return [good[place % len(good)] for place in at]


def _decoded(sample: shards.Sample, limit: int, decoder: str) -> NDArray[np.uint8] | str:
    try:
        return decoders.whole(sample.data, limit, decoder)
    except ValueError as error:
        return str(error)


_POOLS: dict[int, ThreadPoolExecutor] = {}


def threads() -> ThreadPoolExecutor:
    """Decoding threads of this process: one a processor that it may use."""
    own = os.getpid()
    if own not in _POOLS:  # a forked child has the parent's pool, but not its threads
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        _POOLS[own] = ThreadPoolExecutor(cores or 1, thread_name_prefix="decode")
    return _POOLS[own]
