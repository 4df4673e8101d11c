"""Colour operations on batches of images in [0, 1], shape (B, 3, H, W), parameters (B,)."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

# Rec. 601 luma, exactly 1 in sum: then grey stays grey under every matrix below.
LUMA = (0.299, 0.587, 0.114)
# What torchvision and BYOL's code use; they sum to 0.9999.
GRAY = (0.2989, 0.587, 0.114)


@functools.cache
def _yiq_turn() -> Tensor:
    """(3, 3): how RGB moves when the hue turns by a small angle in the I-Q plane."""
    to_yiq = torch.tensor([LUMA, (0.596, -0.274, -0.322), (0.211, -0.523, 0.312)],
                          dtype=torch.float64)
    turn = torch.tensor([[0, 0, 0], [0, 0, 1], [0, -1, 0]], dtype=torch.float64)
    return (torch.linalg.inv(to_yiq) @ turn @ to_yiq).float()


def jitter_matrix(amounts: Tensor, gray: Tensor) -> tuple[Tensor, Tensor]:
    """The whole jitter as x -> M x + w (luma . mean of x): M (B, 3, 3) and w (B,).

    With Y = 1 luma^T the steps are b x, c x + (1-c) Y mean, s x + (1-s) Y x and a turn in YIQ.
    Without clipping they commute, since all of them keep the grey axis and luma; so one matrix
    stands for any order. amounts: (B, 4) = b, c, s and turns; gray: bool (B,), takes the chroma
    away.
    """
    brightness, contrast, saturation, hue = amounts.unbind(1)
    luma = torch.tensor(LUMA)
    project = luma.expand(3, 3)
    angle = (2 * math.pi * hue)[:, None, None]
    turn = (torch.eye(3) - project) * torch.cos(angle) + _yiq_turn() * torch.sin(angle)
    chroma = torch.where(gray, 0.0, saturation)[:, None, None] * turn
    gain = brightness * contrast
    return gain[:, None, None] * (chroma + project), brightness * (1 - contrast)


def matrix_jitter(x: Tensor, amounts: Tensor, active: Tensor) -> Tensor:
    """The jitter by one matrix per image, clipped once: for steps that need values in [0, 1].

    x: (B, 3, H, W) on any device; amounts: (B, 4) and active: (B,) bool on the CPU.
    """
    nothing = torch.tensor([1.0, 1.0, 1.0, 0.0])
    matrix, weight = jitter_matrix(torch.where(active[:, None], amounts, nothing),
                                   torch.zeros(len(x), dtype=torch.bool))
    matrix, weight = matrix.to(x.device), weight.to(x.device)
    flat = x.flatten(2)
    offset = weight[:, None] * (flat.mean(2) @ torch.tensor(LUMA, device=x.device))[:, None]
    return torch.baddbmm(offset.expand(-1, 3)[:, :, None], matrix, flat).view_as(x).clamp_(0, 1)


def grayscale(x: Tensor) -> Tensor:
    """(B, 1, H, W) grey values with torchvision's and BYOL's weights."""
    weight = torch.tensor(GRAY, device=x.device, dtype=x.dtype)
    return (x * weight[:, None, None]).sum(1, keepdim=True)


def rgb_to_hsv(x: Tensor) -> Tensor:
    """Hue in turns [0, 1), saturation, value; (B, 3, H, W). Grey has hue 0."""
    value, where = x.max(1)
    spread = value - x.min(1).values
    safe = torch.where(spread > 0, spread, torch.ones_like(spread))
    red, green, blue = x.unbind(1)
    by_red = ((green - blue) / safe) % 6
    by_green = (blue - red) / safe + 2
    by_blue = (red - green) / safe + 4
    hue = torch.where(where == 0, by_red, torch.where(where == 1, by_green, by_blue)) / 6
    hue = torch.where(spread > 0, hue, torch.zeros_like(hue))
    saturation = torch.where(value > 0, spread / value.clamp(min=1e-12), torch.zeros_like(value))
    return torch.stack([hue % 1, saturation, value], 1)


def hsv_to_rgb(x: Tensor) -> Tensor:
    """Inverse of rgb_to_hsv, (B, 3, H, W)."""
    hue, saturation, value = x.unbind(1)
    offset = torch.tensor([5.0, 3.0, 1.0], device=x.device, dtype=x.dtype)[:, None, None]
    k = (offset + hue[:, None] * 6) % 6
    share = torch.minimum(k, 4 - k).clamp(0, 1)
    return value[:, None] * (1 - saturation[:, None] * share)


def _by_image(amount: Tensor) -> Tensor:
    return amount[:, None, None, None]


def brightness(x: Tensor, amount: Tensor, rule: str) -> Tensor:
    """torchvision: x * amount; BYOL: x + amount. Not clipped."""
    return x + _by_image(amount) if rule == "byol" else x * _by_image(amount)


def contrast(x: Tensor, amount: Tensor, rule: str) -> Tensor:
    """Scale about the mean: of the grey image (torchvision), of each channel (BYOL)."""
    source = x if rule == "byol" else grayscale(x)
    mean = source.mean((2, 3), keepdim=True)
    return mean + (x - mean) * _by_image(amount)


def saturation(x: Tensor, amount: Tensor, rule: str) -> Tensor:
    """Away from grey: blended with the grey image (torchvision), S of HSV scaled (BYOL)."""
    if rule == "byol":
        h, s, v = rgb_to_hsv(x).unbind(1)
        return hsv_to_rgb(torch.stack([h, (s * amount[:, None, None]).clamp(0, 1), v], 1))
    gray = grayscale(x)
    return gray + (x - gray) * _by_image(amount)


def hue(x: Tensor, amount: Tensor, rule: str) -> Tensor:
    """Turn the hue in HSV by `amount` turns; the same in both rules."""
    h, s, v = rgb_to_hsv(x).unbind(1)
    return hsv_to_rgb(torch.stack([(h + amount[:, None, None]) % 1, s, v], 1))


STEPS = (brightness, contrast, saturation, hue)


def sequential_jitter(x: Tensor, amounts: Tensor, order: Tensor, active: Tensor,
                      rule: str) -> Tensor:
    """The four steps, in each image's own order, clipped to [0, 1] after each.

    x: (B, 3, H, W) on any device, changed in place; amounts: (B, 4), order: (B, 4) int permutation
    and active: (B,) bool on the CPU, where they were drawn, so that no step waits for the device.
    """
    for turn in range(4):
        for number, step in enumerate(STEPS):
            rows = torch.nonzero(active & (order[:, turn] == number))[:, 0]
            if len(rows):
                at = rows.to(x.device)
                amount = amounts[rows, number].to(x.device)
                x[at] = step(x[at], amount, rule).clamp_(0, 1)
    return x


def solarize(x: Tensor, threshold: float = 0.5) -> Tensor:
    """Invert the values at or above the threshold."""
    return torch.where(x < threshold, x, 1 - x)
