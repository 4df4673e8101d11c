"""Views of images, a whole batch at a time, each image with its own random parameters.

All parameters are drawn on the CPU from one generator, in one call of fixed size per view: the same
generator gives the same crops and colours on every device.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from datasets import views_colour as colour
from datasets import views_geometry as geometry
from datasets.recipes import RECIPES, View

__all__ = ["MEAN", "RECIPES", "STD", "View", "apply", "plain"]

# ImageNet's, for every source: one normalisation makes encoders and evaluations interchangeable.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


PART = 65_536  # pixels of output that are worked on at a time on a CPU


class Draws(NamedTuple):
    """Uniform numbers in [0, 1) for one view of B images, on the CPU."""

    crop: Tensor  # (B, 22)
    jitter: Tensor  # (B, 4) amounts
    order: Tensor  # (B, 4)
    sigma: Tensor  # (B,)
    erase: Tensor  # (B, 4)
    coins: Tensor  # (B, 6): flip, jitter, gray, blur, solarize, erase


WIDTHS = (22, 4, 4, 1, 4, 6)


def draw(batch: int, generator: torch.Generator) -> Draws:
    """Numbers for one view. As many whatever the view, so views stay comparable by seed."""
    uniform = torch.rand(batch, sum(WIDTHS), generator=generator)
    crop, jitter, order, sigma, erase, coins = uniform.split(WIDTHS, 1)
    return Draws(crop, jitter, order, sigma[:, 0], erase, coins)


def apply(images: Tensor, view: View, generator: torch.Generator, size: int, *,
          dtype: torch.dtype = torch.float32) -> Tensor:
    """One view of every image.

    images: uint8 (B, H, W, 3) on any device; generator: on the CPU. Returns (B, 3, size, size),
    normalised, channels_last, on the device of `images`; arithmetic is float32 whatever `dtype`.
    """
    drawn = draw(len(images), generator)
    make = _matrix if view.colour == "matrix" else _sequential
    out = torch.empty((len(images), 3, size, size), dtype=dtype, device=images.device,
                      memory_format=torch.channels_last)
    for part in _parts(images, size):
        out[part] = make(images[part], view, Draws(*(row[part] for row in drawn)), size)
    if view.erase_p > 0:
        mask = geometry.erase_mask(drawn.erase, size) & _coin(drawn, 5, view.erase_p, 4)
        out = out.masked_fill_(mask.to(out.device), 0.0)
    return out


def _parts(images: Tensor, size: int) -> list[slice]:
    """Slices of the batch that a CPU works on one at a time; the whole batch on an accelerator.

    64 images of 32x32 keep every intermediate below 1 MB: two views of 256 images take 12 ms on
    one thread in parts, 23 ms in one piece (fresh pages for 3 MB buffers, and cache misses).
    """
    count = len(images)
    step = max(1, PART // (size * size)) if images.device.type == "cpu" else max(count, 1)
    return [slice(start, start + step) for start in range(0, count, step)]


def plain(images: Tensor, size: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """The largest centred square resized to `size`, normalised; what evaluations see.

    images: uint8 (B, H, W, 3). Returns (B, 3, size, size) channels_last.
    """
    batch, height, width, _ = images.shape
    device = images.device
    pixels = images.permute(0, 3, 1, 2)
    if (height, width) != (size, size):  # evaluations come in batches, so not in parts
        side = min(height, width)
        length = torch.tensor([float(side)], device=device)
        rows = geometry.resize_matrix(length * 0 + (height - side) // 2, length, height, size)
        columns = geometry.resize_matrix(length * 0 + (width - side) // 2, length, width, size)
        pixels = geometry.separable(pixels, rows.expand(batch, -1, -1),
                                    columns.expand(batch, -1, -1))
    mean, std = _normalisation(device)
    out = (pixels - 255 * mean) / (255 * std)
    return out.to(dtype=dtype, memory_format=torch.channels_last)


def _coin(drawn: Draws, number: int, probability: float, dims: int = 1) -> Tensor:
    """Bool (B,) with trailing singleton dimensions: whether a step is done to each image."""
    coin = drawn.coins[:, number] < probability
    return coin.view(-1, *(1,) * (dims - 1))


def _normalisation(device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation as (3, 1, 1)."""
    return (torch.tensor(MEAN, device=device).view(3, 1, 1),
            torch.tensor(STD, device=device).view(3, 1, 1))


def _resampled(images: Tensor, view: View, drawn: Draws, size: int, *, blur: bool) -> Tensor:
    """Crop, flip and, if asked, blur as two matrix products; (B, 3, S, S) in 0..255."""
    height, width = images.shape[1:3]
    device = images.device
    top, left, tall, wide = geometry.crop_boxes(drawn.crop, height, width,
                                                (view.crop_min, view.crop_max), view.aspect)
    flip = _coin(drawn, 0, view.flip)
    # one transfer for the five numbers of every image
    boxes = torch.stack([top, tall, left, wide, flip.float()]).to(device, non_blocking=True)
    rows = geometry.resize_matrix(boxes[0], boxes[1], height, size)
    columns = geometry.resize_matrix(boxes[2], boxes[3], width, size, boxes[4] > 0)
    if blur and view.blur_p > 0:
        blurred = torch.nonzero(_coin(drawn, 3, view.blur_p))[:, 0]
        band = geometry.blur_matrix(_sigma(view, drawn)[blurred].to(device), size,
                                    geometry.kernel_size(size), renormalise=True)
        at = blurred.to(device)
        rows[at] = torch.bmm(band, rows[at])
        columns[at] = torch.bmm(band, columns[at])
    return geometry.separable(images.permute(0, 3, 1, 2), rows, columns)


def _sigma(view: View, drawn: Draws) -> Tensor:
    """Standard deviation of the blur of every image, pixels; (B,)."""
    low, high = view.sigma
    return low + (high - low) * drawn.sigma


def _amounts(view: View, drawn: Draws, *, additive: bool) -> Tensor:
    """Amounts of brightness, contrast, saturation and hue, uniform in their ranges; (B, 4)."""
    strength = torch.tensor([view.brightness, view.contrast, view.saturation, view.hue])
    centre = torch.tensor([0.0 if additive else 1.0, 1.0, 1.0, 0.0])
    low = centre - strength
    low[:3] = torch.maximum(low[:3], centre[:3] - 1 if additive else torch.zeros(3))
    return low + (centre + strength - low) * drawn.jitter


def _matrix(images: Tensor, view: View, drawn: Draws, size: int) -> Tensor:
    """Fast path: resampling with blur in two products, all colour and normalising in a third."""
    pixels = _resampled(images, view, drawn, size, blur=True)
    device = images.device
    amounts = _amounts(view, drawn, additive=False)
    active = _coin(drawn, 1, view.jitter_p)
    neutral = torch.tensor([1.0, 1.0, 1.0, 0.0])
    amounts = torch.where(active[:, None], amounts, neutral)
    gray = _coin(drawn, 2, view.gray)
    matrix, weight = colour.jitter_matrix(amounts, gray)
    packed = torch.cat([matrix.flatten(1) / 255, weight[:, None] / 255], 1).to(device)
    matrix, weight = packed[:, :9].view(-1, 3, 3), packed[:, 9:]
    mean, std = _normalisation(device)
    flat = pixels.view(len(images), 3, size * size)
    luma = (flat.mean(2) @ torch.tensor(colour.LUMA, device=device))[:, None]
    offset = (weight * luma).expand(-1, 3)
    solarized = _coin(drawn, 4, view.solarize_p)
    if view.solarize_p == 0 or not bool(solarized.any()):
        offset = (offset - mean.view(1, 3)) / std.view(1, 3)
        return _affine(flat, matrix / std.view(1, 3, 1), offset, size)
    out = _affine(flat, matrix, offset, size)
    at = torch.nonzero(solarized)[:, 0].to(device)
    out[at] = colour.solarize(out[at])
    return (out - mean) / std


def _affine(flat: Tensor, matrix: Tensor, offset: Tensor, size: int) -> Tensor:
    """matrix @ colour + offset at every pixel: flat (B, 3, P) -> (B, 3, S, S) channels_last."""
    # 0.6 ms and a copy to channels_last; writing (B, P, 3) straight away costs 1.8 ms
    out = torch.baddbmm(offset[:, :, None], matrix, flat).view(-1, 3, size, size)
    return out.contiguous(memory_format=torch.channels_last)


def _sequential(images: Tensor, view: View, drawn: Draws, size: int) -> Tensor:
    """Reference path: every step by itself, as in torchvision or in BYOL's code."""
    x = (_resampled(images, view, drawn, size, blur=False) / 255).clamp_(0, 1)
    device = images.device
    amounts = _amounts(view, drawn, additive=view.rule == "byol")
    x = colour.sequential_jitter(x, amounts, drawn.order.argsort(1),
                                 _coin(drawn, 1, view.jitter_p), view.rule)
    gray = _coin(drawn, 2, view.gray, 4).to(device)
    x = torch.where(gray, colour.grayscale(x), x)
    blurred = torch.nonzero(_coin(drawn, 3, view.blur_p))[:, 0]
    if len(blurred):
        band = geometry.blur_matrix(_sigma(view, drawn)[blurred].to(device), size,
                                    geometry.kernel_size(size), renormalise=False)
        at = blurred.to(device)
        x[at] = geometry.separable(x[at], band, band)
    solarized = _coin(drawn, 4, view.solarize_p, 4).to(device)
    x = torch.where(solarized, colour.solarize(x), x)
    mean, std = _normalisation(device)
    return (x - mean) / std
