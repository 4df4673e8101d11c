"""The order in which images are seen: a stream of seeded permutations cut into full batches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Sampler:
    """Batches of `batch_size` positions out of `num_images`, every one of them full.

    The stream is one permutation of all positions after another, so an image is seen again only
    after all others. A batch may span two permutations; the second one's head then defers the
    images that the batch already holds, since a repeated image would be its own negative.
    """

    def __init__(self, num_images: int, batch_size: int, seed: int) -> None:
        if not 1 <= batch_size <= num_images:
            raise ValueError(f"batch of {batch_size} from {num_images} images: "
                             f"choose batch_size between 1 and {num_images}")
        self.num_images, self.batch_size = num_images, batch_size
        self._generator = torch.Generator().manual_seed(seed)
        self._order = torch.empty(0, dtype=torch.int64)
        self._cursor = 0

    def next(self) -> Tensor:
        """The next batch, int64 (batch_size,), on the CPU, without repeats."""
        batch = self._order[self._cursor:self._cursor + self.batch_size]
        self._cursor += self.batch_size
        missing = self.batch_size - len(batch)
        if missing:
            self._order = self._permutation_after(batch, missing)
            batch = torch.cat([batch, self._order[:missing]])
            self._cursor = missing
        return batch

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers from which `load_state_dict` continues the same stream."""
        return {"order": self._order, "cursor": self._cursor,
                "generator": self._generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue the stream that `state` was taken from."""
        self._order, self._cursor = state["order"], int(state["cursor"])
        self._generator.set_state(state["generator"])

    def _permutation_after(self, tail: Tensor, missing: int) -> Tensor:
        order = torch.randperm(self.num_images, generator=self._generator)
        if not len(tail):
            return order
        fresh = ~torch.isin(order, tail)
        head = torch.zeros_like(fresh)
        head[fresh.nonzero().squeeze(1)[:missing]] = True
        return torch.cat([order[head], order[~head]])
