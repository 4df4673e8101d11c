"""Batches of decoded and augmented samples, made ahead by threads; the same whatever their number.

What a batch holds is a function of (seed, step) alone, so a run that is resumed at any step, with
any number of threads, sees the same batches.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.training.distributed import rank, world
from harness.training.seeds import derive

T = TypeVar("T")
AHEAD = 3  # batches that are made before they are asked for


class Feed(Generic[T]):
    """Batches of a part: one permutation of its images after another, cut into batches.

    make(number, generator): reads image `number` and augments it by `generator`'s draws. In a
    process group each rank makes its rows of every batch. Use as a context manager.
    """

    def __init__(self, make: Callable[[int, np.random.Generator], T], count: int, batch_size: int,
                 steps: int, seed: int, threads: int) -> None:
        """Raise ValueError for a part without images."""
        if not count:
            raise ValueError("the training part has no image: check the lists of the data set")
        self._make, self._count, self._batch_size = make, count, batch_size
        self._steps, self._seed = steps, seed
        self._pool = ThreadPoolExecutor(threads)
        self._ahead: dict[int, list[Future[T]]] = {}

    def __enter__(self) -> Feed[T]:
        return self

    def __exit__(self, *error: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def take(self, step: int) -> list[T]:
        """This rank's samples of the batch of a step."""
        for ahead in range(step, max(step + 1, min(step + AHEAD, self._steps))):
            if ahead not in self._ahead:
                self._ahead[ahead] = [self._pool.submit(self._one, ahead, place, number)
                                      for place, number in self._mine(ahead)]
        return [future.result() for future in self._ahead.pop(step)]

    def numbers(self, step: int) -> NDArray[np.int64]:
        """The images of a batch, int64 (batch_size,), over all ranks."""
        places = np.arange(step * self._batch_size, (step + 1) * self._batch_size)
        return np.array([self._order(int(place) // self._count)[place % self._count]
                         for place in places], np.int64)

    def _mine(self, step: int) -> list[tuple[int, int]]:
        share = self._batch_size // world()
        rows = slice(rank() * share, (rank() + 1) * share)
        return [(place, int(number)) for place, number in enumerate(self.numbers(step))][rows]

    def _one(self, step: int, place: int, number: int) -> T:
        return self._make(number, np.random.default_rng(derive(self._seed, f"{step}/{place}")))

    def _order(self, epoch: int) -> NDArray[np.int64]:
        return _permutation(self._count, derive(self._seed, f"epoch {epoch}"))


@functools.lru_cache(maxsize=4)
def _permutation(count: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).permutation(count)


def each(read: Callable[[int], T], count: int, threads: int = 4) -> Iterator[T]:
    """read(0), read(1), .. in order, a few of them made ahead by threads."""
    with ThreadPoolExecutor(threads) as pool:
        waiting = deque(pool.submit(read, number) for number in range(min(2 * threads, count)))
        try:
            for number in range(count):
                found = waiting.popleft().result()
                if number + 2 * threads < count:
                    waiting.append(pool.submit(read, number + 2 * threads))
                yield found
        finally:
            for future in waiting:
                future.cancel()
