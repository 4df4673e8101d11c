"""Selection of keys by their score.

Shapes: B images, V views, D width, M keys.
"""

from __future__ import annotations

import torch
from torch import Tensor

from methods.parts.distributed import mine, world
from methods.parts.losses import full_precision


@torch.no_grad()
def top_k_mask(scores_BM: Tensor, top_k: int, threshold: float) -> Tensor:
    """Return the mask (B, M) of each row's `top_k` best columns that score above the threshold.

    Ties go to the lowest column. A partial selection and a count of ties: a stable sort of the
    paper's 4096 x 65536 scores would cost more than the loss that follows.
    """
    if top_k >= scores_BM.shape[1]:
        return scores_BM > threshold
    best = scores_BM.topk(top_k, dim=1).values[:, -1:]
    over, tied = scores_BM > best, scores_BM == best
    room = top_k - over.sum(dim=1, keepdim=True)
    return (over | (tied & (tied.cumsum(dim=1) <= room))) & (scores_BM > threshold)


@torch.no_grad()
@full_precision
def candidate_scores(seen_VBD: Tensor, keys_MD: Tensor, aggregate: str, own: int) -> Tensor:
    """Return each key's similarity to an image (B, M); -1e9 for its own `own` views, which lead."""
    scores_VBM = seen_VBD @ keys_MD.T
    scores_BM = scores_VBM.amax(dim=0) if aggregate == "max" else scores_VBM.mean(dim=0)
    number = len(scores_BM)
    itself = torch.eye(number, dtype=torch.bool, device=scores_BM.device)[:, None]
    views_BVN = scores_BM[:, : own * number * world()].unflatten(1, (own, -1))
    mine(views_BVN, dim=2).masked_fill_(itself, -1e9)
    return scores_BM
