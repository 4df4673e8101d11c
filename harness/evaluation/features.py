"""From images to features: plain views, one pass, evaluation mode."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    found = [block for _, block in _batches(network, pixels, size, device, precision)]
    array: NDArray[np.float32] = torch.cat(found).numpy()
    return array


def embed_layers(method: Any, places: Mapping[str, Path], pixels: NDArray[np.uint8], size: int,
                 device: str, precision: str) -> dict[str, NDArray[np.float32]]:
    """Write the embeddings of each layer of `places` to its .npy file, in one forward.

    `method` is a Method in evaluation mode. Returns the arrays, mapped; memory is that of a batch.
    """
    names = tuple(places)
    widths: list[int] = []

    def forward(x: Tensor) -> Tensor:
        pooled = method.encoder(x)
        parts = [method.lift(pooled, name).float() for name in names]
        widths[:] = [part.shape[1] for part in parts]
        return torch.cat(parts, 1)

    arrays: dict[str, NDArray[np.float32]] = {}
    for start, block in _batches(forward, pixels, size, device, precision):
        for name, part in zip(names, block.split(widths, 1), strict=True):
            if name not in arrays:
                arrays[name] = np.lib.format.open_memmap(
                    places[name], "w+", np.float32, (len(pixels), part.shape[1]))
            arrays[name][start:start + len(part)] = part.numpy()
    for array in arrays.values():
        array.flush()  # type: ignore[attr-defined]  # a memmap
    return arrays


def available(method: Any, layers: Iterable[str]) -> tuple[str, ...]:
    """Those of `layers` that a Method has. Raises ValueError, naming what to use, for none."""
    found, problem = [], None
    width = method.info.feature_dim
    for layer in layers:
        try:
            with torch.no_grad():
                method.lift(torch.zeros(2, width, device=_device(method)), layer)
        except ValueError as error:
            problem = error
        else:
            found.append(layer)
    if not found:
        raise problem or ValueError("no layer is asked for")
    return tuple(found)


def file_of(split: str, layer: str) -> str:
    """The name of a split's features in an artifact."""
    return f"{split}.npy" if layer == "pooled" else f"{split}_{layer}.npy"


def _device(method: Any) -> Any:
    return next((p.device for p in method.parameters()), "cpu")


def _batches(network: Callable[[Tensor], Tensor], pixels: NDArray[np.uint8], size: int, device: str,
             precision: str) -> Iterator[tuple[int, Tensor]]:
    """(first row, embeddings float32 on the CPU) of every batch."""
    # imported here: both import torch
    from datasets import views
    from harness.training.precision import autocast

    for start in range(0, len(pixels), BATCH):
        with torch.no_grad(), autocast(precision, device):
            images = torch.from_numpy(np.array(pixels[start:start + BATCH])).to(device)
            found = network(views.plain(images, size)).float().cpu()
        yield start, found
