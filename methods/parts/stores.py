"""Embeddings that outlive their batch: a queue of keys and a bank of all images.

Shapes: N images of the batch, D embedding width, Q queue rows, M images of the bank.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from methods.parts.distributed import gather
from methods.parts.losses import unit


def uniform_rows(number: int, width: int) -> Tensor:
    """Return rows drawn from U(-b, b), b = 1 / sqrt(D / 3): of unit length on average only.

    Source: NPID's released lib/LinearAverage.py; CLD starts its queue so too.
    """
    return (2 * torch.rand(number, width) - 1) / (width / 3) ** 0.5


class Queue(nn.Module):
    """Q rows, first in first out: new keys overwrite the oldest.

    Source: MoCo, arXiv 1911.05722, Algorithm 1. Q need not be a multiple of the batch size.
    """

    rows: Tensor
    pointer: Tensor

    def __init__(self, size: int, width: int, uniform: bool = False) -> None:
        """Fill the queue with random unit vectors, as the released MoCo does, or uniform rows."""
        super().__init__()
        start = uniform_rows(size, width) if uniform else unit(torch.randn(size, width))
        self.register_buffer("rows", start)
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    def place(self, number: int, after: int = 0) -> Tensor:
        """Return the rows (N,) int64 that the next N keys take, or those `after` as many."""
        rows = torch.arange(after, after + number, device=self.rows.device)
        return (self.pointer + rows) % len(self.rows)

    @torch.no_grad()
    def push(self, keys_ND: Tensor) -> None:
        """Write all ranks' keys at the pointer, around the end if need be, and move it on."""
        keys_ND, size = gather(keys_ND), len(self.rows)
        if len(keys_ND) > size:
            raise ValueError(
                f"a queue of {size} rows is smaller than the batch of {len(keys_ND)} keys:"
                " raise queue_size or lower the batch size"
            )
        self.rows[self.place(len(keys_ND))] = keys_ND.to(self.rows.dtype)
        self.pointer.copy_((self.pointer + len(keys_ND)) % size)


class Bank(nn.Module):
    """One row for each image of the pre-training set, a moving average of its embeddings.

    Source: NPID, arXiv 1805.01978, section 3.2; released lib/LinearAverage.py.
    """

    rows: Tensor

    def __init__(self, number: int, width: int, momentum: float) -> None:
        """Start with uniform rows, which are not unit vectors (as released)."""
        super().__init__()
        self.momentum = momentum
        self.register_buffer("rows", uniform_rows(number, width))

    @torch.no_grad()
    def moved(self, index_N: Tensor, x_ND: Tensor) -> Tensor:
        """Return the rows of these images after an update by the unit vectors x."""
        mean = self.momentum * self.rows[index_N] + (1 - self.momentum) * x_ND.to(self.rows.dtype)
        return unit(mean)

    @torch.no_grad()
    def update(self, index_N: Tensor, x_ND: Tensor) -> None:
        """Move the rows of all ranks' images towards x."""
        self.rows[gather(index_N)] = gather(self.moved(index_N, x_ND))
