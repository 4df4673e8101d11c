"""TensorFlow v1's bicubic resize and the evaluation preprocessing of SimCLR's and FNC's codes.

Not what this project's evaluations see (`views.plain` is), but what the released numbers came from.
"""

from __future__ import annotations

import torch
from torch import Tensor

TABLE = 1024  # entries of TensorFlow's kernel table: places are rounded to 1/1024 pixel
KEYS = -0.75  # its parameter of Keys' kernel
CROP = 0.875  # CROP_PROPORTION in data_util.py of google-research/simclr and /fnc


def bicubic_matrix(full: int, size: int) -> Tensor:
    """Weights (size, full) of tf.compat.v1.image.resize_bicubic along one side, float32.

    Output i comes from i full / size (no half-pixel shift) by Keys' kernel over four pixels, the
    border repeated, without antialiasing.
    """
    place = torch.arange(size, dtype=torch.float32) * torch.tensor(full / size)
    first = place.floor()
    part = torch.round((place - first) * TABLE) / TABLE
    matrix = torch.zeros(size, full)
    for tap in (-1, 0, 1, 2):
        index = (first.long() + tap).clamp(0, full - 1)
        matrix.scatter_add_(1, index[:, None], _keys((part - tap).abs())[:, None])
    return matrix


def _keys(x: Tensor) -> Tensor:
    """Keys' cubic convolution kernel at distances 0..2."""
    near = ((KEYS + 2) * x - (KEYS + 3)) * x * x + 1
    far = ((KEYS * x - 5 * KEYS) * x + 8 * KEYS) * x - 4 * KEYS
    return torch.where(x <= 1, near, far)


def resize_bicubic(x: Tensor, height: int, width: int) -> Tensor:
    """Images (B, C, H, W) as tf.compat.v1.image.resize_bicubic makes them; not clipped."""
    rows = bicubic_matrix(x.shape[2], height).to(x)
    columns = bicubic_matrix(x.shape[3], width).to(x)
    return rows @ x @ columns.T


def eval_preprocess(images: Tensor, size: int) -> Tensor:
    """The released evaluation preprocessing: centre crop of 7/8 of the side, bicubic, clipped.

    images: uint8 (B, H, W, 3). Returns float32 (B, 3, size, size) in 0..1, not normalised.
    """
    height, width = images.shape[1:3]
    side = round(CROP * min(height, width))
    top, left = (height - side + 1) // 2, (width - side + 1) // 2
    crop = images[:, top:top + side, left:left + side].permute(0, 3, 1, 2).float() / 255
    return resize_bicubic(crop, size, size).clamp_(0, 1)
