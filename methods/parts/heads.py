"""Projection heads and predictors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NORMS = ("none", "affine", "scale", "plain")


class MLP(nn.Sequential):
    """Linear, BatchNorm, ReLU, ..., Linear, and perhaps a last BatchNorm.

    The layers are numbered as a plain `nn.Sequential`, so released weights load by position.
    """

    def hidden(self, x: Tensor) -> Tensor:
        """Return the first hidden layer after its ReLU: (N, dims[0]) -> (N, dims[1]).

        That is SimCLR v2's fine-tuning layer and DnC's clustering layer (its Table 6).
        """
        for layer in self:
            x = layer(x)
            if isinstance(layer, nn.ReLU):
                return x
        raise ValueError("a linear head has no hidden layer; use layer='pooled'")


def batch_norm(width: int, kind: str) -> list[nn.Module]:
    """Return no norm, one with scale and offset, one with a scale only, or one with neither."""
    if kind not in NORMS:
        raise ValueError(f"unknown last norm '{kind}'. Available: {', '.join(NORMS)}")
    if kind == "none":
        return []
    norm = nn.BatchNorm1d(width, affine=kind != "plain")
    if kind == "scale":
        norm.bias.requires_grad_(False)
    return [norm]


def mlp(
    dims: Sequence[int],
    *,
    norm: bool = True,
    hidden_bias: bool = True,
    last_bias: bool = True,
    last_norm: str = "none",
) -> MLP:
    """Return an MLP of widths `dims`; two widths make it linear.

    norm: BatchNorm before each ReLU. hidden_bias, last_bias: biases of the Linear layers.
    last_norm: "none", "affine", "scale" (no offset, as in SimCLR) or "plain" (no parameters).
    """
    layers: list[nn.Module] = []
    for inner, outer in zip(dims[:-2], dims[1:-1], strict=True):
        layers.append(nn.Linear(inner, outer, bias=hidden_bias))
        layers += batch_norm(outer, "affine" if norm else "none")
        layers.append(nn.ReLU(inplace=True))
    layers.append(nn.Linear(dims[-2], dims[-1], bias=last_bias))
    return MLP(*layers, *batch_norm(dims[-1], last_norm))


class NormLinear(nn.Module):
    """y = x/|x| W/|W| with unit rows of x and unit columns of W, without bias.

    Source: CLD, released models/resnet_cifar.py (W is stored as in_features x out_features there).
    """

    def __init__(self, inner: int, outer: int) -> None:
        """Draw W from U(-1, 1) and make its columns unit vectors."""
        super().__init__()
        drawn = torch.empty(outer, inner).uniform_(-1, 1)
        self.weight = nn.Parameter(F.normalize(drawn, dim=1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inner) to cosines (N, outer)."""
        return F.linear(F.normalize(x, dim=1), F.normalize(self.weight, dim=1))
