"""Projection heads and predictors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from methods.parts.distributed import mine, world

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


def forked(
    inner: int, hidden: int | None, outer: int, norm_last: bool, batch_norm: bool
) -> tuple[nn.Sequential, nn.Module, nn.Module]:
    """Return a trunk, empty if `hidden` is None, and two last layers on it of width `outer`.

    norm_last: NormLinear and not Linear. batch_norm: as the heads of BYOL need, which collapses
    without. Source: CLD, released models/ResNet.py and models/resnet_cifar.py.
    """
    layers: list[nn.Module] = []
    if hidden is not None:
        layers.append(nn.Linear(inner, hidden))
        layers += [nn.BatchNorm1d(hidden)] if batch_norm else []
        layers.append(nn.ReLU(inplace=True))
    last = NormLinear if norm_last else nn.Linear
    width = inner if hidden is None else hidden
    return nn.Sequential(*layers), last(width, outer), last(width, outer)


PATCHES = 9


def in_patches(view: Tensor) -> Tensor:
    """Return a view as its patches (N, 9, 3, h, w); one of (N, 3, H, W) is cut by a 3 x 3 grid."""
    if view.ndim == 5:
        return view
    side = view.shape[-1] // 3
    grid = view[..., : 3 * side, : 3 * side].unfold(2, side, side).unfold(3, side, side)
    return grid.permute(0, 2, 3, 1, 4, 5).flatten(1, 2)


class Jigsaw(nn.Module):
    """One embedding of an image from its nine patches, each seen alone, in random order.

    Source: PIRL, arXiv 1912.01991, as InfoMin's released JigsawHead has it.
    """

    def __init__(self, inner: int, hidden: int, outer: int) -> None:
        """Add an MLP for each patch and a Linear layer that joins the nine."""
        super().__init__()
        self.each = mlp([inner, hidden, outer], norm=False)
        self.join = nn.Linear(PATCHES * outer, outer)

    def forward(self, backbone: nn.Module, view: Tensor) -> Tensor:
        """Map a view, whole (N, 3, H, W) or cut (N, 9, 3, h, w), to (N, D)."""
        patches = in_patches(view).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        each_NPD = self.each(backbone(patches)).unflatten(0, (-1, PATCHES))
        number = len(view) * world()
        order_NP = mine(torch.rand(number, PATCHES, device=view.device)).argsort(dim=1)
        shuffled_NPD = each_NPD.gather(1, order_NP[..., None].expand_as(each_NPD))
        return torch.as_tensor(self.join(shuffled_NPD.flatten(1)))
