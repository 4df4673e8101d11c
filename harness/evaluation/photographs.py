"""Photographs in their files in the place of a tensor of images. Imports torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from datasets.photographs import Photographs
from datasets.views import Canvas
from harness.training.feed import canvas_of


class Whole:
    """What an evaluation that takes the encoder does with a uint8 tensor (n, S, S, 3) of images.

    Choosing rows reads nothing; on a device they are whole, for views to crop from; a split gives
    what tests see.
    """

    def __init__(self, photographs: Photographs) -> None:
        self.photographs = photographs
        self.shape = photographs.shape

    def __len__(self) -> int:
        return len(self.photographs)

    def __getitem__(self, rows: Tensor) -> Whole:
        return Whole(self.photographs.at(rows.cpu().numpy()))

    def to(self, device: torch.device | str) -> Canvas:
        """Every photograph, whole; the pixels on the device."""
        canvas = canvas_of(self.photographs.whole(np.arange(len(self))))
        return Canvas(canvas.pixels.to(device), canvas.extent)

    def split(self, size: int) -> Iterator[Tensor]:
        """Test images uint8 (b, S, S, 3), `size` at a time."""
        for start in range(0, len(self), size):
            yield torch.from_numpy(self.photographs[start:start + size])


def joined(first: Any, second: Any) -> Tensor:
    """The images (or rows) of two splits, one after the other."""
    if isinstance(first, Whole):
        return cast("Tensor", Whole(first.photographs.followed_by(second.photographs)))
    return torch.cat([first, second])
