"""Exponential moving averages of networks, and the schedule of their coefficient."""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn


def cosine_momentum(base: float, progress: float) -> float:
    """Return 1 - (1 - base) (cos(pi progress) + 1) / 2: base at the start, 1 at the end.

    Source: BYOL, arXiv 2006.07733, section 3.3; released utils/schedules.py.
    """
    return 1 - (1 - base) * (math.cos(math.pi * progress) + 1) / 2


class Momentum(nn.Module):
    """A moving average of modules applied in sequence: the key encoder, the target network.

    It starts as their copy. Only parameters are averaged; BatchNorm keeps statistics of its own
    from its own forward passes, in the mode the method is in, as the released MoCo and BYOL do.
    With `local_norm` they are those of each process's own images, whatever the other networks do.
    """

    local_norm = False

    def __init__(self, *online: nn.Module) -> None:
        """Copy the online modules; the copies never require a gradient."""
        super().__init__()
        self.copies = nn.Sequential(*(copy.deepcopy(module) for module in online))
        self.copies.requires_grad_(False)
        # A tuple, so that the online modules do not become children (saved twice) of this one.
        self._online = online

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Return the averaged network's output, without gradient."""
        out: Tensor = self.copies(x)
        return out.detach()

    @torch.no_grad()
    def update(self, momentum: float) -> None:
        """Set every averaged parameter to momentum * itself + (1 - momentum) * the online one.

        One fused call: a loop over the 161 tensors of a ResNet-50 launches 161 kernels.
        """
        online: list[Tensor] = [p for module in self._online for p in module.parameters()]
        averaged: list[Tensor] = list(self.copies.parameters())
        torch._foreach_lerp_(averaged, online, 1 - momentum)
