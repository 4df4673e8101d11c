"""Pruning by magnitude over several tensors at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor


@torch.no_grad()
def magnitude_masks(weights: Sequence[Tensor], share: float) -> list[Tensor]:
    """Return for each tensor the mask of what is kept when the smallest `share` of all is cut.

    The number cut is ceil(share * total), the product taken in float32 as in the released SDCLR:
    at 0.3 of 50 weights it is 15.000001, so 16 are cut.
    """
    sizes = torch.cat([w.abs().flatten() for w in weights]).sort().values
    cut = math.ceil(float(torch.tensor(share, dtype=torch.float32) * len(sizes)))
    threshold = sizes[cut] if cut < len(sizes) else torch.inf
    return [w.abs() >= threshold for w in weights]
