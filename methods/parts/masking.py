"""Hiding parts of an image."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.parts.distributed import mine, world


def mask_patches(view: Tensor, share: float, side: int) -> Tensor:
    """Set round(share * side^2) random patches of each image (N, 3, H, W) to 0, the mean colour.

    The patches are those of a grid of `side` x `side`, drawn from torch's global generator.
    """
    number = round(share * side**2)
    if not number:
        return view
    noise = mine(torch.rand(len(view) * world(), side**2, device=view.device))
    kept = noise.argsort(dim=1).argsort(dim=1).ge(number).view(-1, 1, side, side)
    return view * F.interpolate(kept.to(view.dtype), view.shape[2:])
