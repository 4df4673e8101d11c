"""Bring images to one side: shorter side resized, centre cropped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray


def square(image: Image.Image, side: int) -> NDArray[np.uint8]:
    """uint8 (side, side, 3): shorter side resized (bilinear, antialiased), centre crop, RGB.

    Transparent pixels are laid on white; palettes and 16-bit grey become 8-bit RGB.
    """
    image = as_rgb(image)
    width, height = image.size
    if (width, height) != (side, side):
        scale = side / min(width, height)
        size = (max(side, round(width * scale)), max(side, round(height * scale)))
        image = image.resize(size, Image.Resampling.BILINEAR)
        left, top = (size[0] - side) // 2, (size[1] - side) // 2
        image = image.crop((left, top, left + side, top + side))
    return np.asarray(image)


def as_rgb(image: Image.Image) -> Image.Image:
    """The image in 8-bit RGB."""
    if image.mode == "RGB":
        return image
    if image.mode in ("I", "I;16", "I;16B", "F"):
        values = np.asarray(image, dtype=np.float64)
        top = 65535 if values.max(initial=0) > 255 else 255
        return Image.fromarray((values * (255 / top)).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, image).convert("RGB")
    return image.convert("RGB")


def fit(pixels: NDArray[np.uint8], side: int | None) -> NDArray[np.uint8]:
    """uint8 (N, H, W, 3) as (N, side, side, 3); unchanged where it fits already."""
    if side is None or pixels.shape[1:3] == (side, side):
        return pixels
    if not len(pixels):
        return np.empty((0, side, side, 3), dtype=np.uint8)
    return np.stack([square(Image.fromarray(image), side) for image in pixels])


def rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8 (N, H, W) or (N, H, W, 1 or 3) as (N, H, W, 3); grey is repeated."""
    if pixels.ndim == 3:
        pixels = pixels[..., None]
    return np.repeat(pixels, 3, axis=3) if pixels.shape[3] == 1 else pixels
