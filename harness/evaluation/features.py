"""From images to features: plain views, one pass, evaluation mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from harness.lazy import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

BATCH = 256


def embed(network: Callable[[Tensor], Tensor], pixels: NDArray[np.uint8], size: int, device: str,
          precision: str) -> NDArray[np.float32]:
    """Embeddings float32 (n, d) of uint8 images (n, H, W, 3) in their plain view.

    `network` must be in evaluation mode, so that an image's embedding does not depend on the
    others of its batch.
    """
    # imported here: both import torch
    from datasets import views
    from harness.training.precision import autocast

    found = []
    with torch.no_grad(), autocast(precision, device):
        for start in range(0, len(pixels), BATCH):
            images = torch.from_numpy(pixels[start:start + BATCH]).to(device)
            found.append(network(views.plain(images, size)).float().cpu())
    array: NDArray[np.float32] = torch.cat(found).numpy()
    return array
