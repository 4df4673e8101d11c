"""FNC's loss once the false negatives are known.

Shapes: B images of the rank, A anchor views of each, D width, M keys.
"""

from __future__ import annotations

import torch
from torch import Tensor

from methods.parts.distributed import mine, rank_rows, world
from methods.parts.losses import full_precision


@full_precision
def cancelled_nce(
    z_ABD: Tensor,
    keys_MD: Tensor,
    false_BM: Tensor,
    temperature: float,
    eliminate: bool,
    mean_positive: bool = False,
) -> Tensor:
    """Return the loss (A, B) of every anchor; first come the A views of all ranks' images.

    Eq. 3 has one positive; with A views an anchor has A - 1. As released they count one by one
    beside the false negatives (A - 1 + |F|); with `mean_positive` it is Eq. 3 averaged over them
    (1 + |F|). With A = 2 both are the same. Source: FNC, arXiv 2011.11765; released objective.py.
    """
    views, number = z_ABD.shape[:2]
    logits = z_ABD.flatten(0, 1) @ keys_MD.T / temperature
    batch = mine(logits[:, : views * number * world()].unflatten(1, (views, -1)), dim=2)
    same_BAA = batch.unflatten(0, (views, number)).diagonal(dim1=1, dim2=3).permute(2, 0, 1)
    positive_AB = (same_BAA.sum(dim=2) - same_BAA.diagonal(dim1=1, dim2=2)).T
    own = rank_rows(number, views, logits.device)[:, None]  # an anchor is no candidate of its own
    logits = logits.scatter_(1, own, -1e9).unflatten(0, (views, number))
    if eliminate:  # Eq. 2
        return logits.masked_fill(false_BM, -torch.inf).logsumexp(dim=2) - positive_AB / (views - 1)
    # Eq. 3: false negatives stay in the denominator.
    found_AB, positives = logits.masked_fill(~false_BM, 0).sum(dim=2), views - 1
    if mean_positive:
        positive_AB, positives = positive_AB / positives, 1
    return logits.logsumexp(dim=2) - (positive_AB + found_AB) / (positives + false_BM.sum(dim=1))
