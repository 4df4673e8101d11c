"""Crop, flip, resize and blur as matrix products, with parameters per image.

Legend: B images, H x W their size, S side of the view.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

TRIES = 10  # of torchvision's RandomResizedCrop, before it falls back to a centre crop


def crop_boxes(uniform: Tensor, height: int | Tensor, width: int | Tensor,
               area: tuple[float, float],
               aspect: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Boxes of torchvision's RandomResizedCrop, one per image: top, left, height, width (B,).

    uniform: (B, 22) in [0, 1); height, width: of all images, or float32 (B,) of each. The first of
    ten draws of (area, ratio) that fits is taken, else the largest centred box of a legal ratio.
    float32, whole numbers.
    """
    size = uniform.shape[0]
    tall, wide = _column(height), _column(width)
    shares = area[0] + (area[1] - area[0]) * uniform[:, :TRIES]
    limit = math.log(aspect)
    ratios = torch.exp(limit * (2 * uniform[:, TRIES:2 * TRIES] - 1))
    widths = torch.round(torch.sqrt(shares * ratios * (tall * wide)))
    heights = torch.round(torch.sqrt(shares / ratios * (tall * wide)))
    fits = (widths > 0) & (widths <= wide) & (heights > 0) & (heights <= tall)
    first = torch.where(fits.any(1), fits.to(torch.uint8).argmax(1), -1)
    row = torch.arange(size)
    spare_h, spare_w = _largest(height, width, aspect)
    w = torch.where(first >= 0, widths[row, first], spare_w)
    h = torch.where(first >= 0, heights[row, first], spare_h)
    top = torch.floor(uniform[:, -2] * (height - h + 1))
    left = torch.floor(uniform[:, -1] * (width - w + 1))
    top = torch.where(first >= 0, top, (height - h) // 2)
    left = torch.where(first >= 0, left, (width - w) // 2)
    return top, left, h, w


def _column(length: int | Tensor) -> int | Tensor:
    """(B, 1) of (B,); one length for all images stays a number."""
    return length if isinstance(length, int) else length[:, None]


def _largest(height: int | Tensor, width: int | Tensor, aspect: float) -> tuple[Tensor, Tensor]:
    """Height and width of the largest box of a legal ratio, float32 () or (B,)."""
    h, w = (torch.as_tensor(length, dtype=torch.float64) for length in (height, width))
    ratio = (w / h).clamp(1 / aspect, aspect)
    return (torch.minimum(h, torch.round(w / ratio)).float(),
            torch.minimum(w, torch.round(h * ratio)).float())


def resize_matrix(start: Tensor, length: Tensor, full: int, size: int,
                  reverse: Tensor | None = None) -> Tensor:
    """Rows that cut [start, start + length) from `full` pixels and resize it to `size`: (B, S, F).

    Antialiased bilinear (a triangle as wide as the step), as torch's interpolate(antialias=True);
    where `reverse` (B,) bool is set the output runs backwards, which flips the image for free.
    """
    out = torch.arange(size, device=start.device, dtype=torch.float32) + 0.5
    outs = out.expand(len(start), size)
    if reverse is not None:
        outs = torch.where(reverse[:, None], outs.flip(1), outs)
    step = (length / size)[:, None]
    centre = outs * step
    position = torch.arange(full, device=start.device, dtype=torch.float32) + 0.5
    local = position - start[:, None]  # (B, F)
    weight = (local[:, None, :] - centre[:, :, None]).abs_()
    weight.mul_(-1 / step.clamp(min=1.0)[:, :, None]).add_(1).clamp_(min=0)
    weight.mul_(((local > 0) & (local < length[:, None]))[:, None, :])
    return weight.div_(weight.sum(2, keepdim=True))


def blur_matrix(sigma: Tensor, size: int, kernel: int, *, renormalise: bool) -> Tensor:
    """Gaussian blur of `kernel` taps along one side as a band matrix (B, S, S).

    Zero padding, as in BYOL and SimCLR; with `renormalise` the taps that fall inside sum to 1, so
    that a constant image stays constant.
    """
    radius = kernel // 2
    taps = torch.arange(-radius, radius + 1, device=sigma.device, dtype=torch.float32)
    total = torch.exp(-taps.square() / (2 * sigma.square())[:, None]).sum(1)
    place = torch.arange(size, device=sigma.device, dtype=torch.float32)
    gap = place[:, None] - place[None, :]
    band = torch.exp(-gap.square() / (2 * sigma.square())[:, None, None])
    band = band * (gap.abs() <= radius)
    return band / (band.sum(2, keepdim=True) if renormalise else total[:, None, None])


def kernel_size(size: int) -> int:
    """Taps of the blur: about a tenth of the side, odd (23 at 224, 3 at 32); BYOL's formula."""
    return 2 * int(size / 10 / 2) + 1


def separable(pixels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """rows @ pixels @ columns^T per image and channel.

    pixels: (B, 3, H, W); rows: (B, S, H); columns: (B, S, W). Returns (B, 3, S, S), all float32.
    """
    batch, channels, height, width = pixels.shape
    size = rows.shape[1]
    # Memory order (B, H, 3, W) makes each side one product per image: 2.0 ms for 256 of 32x32
    # on one thread, against 6.5 ms with the rows repeated for three channels.
    lines = pixels.transpose(1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    tall = torch.bmm(rows, lines.reshape(batch, height, channels * width))
    wide = torch.bmm(tall.view(batch, size * channels, width), columns.transpose(1, 2))
    return wide.view(batch, size, channels, size).transpose(1, 2).contiguous()


def erase_mask(uniform: Tensor, size: int) -> Tensor:
    """Bool (B, 1, S, S), True inside a random rectangle of 2 to 33 % of the area.

    uniform: (B, 4) in [0, 1). Ratio of the sides log-uniform in 0.3..3.3 (Zhong et al. 2017);
    a side that would not fit is cut to the image.
    """
    area = (0.02 + 0.31 * uniform[:, 0]) * size * size
    ratio = torch.exp(math.log(0.3) + math.log(3.3 / 0.3) * uniform[:, 1])
    sides = torch.stack([torch.sqrt(area * ratio), torch.sqrt(area / ratio)])
    sides = sides.round().clamp(1, size)
    start = torch.floor(uniform[:, 2:].T * (size - sides + 1))
    place = torch.arange(size, device=uniform.device, dtype=torch.float32)
    inside = (place >= start[..., None]) & (place < (start + sides)[..., None])  # (2, B, S)
    return (inside[0][:, :, None] & inside[1][:, None, :])[:, None]


def patches(x: Tensor, uniform: Tensor, side: int) -> Tensor:
    """One random square of every cell of a square grid, row by row: (B, n, 3, side, side).

    x: (B, 3, S, S); uniform: (B, n, 2) in [0, 1), y and x, n the number of cells. The patches as
    one batch (B n, 3, side, side) are channels_last.
    """
    batch, count, _ = uniform.shape
    grid = math.isqrt(count)
    cell = x.shape[-1] // grid
    cells = torch.arange(count)
    corner = torch.stack([cells // grid, cells % grid], 1) * cell  # (n, 2)
    start = corner + torch.floor(uniform * (cell - side + 1)).long()
    places = (start[..., None] + torch.arange(side)).to(x.device)  # (B, n, 2, side)
    image = torch.arange(batch, device=x.device)[:, None, None, None]
    rows, columns = places[:, :, 0, :, None], places[:, :, 1, None, :]
    return x.permute(0, 2, 3, 1)[image, rows, columns].permute(0, 1, 4, 2, 3)
