"""A trained method as a network up to one of its layers. Imports torch."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn


class Network(nn.Module):
    """(B, 3, H, W) -> (B, feature_dim): the encoder, and the first part of the head if asked.

    encoder: the backbone alone; everything in it is trainable, whatever the method froze.
    """

    def __init__(self, method: Any, layer: str = "pooled") -> None:
        """`method` is a Method, which this network shares its parameters with.

        Raises ValueError for a layer that the method does not have.
        """
        super().__init__()
        self.encoder: nn.Module = method.encoder
        self.head: nn.Module | None = method.projector if layer != "pooled" else None
        self._lift = method.lift
        self.layer = layer
        width = method.info.feature_dim
        if layer != "pooled":
            with torch.no_grad():
                width = method.lift(torch.zeros(2, width, device=_device(method)), layer).shape[1]
        self.feature_dim = int(width)
        self.requires_grad_(True)

    def forward(self, x: Tensor) -> Tensor:
        """Images to the layer's embedding."""
        return cast(Tensor, self._lift(self.encoder(x), self.layer))


def _device(method: Any) -> Any:
    return next((p.device for p in method.parameters()), "cpu")
