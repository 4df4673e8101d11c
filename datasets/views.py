"""Views of images, a whole batch at a time, each image with its own random parameters.

All parameters are drawn on the CPU from one generator: the same generator gives the same crops and
colours on every device.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from datasets import views_colour as colour
from datasets import views_geometry as geometry
from datasets import views_randaugment as randaugment
from datasets.randaugment import POLICIES
from datasets.recipes import RECIPES, View, patch_of, side_of

__all__ = ["MEAN", "RECIPES", "STD", "Canvas", "View", "apply", "plain"]

# ImageNet's, for every source: one normalisation makes encoders and evaluations interchangeable.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


PART = 65_536  # pixels of output that are worked on at a time on a CPU


class Canvas(NamedTuple):
    """Images of different sizes in one tensor, each at the top left of its place.

    pixels: uint8 (B, H, W, 3) on any device; extent: float32 (B, 2) on the CPU, the height and
    width of each image. Nothing outside an image is ever looked at.
    """

    pixels: Tensor
    extent: Tensor


class Draws(NamedTuple):
    """Uniform numbers in [0, 1) for one view of B images, on the CPU."""

    crop: Tensor  # (B, 22)
    jitter: Tensor  # (B, 4) amounts
    order: Tensor  # (B, 4)
    sigma: Tensor  # (B,)
    erase: Tensor  # (B, 4)
    coins: Tensor  # (B, 6): flip, jitter, gray, blur, solarize, erase
    policy: Tensor  # (B, layers, 7), RandAugment's; (B, 0) without
    patches: Tensor  # (B, grid^2, 2): y, x of the patch in its cell; (B, 0) without


WIDTHS = (22, 4, 4, 1, 4, 6)


def draw(batch: int, generator: torch.Generator, view: View | None = None) -> Draws:
    """Numbers for one view: the same count whatever the view, so views stay comparable by seed.

    Only RandAugment and cells, where the view has them, draw more, after the others.
    """
    uniform = torch.rand(batch, sum(WIDTHS), generator=generator)
    crop, jitter, order, sigma, erase, coins = uniform.split(WIDTHS, 1)
    policy = patches = torch.empty(batch, 0)
    if view is not None and view.randaugment != "none":
        policy = randaugment.draw(batch, POLICIES[view.randaugment], generator)
    if view is not None and view.grid > 1:
        patches = torch.rand(batch, view.grid ** 2, 2, generator=generator)
    return Draws(crop, jitter, order, sigma[:, 0], erase, coins, policy, patches)


def apply(images: Tensor | Canvas, view: View, generator: torch.Generator, size: int, *,
          dtype: torch.dtype = torch.float32, part: tuple[int, int] = (0, 1)) -> Tensor:
    """One view of every image.

    images: uint8 (B, H, W, 3) on any device, or a Canvas; generator: on the CPU; size: the run's
    image size.
    Returns (B, 3, S, S), S = side_of(view, size), normalised, channels_last, on the device of
    `images`; or (B, grid^2, 3, s, s), the patches of a view with cells. Arithmetic is float32
    whatever `dtype`.
    part: (i, W), the images are the i-th of W equal parts of a batch and look as in the whole one:
    the numbers are drawn for all of it.
    """
    images, extent = images if isinstance(images, Canvas) else (images, None)
    drawn = _drawn_for(len(images), part, view, generator)
    matrix = view.colour == "matrix" and view.randaugment == "none"
    side = side_of(view, size)
    out = torch.empty((len(images), 3, side, side), dtype=dtype, device=images.device,
                      memory_format=torch.channels_last)
    (_matrix if matrix else _stepwise)(images, view, drawn, out, extent)
    if view.erase_p > 0:
        mask = geometry.erase_mask(drawn.erase, side) & _coin(drawn, 5, view.erase_p, 4)
        out = out.masked_fill_(mask.to(out.device), 0.0)
    return geometry.patches(out, drawn.patches, patch_of(view, size)) if view.grid > 1 else out


def _drawn_for(count: int, part: tuple[int, int], view: View, generator: torch.Generator) -> Draws:
    """The numbers of `count` images, which are the part[0]-th of part[1] parts of a batch."""
    drawn = draw(count * part[1], generator, view)
    return Draws(*(numbers.narrow(0, count * part[0], count) for numbers in drawn))


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


def _resampling(images: Tensor, view: View, drawn: Draws, size: int, extent: Tensor | None, *,
                blur: bool) -> tuple[Tensor, Tensor]:
    """Crop, flip and, if asked, blur as the matrices of two products: (B, S, H), (B, S, W)."""
    height, width = images.shape[1:3]
    device = images.device
    rows_of, columns_of = (height, width) if extent is None else extent.unbind(1)
    top, left, tall, wide = geometry.crop_boxes(drawn.crop, rows_of, columns_of,
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
    return rows, columns


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


def _matrix(images: Tensor, view: View, drawn: Draws, out: Tensor,
            extent: Tensor | None = None) -> None:
    """Fast path: resampling with blur in two products, all colour and normalising in a third."""
    size = out.shape[-1]
    device = images.device
    rows, columns = _resampling(images, view, drawn, size, extent, blur=True)
    amounts = torch.where(_coin(drawn, 1, view.jitter_p, 2), _amounts(view, drawn, additive=False),
                          torch.tensor([1.0, 1.0, 1.0, 0.0]))
    matrix, weight = colour.jitter_matrix(amounts, _coin(drawn, 2, view.gray))
    packed = torch.cat([matrix.flatten(1) / 255, weight[:, None] / 255], 1).to(device)
    matrix, weight = packed[:, :9].view(-1, 3, 3), packed[:, 9:]
    mean, std = _normalisation(device)
    solarized = _coin(drawn, 4, view.solarize_p, 4)
    folded = not bool(solarized.any())  # then normalising goes into the matrix too
    solarized = solarized.to(device)
    if folded:
        matrix = matrix / std.view(3, 1)
    luma = torch.tensor(colour.LUMA, device=device)
    for part in _parts(images, size):
        pixels = geometry.separable(images[part].permute(0, 3, 1, 2), rows[part], columns[part])
        flat = pixels.view(-1, 3, size * size)
        offset = (weight[part] * (flat.mean(2) @ luma)[:, None]).expand(-1, 3)
        if folded:
            offset = (offset - mean.view(1, 3)) / std.view(1, 3)
        # (B, 3, P) and the copy to channels_last in `out` cost 0.6 ms for 256 images of 32x32;
        # writing (B, P, 3) straight away costs 1.8 ms
        made = torch.baddbmm(offset[:, :, None], matrix[part], flat).view_as(pixels)
        if not folded:
            made = torch.where(solarized[part], colour.solarize(made), made).sub_(mean).div_(std)
        out[part] = made


def _stepwise(images: Tensor, view: View, drawn: Draws, out: Tensor,
              extent: Tensor | None = None) -> None:
    """Reference path: every step by itself, clipped, as in torchvision or in BYOL's code."""
    size = out.shape[-1]
    rows, columns = _resampling(images, view, drawn, size, extent, blur=False)
    amounts = _amounts(view, drawn, additive=view.rule == "byol" and view.colour != "matrix")
    order, active = drawn.order.argsort(1), _coin(drawn, 1, view.jitter_p)
    mean, std = _normalisation(images.device)
    for part in _parts(images, size):
        pixels = geometry.separable(images[part].permute(0, 3, 1, 2), rows[part], columns[part])
        x = (pixels / 255).clamp_(0, 1)
        if view.colour == "matrix":
            x = colour.matrix_jitter(x, amounts[part], active[part])
        else:
            x = colour.sequential_jitter(x, amounts[part], order[part], active[part], view.rule)
        x = _finish(x, view, Draws(*(row[part] for row in drawn)))
        out[part] = (x - mean) / std


def _finish(x: Tensor, view: View, drawn: Draws) -> Tensor:
    """RandAugment, grey, blur and solarise; (B, 3, S, S) in 0..1."""
    policy = POLICIES.get(view.randaugment)
    early = policy is not None and policy.after_blur
    x = _blur(x, view, drawn) if early else x
    x = randaugment.apply(x, policy, drawn.policy) if policy is not None else x
    gray = _coin(drawn, 2, view.gray, 4).to(x.device)
    x = torch.where(gray, colour.grayscale(x), x)
    x = x if early else _blur(x, view, drawn)
    if view.solarize_p > 0:
        solarized = _coin(drawn, 4, view.solarize_p, 4).to(x.device)
        x = torch.where(solarized, colour.solarize(x), x)
    return x


def _blur(x: Tensor, view: View, drawn: Draws) -> Tensor:
    """Blur some of the images, in place; borders as in the fast path or as in BYOL's code."""
    blurred = torch.nonzero(_coin(drawn, 3, view.blur_p))[:, 0]
    if len(blurred):
        size = x.shape[-1]
        band = geometry.blur_matrix(_sigma(view, drawn)[blurred].to(x.device), size,
                                    geometry.kernel_size(size),
                                    renormalise=view.colour == "matrix")
        at = blurred.to(x.device)
        x[at] = geometry.separable(x[at], band, band)
    return x
