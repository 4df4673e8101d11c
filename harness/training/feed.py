"""Where the loop gets its images: from memory, a memory-mapped file, image files, or shards.

A feed knows how many images there are and gives batches of them. Those in memory or in files come
in the order of the sampler; a stream has an order of its own. Either way the state is small and the
batches after `load_state_dict` are those that would have come.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from datasets.photographs import Photographs
from datasets.rows import is_mapped
from datasets.shards import Epoch, Sample, Share
from datasets.streams import Stream
from datasets.views import Canvas
from harness.training.sampling import Sampler
from methods.parts.distributed import mine, rank, world

ROUND = 32  # canvases are as large as the largest image of the batch, in steps of this many pixels
GPU_SHARE = 0.25  # of the free memory of a GPU that mapped images may take; more stay in the file


@dataclass(frozen=True)
class Drawn:
    """This rank's part of a batch: positions int64 (b,) on the CPU and on the device; images."""

    rows: Tensor
    index: Tensor
    images: Tensor | Canvas


class Batches(ABC):
    """An endless run of batches that can be saved and continued."""

    @abstractmethod
    def next(self) -> Drawn:
        """The next batch."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers from which `load_state_dict` continues after the last batch."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state` was taken."""

    def close(self) -> None:
        """Stop what is being read ahead."""
        return None


class Feed(ABC):
    """The images of a run."""

    @abstractmethod
    def __len__(self) -> int:
        """How many images there are."""

    @abstractmethod
    def batches(self, size: int, seed: int) -> Batches:
        """Batches of `size` images over all ranks, every one full, each image once a pass."""


class Resident(Feed):
    """Images in memory on the device."""

    def __init__(self, pixels: Tensor) -> None:
        """pixels: uint8 (n, H, W, 3) on the device."""
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, index: Tensor) -> Tensor:
        """uint8 (b, H, W, 3) at int64 (b,), both on the device."""
        return self.pixels[index]

    def batches(self, size: int, seed: int) -> Batches:
        """In the sampler's order."""
        return _Ordered(self, Sampler(len(self), size, seed), self.pixels.device)


class Mapped(Feed):
    """Images that stay in a memory-mapped file; a thread gathers the next batch ahead of time."""

    def __init__(self, pixels: NDArray[np.uint8], device: str) -> None:
        """pixels: uint8 (n, H, W, 3), a memmap or `datasets.rows.Rows`."""
        self.pixels, self.device = pixels, torch.device(device)

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, index: Tensor) -> Tensor:
        """uint8 (b, H, W, 3) on the device, at int64 (b,)."""
        return _sent(torch.from_numpy(np.array(self.pixels[index.cpu().numpy()])), self.device)

    def batches(self, size: int, seed: int) -> Batches:
        """In the sampler's order."""
        return _Ordered(self, Sampler(len(self), size, seed), self.device, ahead=True)


class Decoded(Feed):
    """Photographs in their files, decoded whole by threads a batch ahead; views crop them."""

    def __init__(self, photographs: Photographs, device: str) -> None:
        self.photographs, self.device = photographs, torch.device(device)

    def __len__(self) -> int:
        return len(self.photographs)

    def take(self, index: Tensor) -> Canvas:
        """The photographs at int64 (b,), on the device."""
        canvas = canvas_of(self.photographs.whole(index.cpu().numpy()))
        return Canvas(_sent(canvas.pixels, self.device), canvas.extent)

    def batches(self, size: int, seed: int) -> Batches:
        """In the sampler's order."""
        return _Ordered(self, Sampler(len(self), size, seed), self.device, ahead=True)


class Streamed(Feed):
    """Images in shards, decoded whole by threads ahead of time; views crop them on the device."""

    def __init__(self, stream: Stream, device: str) -> None:
        self.stream, self.device = stream, torch.device(device)

    def __len__(self) -> int:
        return len(self.stream)

    def batches(self, size: int, seed: int) -> Batches:
        """In the order of `datasets.shards`."""
        return _Stream(self.stream, size, seed, self.device)


def feed_of(pixels: NDArray[np.uint8] | Stream | Photographs, device: str) -> Feed:
    """The feed for what `datasets.build` returns; which one it is changes no number."""
    if isinstance(pixels, Stream):
        return Streamed(pixels, device)
    if isinstance(pixels, Photographs):
        return Decoded(pixels, device)
    if is_mapped(pixels) and not _fits(pixels, device):
        return Mapped(pixels, device)
    owned = pixels if pixels.flags.writeable else np.array(pixels)
    return Resident(torch.from_numpy(owned).to(device))


def labels_of(labels: NDArray[np.int64], device: str) -> Tensor:
    """int64 (n,) on the device; one label repeated, as streams have it, takes no memory."""
    if labels.strides == (0,) and len(labels):
        return torch.tensor([int(labels[0])], device=device).expand(len(labels))
    return torch.from_numpy(labels).to(device)


def _fits(pixels: NDArray[np.uint8], device: str) -> bool:
    """Whether mapped images should rather lie in the memory of the GPU."""
    if torch.device(device).type != "cuda":
        return False
    return int(np.prod(pixels.shape)) <= GPU_SHARE * torch.cuda.mem_get_info()[0]


def _sent(batch: Tensor, device: torch.device) -> Tensor:
    """The batch on the device; to a GPU from pinned memory, without waiting for it."""
    if device.type != "cuda":
        return batch
    return batch.pin_memory().to(device, non_blocking=True)


class _Ordered(Batches):
    """Batches of a feed that can be indexed, in the sampler's order; perhaps one ahead."""

    def __init__(self, feed: Resident | Mapped | Decoded, sampler: Sampler, device: torch.device, *,
                 ahead: bool = False) -> None:
        self._feed, self._sampler, self._device = feed, sampler, device
        self._thread = ThreadPoolExecutor(1, "feed") if ahead else None
        self._coming: Future[Drawn] | None = None
        self._state = sampler.state_dict()

    def next(self) -> Drawn:
        drawn = self._coming.result() if self._coming else self._draw(mine(self._sampler.next()))
        self._state = self._sampler.state_dict()
        if self._thread:
            self._coming = self._thread.submit(self._draw, mine(self._sampler.next()))
        return drawn

    def _draw(self, rows: Tensor) -> Drawn:
        index = rows.to(self._device, non_blocking=True)
        return Drawn(rows, index, self._feed.take(index))

    def state_dict(self) -> dict[str, Any]:
        return self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._coming = None  # what was ahead belongs to another run
        self._sampler.load_state_dict(state)
        self._state = self._sampler.state_dict()

    def close(self) -> None:
        if self._thread:
            self._thread.shutdown(wait=False, cancel_futures=True)


class _Stream(Batches):
    """Batches of a stream. Reading is one window ahead, decoding one batch."""

    def __init__(self, stream: Stream, size: int, seed: int, device: torch.device) -> None:
        """Raise ValueError where the lanes, the batch and the ranks do not fit."""
        self._stream, self._device, self._seed = stream, device, seed
        lanes = _lanes(stream.lanes, size)
        self._share = Share(size, lanes, rank(), world(), -(-stream.window // lanes))
        # two, since decoding waits for reading
        self._reading, self._decoding = ThreadPoolExecutor(1, "read"), ThreadPoolExecutor(1, "feed")
        self._epoch, self._step = 0, 0
        self._steps = len(stream) // size
        self._samples: Iterator[list[Sample]] | None = None
        self._coming: Future[Drawn] | None = None

    def next(self) -> Drawn:
        coming = self._coming or self._submit()
        drawn = coming.result()
        self._step += 1
        if self._step == self._steps:
            self._epoch, self._step = self._epoch + 1, 0
        self._coming = self._submit()
        return drawn

    def _submit(self) -> Future[Drawn]:
        """Start on the batch of `_epoch` and `_step`."""
        if self._samples is None or self._step == 0:
            epoch = Epoch(self._stream.listing, self._share, self._seed, self._epoch)
            self._samples = epoch.batches(self._step, self._reading)
        return self._decoding.submit(self._draw, self._samples)

    def _draw(self, samples: Iterator[list[Sample]]) -> Drawn:
        numbers, images = self._stream.decode(next(samples))
        rows = torch.from_numpy(numbers)
        canvas = canvas_of(images)
        return Drawn(rows, rows.to(self._device, non_blocking=True),
                     Canvas(_sent(canvas.pixels, self._device), canvas.extent))

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "step": self._step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._coming = self._samples = None
        self._epoch, self._step = int(state["epoch"]), int(state["step"])

    def close(self) -> None:
        for threads in (self._decoding, self._reading):
            threads.shutdown(wait=False, cancel_futures=True)


def _lanes(wanted: int, batch: int) -> int:
    """The most lanes, up to those asked for, that the batch can be dealt to evenly."""
    return next(lanes for lanes in range(min(wanted, batch), 0, -1) if batch % lanes == 0)


def canvas_of(images: list[NDArray[np.uint8]]) -> Canvas:
    """Images (h, w, 3) at the top left of one tensor, black beside them."""
    extent = torch.tensor([image.shape[:2] for image in images], dtype=torch.float32)
    height, width = (-(-int(side) // ROUND) * ROUND for side in extent.amax(0))
    pixels = np.zeros((len(images), height, width, 3), np.uint8)
    for place, image in zip(pixels, images, strict=True):
        place[:image.shape[0], :image.shape[1]] = image
    return Canvas(torch.from_numpy(pixels), extent)
