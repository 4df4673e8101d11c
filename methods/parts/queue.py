"""A first-in first-out queue of keys."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from methods.parts.losses import unit


class Queue(nn.Module):
    """Q rows of width D; new keys overwrite the oldest.

    Source: MoCo, arXiv 1911.05722, Algorithm 1. Q need not be a multiple of the batch size.
    """

    rows: Tensor
    pointer: Tensor

    def __init__(self, size: int, width: int) -> None:
        """Fill the queue with random unit vectors, as the released MoCo does."""
        super().__init__()
        self.register_buffer("rows", unit(torch.randn(size, width)))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, keys_ND: Tensor) -> None:
        """Write the keys at the pointer, around the end if need be, and move the pointer on."""
        size = len(self.rows)
        if len(keys_ND) > size:
            raise ValueError(
                f"a queue of {size} rows is smaller than the batch of {len(keys_ND)} keys:"
                " raise queue_size or lower the batch size"
            )
        place = (self.pointer + torch.arange(len(keys_ND), device=self.rows.device)) % size
        self.rows[place] = keys_ND.to(self.rows.dtype)
        self.pointer.copy_((self.pointer + len(keys_ND)) % size)
