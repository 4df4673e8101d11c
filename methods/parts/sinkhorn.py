"""Balanced assignment of embeddings to prototypes."""

from __future__ import annotations

import torch
from torch import Tensor

from methods.parts.losses import full_precision


@torch.no_grad()
@full_precision
def balance(codes_NK: Tensor, iterations: int) -> Tensor:
    """Return positive weights scaled until rows sum to 1 and columns have equal mass.

    Source: SwAV's and MSN's released distributed_sinkhorn.
    """
    codes_NK = codes_NK / codes_NK.sum()
    number, prototypes = codes_NK.shape
    for _ in range(iterations):
        codes_NK = codes_NK / codes_NK.sum(dim=0, keepdim=True) / prototypes
        codes_NK = codes_NK / codes_NK.sum(dim=1, keepdim=True) / number
    return codes_NK * number


@torch.no_grad()
@full_precision
def sinkhorn(scores_NK: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Return soft codes (N, K) whose rows sum to 1 and whose columns have equal mass.

    Source: SwAV, arXiv 2006.09882, Eq. 3.
    """
    # The largest score is taken off first, which the first division undoes: no overflow.
    return balance(((scores_NK - scores_NK.max()) / epsilon).exp(), iterations)
