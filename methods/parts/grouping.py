"""Grouping the rows of one batch, as CLD's group branch does it.

Shapes: N images of the batch, D embedding width, K groups.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from methods.parts.distributed import gather, world
from methods.parts.losses import full_precision


def group_means(x_ND: Tensor, labels_N: Tensor, groups: int) -> Tensor:
    """Return the mean of each group's rows (K, D), zero for an empty one; differentiable in x.

    A product with the one-hot labels, since index_add adds in any order on a GPU.
    """
    member_KN = F.one_hot(labels_N, groups).to(x_ND.dtype).T
    return member_KN @ x_ND / member_KN.sum(dim=1, keepdim=True).clamp(min=1)


def empty_groups(labels_N: Tensor, groups: int) -> Tensor:
    """Return the mask (K,) of the groups without a row."""
    every_K1 = torch.arange(groups, device=labels_N.device)[:, None]
    return (every_K1 != labels_N).all(dim=1)


@full_precision
def kmeans(
    x_ND: Tensor, groups: int, iterations: int, keep_empty: bool = True
) -> tuple[Tensor, Tensor]:
    """Return Lloyd's labels (N,) and centroids (K, D) from the first K rows as the start.

    Labels are those of the last assignment, centroids the means after it, through which the
    gradient flows. Means are not made unit vectors; an empty group's centroid is zero and stays a
    candidate, as released, unless `keep_empty` is false. With K > N each row starts a group of its
    own and K - N are empty. Source: released CLD, spectral_clustering.py, KMeans.
    """
    with torch.no_grad():
        centroids, labels_N = x_ND[:groups], torch.arange(len(x_ND), device=x_ND.device)
        for step in range(iterations):
            # Exact differences: by a matrix product, rows of equal distance would not tie.
            distance = torch.cdist(x_ND, centroids, compute_mode="donot_use_mm_for_euclid_dist")
            if step and not keep_empty:
                distance.masked_fill_(empty_groups(labels_N, groups), torch.inf)
            labels_N = distance.argmin(dim=1)
            centroids = group_means(x_ND, labels_N, groups)
    return labels_N, group_means(x_ND, labels_N, groups)


@full_precision
def cross_level(
    g_ND: Tensor,
    centroids_KD: Tensor,
    labels_N: Tensor,
    temperature: float,
    keep_empty: bool = True,
) -> Tensor:
    """Return the mean cross entropy of one view's features against the other view's groups.

    Empty groups are candidates with a logit of 0, as released, unless `keep_empty` is false.
    Source: CLD, arXiv 2008.03813; released main_imagenet_moco_cld.py, grouping.
    """
    logits_NK = g_ND @ centroids_KD.T / temperature
    if not keep_empty:
        logits_NK = logits_NK.masked_fill(empty_groups(labels_N, len(centroids_KD)), -torch.inf)
    return F.cross_entropy(logits_NK, labels_N)


@full_precision
def normalised_cuts(
    x_ND: Tensor,
    groups: int,
    iterations: int,
    eigenvectors: int,
    sigma: float = 1.0,
    keep_empty: bool = True,
) -> tuple[Tensor, Tensor]:
    """Return the labels (N,) and centroids (K, D) of a spectral grouping.

    k-means on the lowest eigenvectors of the normalised Laplacian of |cosine| / sigma; centroids
    are means of x itself. Source: released CLD, spectral_clustering.py, spectral_clustering.
    """
    with torch.no_grad():
        embedding_NE = spectral_embedding(x_ND, eigenvectors, sigma)
        labels_N, _ = kmeans(embedding_NE, groups, iterations, keep_empty)
    return labels_N, group_means(x_ND, labels_N, groups)


def group(
    x_ND: Tensor, by: str, groups: int, iterations: int, eigenvectors: int, keep_empty: bool = True
) -> tuple[Tensor, Tensor]:
    """Return labels (N,) and centroids (K, D) by "kmeans" or by normalised cuts ("ncuts")."""
    if by == "kmeans":
        return kmeans(x_ND, groups, iterations, keep_empty)
    return normalised_cuts(x_ND, groups, iterations, eigenvectors, keep_empty=keep_empty)


def cross_level_loss(g1_ND: Tensor, g2_ND: Tensor, config: Any, released: bool) -> Tensor:
    """Return the mean over both directions of `cross_level`, by the options of CLD.

    Groups are those of the whole batch, however many processes share it, or with `group_splits` of
    each of its parts, of which W ranks have group_splits / W each: as released, where each of the
    8 processes groups its own images (main_imagenet_moco_cld.py).
    """
    if config.group_splits == 1:
        return _both_directions(gather(g1_ND), gather(g2_ND), config, released)
    parts = config.group_splits // world()
    pairs = zip(g1_ND.tensor_split(parts), g2_ND.tensor_split(parts), strict=True)
    losses = [_both_directions(first, second, config, released) for first, second in pairs]
    return torch.stack(losses).mean()


def _both_directions(g1_ND: Tensor, g2_ND: Tensor, config: Any, released: bool) -> Tensor:
    sides, how = [], (config.grouping, config.groups, config.iterations, config.eigenvectors)
    for g_ND in (g1_ND, g2_ND):
        labels_N, centroids_KD = group(g_ND, *how, released)
        sides.append((centroids_KD if released else centroids_KD.detach(), labels_N))
    first = cross_level(g1_ND, *sides[1], config.group_temperature, released)
    return (first + cross_level(g2_ND, *sides[0], config.group_temperature, released)) / 2


def spectral_embedding(x_ND: Tensor, eigenvectors: int, sigma: float) -> Tensor:
    """Return the lowest eigenvectors (N, E), the trivial one included, each up to its sign."""
    unit_ND = F.normalize(x_ND, dim=1)
    affinity_NN = (unit_ND @ unit_ND.T).abs().fill_diagonal_(0) / sigma
    affinity_NN = torch.maximum(affinity_NN, affinity_NN.T)
    scale_N = affinity_NN.sum(dim=1).rsqrt()
    laplacian_NN = -affinity_NN * scale_N[:, None] * scale_N
    laplacian_NN += torch.eye(len(x_ND), dtype=x_ND.dtype, device=x_ND.device)
    vectors_NN = torch.linalg.eigh(laplacian_NN).eigenvectors * scale_N[:, None]
    return (vectors_NN / vectors_NN[0, 0])[:, :eigenvectors]
