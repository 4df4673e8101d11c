"""RandAugment on a whole batch: every image has its own operations and magnitudes.

The loops run over layers and operations, each on the images that drew it. Pixels are whole numbers
0..255 held as float32, as in the codes that work on uint8.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from datasets.randaugment import GEOMETRIC, Level, Policy
from datasets.views_colour import LUMA

# of one layer: operation, done or not, sign, interpolation, place (y, x), magnitude
WIDTH = 7


def draw(batch: int, policy: Policy, generator: torch.Generator) -> Tensor:
    """Numbers for one view, (B, layers, 7) on the CPU: six uniform in [0, 1), one normal."""
    uniform = torch.rand(batch, policy.layers, WIDTH - 1, generator=generator)
    return torch.cat([uniform, torch.randn(batch, policy.layers, 1, generator=generator)], 2)


def apply(x: Tensor, policy: Policy, drawn: Tensor) -> Tensor:
    """The policy on images in [0, 1].

    x: (B, 3, H, W) on any device; drawn: (B, layers, 7) on the CPU, where the images of each
    operation are chosen, so that nothing waits for the device. Returns multiples of 1/255.
    """
    y = (x * 255).round_().clamp_(0, 255)
    names = list(policy.levels)
    for layer in range(policy.layers):
        picked, done, sign, blend, *place, normal = drawn[:, layer].unbind(1)
        number = (picked * len(names)).long()
        number[done >= policy.probability] = -1
        magnitude = (policy.magnitude + policy.deviation * normal).clamp_(0, 10)
        amounts = torch.zeros(len(drawn))
        for which, name in enumerate(names):
            rows = torch.nonzero(number == which)[:, 0]
            if not len(rows):
                continue
            amounts[rows] = amount(policy.levels[name], magnitude[rows], sign[rows])
            if name not in GEOMETRIC:
                at = rows.to(y.device)
                y[at] = _one(name, y[at], amounts[rows].to(y.device), policy,
                             torch.stack(place, 1)[rows])
        _move(y, names, number, amounts, blend, policy)
    return y / 255


def amount(level: Level, magnitude: Tensor, sign: Tensor) -> Tensor:
    """Amounts (n,) at magnitudes 0..10; sign: (n,) uniform in [0, 1)."""
    found = level.at_0 + (level.at_10 - level.at_0) * magnitude / 10
    found = found.trunc() if level.whole else found
    return torch.where(sign < 0.5, -found, found) if level.signed else found


def _one(name: str, y: Tensor, amounts: Tensor, policy: Policy, place: Tensor) -> Tensor:
    """One operation that keeps pixels where they are."""
    if name == "cutout":
        return cutout(y, amounts, place.to(y.device), policy.fill)
    if name == "contrast":
        return contrast(y, amounts, policy.contrast_about)
    return OPERATIONS[name](y, amounts)


# -- operations on (n, 3, H, W) in 0..255 with amounts (n,) ---------------------------------------


def autocontrast(y: Tensor, _: Tensor | None = None) -> Tensor:
    """Stretch each channel to 0..255; a flat channel stays (PIL ImageOps.autocontrast)."""
    low, high = y.amin((2, 3), keepdim=True), y.amax((2, 3), keepdim=True)
    spread = high - low
    scaled = ((y - low) * 255 / spread.clamp(min=1)).floor_()
    return torch.where(spread > 0, scaled, y)


def equalize(y: Tensor, _: Tensor | None = None) -> Tensor:
    """Flatten each channel's histogram (PIL ImageOps.equalize, whole-number arithmetic)."""
    value = y.flatten(0, 1).flatten(1).long()  # (n 3, P)
    count = torch.zeros(len(value), 256, dtype=torch.long, device=y.device)
    count.scatter_add_(1, value, torch.ones_like(value))
    last = count.gather(1, value.amax(1, keepdim=True))
    step = (value.shape[1] - last) // 255
    before = count.cumsum(1) - count
    table = ((before + step // 2) // step.clamp(min=1)).clamp_(max=255)
    flat = torch.where(step > 0, table.gather(1, value), value)
    return flat.view_as(y).to(y.dtype)


def invert(y: Tensor, _: Tensor | None = None) -> Tensor:
    """255 - value."""
    return 255 - y


def posterize(y: Tensor, bits: Tensor) -> Tensor:
    """Keep the upper `bits` bits."""
    unit = torch.exp2(8 - _by_image(bits))
    return (y / unit).floor_() * unit


def solarize(y: Tensor, threshold: Tensor) -> Tensor:
    """Invert the values at or above the threshold."""
    return torch.where(y < _by_image(threshold), y, 255 - y)


def solarize_add(y: Tensor, addition: Tensor) -> Tensor:
    """Add to the values below 128."""
    return torch.where(y < 128, (y + _by_image(addition)).clamp(0, 255), y)


def color(y: Tensor, factor: Tensor) -> Tensor:
    """Away from grey (PIL ImageEnhance.Color)."""
    return blend(gray(y), y, factor)


def contrast(y: Tensor, factor: Tensor, about: int | None = None) -> Tensor:
    """Away from one grey level, by default the image's mean (PIL ImageEnhance.Contrast)."""
    if about is None:
        level = (gray(y).mean((1, 2, 3), keepdim=True) + 0.5).floor_()
    else:
        level = torch.full_like(y[:, :1, :1, :1], about)
    return blend(level, y, factor)


def brightness(y: Tensor, factor: Tensor) -> Tensor:
    """Away from black (PIL ImageEnhance.Brightness)."""
    return blend(torch.zeros_like(y[:, :1, :1, :1]), y, factor)


def sharpness(y: Tensor, factor: Tensor) -> Tensor:
    """Away from a smoothed copy, whose border is the image's own (PIL ImageEnhance.Sharpness)."""
    if min(y.shape[2:]) < 3:
        return y
    kernel = torch.ones(3, 1, 3, 3, device=y.device)
    kernel[:, :, 1, 1] = 5
    smooth = y.clone()
    smooth[:, :, 1:-1, 1:-1] = (F.conv2d(y, kernel / 13, groups=3) + 0.5).floor_()
    return blend(smooth, y, factor)


def cutout(y: Tensor, pad: Tensor, place: Tensor, fill: tuple[int, int, int]) -> Tensor:
    """A filled square around a random pixel.

    pad: (n,) half its side as a share of the image's; place: (n, 2) in [0, 1). What would lie
    outside the image is cut.
    """
    inside = []
    for axis in (0, 1):
        size = y.shape[2 + axis]
        centre, half = (place[:, axis] * size).floor(), (pad * size).round()
        where = torch.arange(size, device=y.device) - centre[:, None]
        inside.append((where >= -half[:, None]) & (where < half[:, None]))
    mask = inside[0][:, None, :, None] & inside[1][:, None, None, :]
    return torch.where(mask, _fill(fill, y), y)


OPERATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "autocontrast": autocontrast, "equalize": equalize, "invert": invert, "posterize": posterize,
    "solarize": solarize, "solarize_add": solarize_add, "color": color, "brightness": brightness,
    "sharpness": sharpness,
}


def blend(base: Tensor, y: Tensor, factor: Tensor) -> Tensor:
    """base + factor (y - base), clipped and cut to whole numbers, as PIL and TensorFlow do."""
    return (base + _by_image(factor) * (y - base)).clamp_(0, 255).floor_()


def gray(y: Tensor) -> Tensor:
    """(n, 1, H, W) whole grey values with PIL's weights."""
    weight = torch.tensor(LUMA, device=y.device)[:, None, None]
    return ((y * weight).sum(1, keepdim=True) + 0.5).floor_()


# -- operations that move pixels ------------------------------------------------------------------


def affine(name: str, amounts: Tensor) -> Tensor:
    """Where each output pixel comes from, (n, 2, 3), on x, y that run over -1..1.

    Rotation in degrees about the centre; shear about the top left corner, as PIL's transform;
    translation as a share of the side. Images are square.
    """
    one, zero = torch.ones_like(amounts), torch.zeros_like(amounts)
    if name == "rotate":
        turn = amounts * (math.pi / 180)
        cosine, sine = turn.cos(), turn.sin()
        rows = (cosine, -sine, zero), (sine, cosine, zero)
    elif name == "shear_x":
        rows = (one, amounts, amounts), (zero, one, zero)
    elif name == "shear_y":
        rows = (one, zero, zero), (amounts, one, amounts)
    elif name == "translate_x":
        rows = (one, zero, 2 * amounts), (zero, one, zero)
    else:
        rows = (one, zero, zero), (zero, one, 2 * amounts)
    return torch.stack([torch.stack(row, 1) for row in rows], 1)


def sample(y: Tensor, matrix: Tensor, mode: str, fill: tuple[int, int, int]) -> Tensor:
    """Images read at the places that the matrices (n, 2, 3) say, `fill` outside; whole numbers."""
    grid = F.affine_grid(matrix, list(y.shape), align_corners=False)
    read = F.grid_sample(y, grid, mode=mode, padding_mode="border", align_corners=False)
    # a pixel whose centre comes from inside is read, with the border repeated, as PIL does
    inside = (grid.abs() <= 1).all(3)[:, None]
    return torch.where(inside, read.round_().clamp_(0, 255), _fill(fill, y))


def _move(y: Tensor, names: list[str], number: Tensor, amounts: Tensor, blend: Tensor,
          policy: Policy) -> None:
    """All geometric operations of a layer, in place, by one product per interpolation."""
    matrices = torch.zeros(len(y), 2, 3)
    moved = torch.zeros(len(y), dtype=torch.bool)
    for name in GEOMETRIC:
        if name not in names:
            continue
        rows = torch.nonzero(number == names.index(name))[:, 0]
        matrices[rows] = affine(name, amounts[rows])
        moved[rows] = True
    choice = (blend * len(policy.interpolation)).long()
    for which, mode in enumerate(policy.interpolation):
        rows = torch.nonzero(moved & (choice == which))[:, 0]
        if len(rows):
            at = rows.to(y.device)
            y[at] = sample(y[at], matrices[rows].to(y.device), mode, policy.fill)


def _fill(fill: tuple[int, int, int], y: Tensor) -> Tensor:
    return torch.tensor(fill, device=y.device, dtype=y.dtype).view(1, 3, 1, 1)


def _by_image(amounts: Tensor) -> Tensor:
    return amounts[:, None, None, None]
