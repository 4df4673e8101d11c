"""Losses that several methods share.

Shapes: N images of the batch, D embedding width, Q rows of a queue or bank. Losses between views
normalise their inputs; those against stored rows take unit vectors, as the store does. Under
autocast all are computed in float32: a bfloat16 logit at T = 0.07 is off by up to 0.06.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.parts.distributed import gather, rank_rows

P = ParamSpec("P")
R = TypeVar("R")

HALF = (torch.float16, torch.bfloat16)


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Run a loss without autocast and with half-precision tensors widened to float32."""

    @wraps(function)
    def widened(*args: P.args, **kwargs: P.kwargs) -> R:
        tensors = [a for a in args if isinstance(a, Tensor)]
        wide = [a.float() if isinstance(a, Tensor) and a.dtype in HALF else a for a in args]
        with torch.autocast(tensors[0].device.type, enabled=False):
            return function(*wide, **kwargs)  # type: ignore[arg-type]  # same tensors, widened

    return widened


@full_precision
def unit(x_ND: Tensor) -> Tensor:
    """Return the rows scaled to unit length."""
    return F.normalize(x_ND, dim=1)


@full_precision
def similarity(a_ND: Tensor, b_MD: Tensor) -> Tensor:
    """Return the inner products (N, M)."""
    return a_ND @ b_MD.T


@full_precision
def info_nce(q_ND: Tensor, k_ND: Tensor, temperature: float) -> Tensor:
    """Return the mean cross entropy of q_i against all ranks' keys, with k_i as its target.

    Source: DnC, arXiv 2105.08054, Eq. 1 (one direction).
    """
    logits_NN = unit(q_ND) @ gather(unit(k_ND)).T / temperature
    return F.cross_entropy(logits_NN, rank_rows(len(q_ND), device=q_ND.device))


@full_precision
def nt_xent(a_ND: Tensor, b_ND: Tensor, temperature: float) -> Tensor:
    """Return the mean over the 2N anchors of NT-Xent: 2N - 1 candidates, the self one left out.

    N counts all ranks' images. Source: SimCLR, arXiv 2002.05709, Eq. 1.
    """
    z = unit(torch.cat([a_ND, b_ND]))
    # -1e9 and not -inf: with one image per batch the row would otherwise have no finite value.
    own = rank_rows(len(a_ND), views=2, device=z.device)
    logits = (z @ gather(z, views=2).T / temperature).scatter_(1, own[:, None], -1e9)
    return F.cross_entropy(logits, own.roll(len(a_ND)))


@full_precision
def queue_nce(q_ND: Tensor, k_ND: Tensor, queue_QD: Tensor, temperature: float) -> Tensor:
    """Return the mean cross entropy of [q.k, q queue^T] / T (N, 1 + Q), whose target is column 0.

    q and k are unit vectors. Source: MoCo, arXiv 1911.05722, Algorithm 1.
    """
    positive_N1 = (q_ND * k_ND).sum(dim=1, keepdim=True)
    logits = torch.cat([positive_N1, q_ND @ queue_QD.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(q_ND), dtype=torch.int64, device=q_ND.device))


@full_precision
def cosine_regression(p_ND: Tensor, t_ND: Tensor) -> Tensor:
    """Return the mean over rows of |p/|p| - t/|t||^2 = 2 - 2 cos.

    Source: BYOL, arXiv 2006.07733, Eq. 2.
    """
    return (unit(p_ND) - unit(t_ND)).square().sum(dim=1).mean()


@full_precision
def half_squared_error(r_ND: Tensor, t_ND: Tensor, normalise: bool = False) -> Tensor:
    """Return 1/2 |r - t/|t||^2 for each row (N,), with r as it is or made a unit vector too.

    Source: DnC, arXiv 2105.08054, Eq. 2; the normalised variant is its Table 19.
    """
    return (unit(r_ND) if normalise else r_ND).sub(unit(t_ND)).square().sum(dim=1) / 2


def crossed(
    compare: Callable[[Tensor, Tensor], Tensor], q_VND: Sequence[Tensor], k_VND: Sequence[Tensor]
) -> Tensor:
    """Return the sum of both directions: each of two views' outputs against the other's target."""
    return compare(q_VND[0], k_VND[1]) + compare(q_VND[1], k_VND[0])


@full_precision
def koleo(x_ND: Tensor) -> Tensor:
    """Return the mean over rows of -log of the distance to the nearest other unit row of any rank.

    It spreads the rows over the sphere. Source: "Spreading vectors for similarity search", arXiv
    1806.03198; DINOv2's released koleo_loss.py, whose 1e-8 are kept.
    """
    x_ND = F.normalize(x_ND, dim=1, eps=1e-8)
    every_MD, own = gather(x_ND), rank_rows(len(x_ND), device=x_ND.device)[:, None]
    with torch.no_grad():
        nearest_N = (x_ND @ every_MD.T).scatter_(1, own, -1).argmax(dim=1)
    distance_N = F.pairwise_distance(x_ND, every_MD[nearest_N], eps=1e-8)
    return -(distance_N + 1e-8).log().mean()
