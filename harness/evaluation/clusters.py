"""Dividing images by their embeddings, and what a division has to do with the classes.

"Divide and Contrast", arXiv 2105.08054, section 3 and appendix C: k-means with cosine similarity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.lazy import torch

RESTARTS = 5
ITERATIONS = 100


@dataclass(frozen=True)
class Division:
    """assignment int64 (n,), centroids float32 (k, d), mean cosine to the own centroid."""

    assignment: NDArray[np.int64]
    centroids: NDArray[np.float32]
    objective: float


def spherical_kmeans(x: NDArray[np.floating], k: int, seed: int, restarts: int = RESTARTS,
                     iterations: int = ITERATIONS) -> Division:
    """The best of several k-means++ starts; every group has an image.

    x: (n, d), any scale; rows are normalised. Deterministic in `seed`. Raises ValueError for fewer
    distinct rows than groups, or values that are not finite.
    """
    unit = _unit_rows(np.asarray(x, dtype=np.float32))
    if not np.isfinite(unit).all():
        raise ValueError("clustering: embeddings are not finite: the base has diverged; lower its "
                         "lr or use precision=fp32")
    if k > len(unit):
        raise ValueError(f"clustering {len(unit)} images into k={k} groups: choose k <= "
                         f"{len(unit)}")
    rng = np.random.default_rng(seed)
    runs = [lloyd(unit, plus_plus(unit, k, rng), iterations) for _ in range(restarts)]
    best = max(runs, key=lambda run: run.objective)
    sizes = np.bincount(best.assignment, minlength=k)
    if not sizes.all():
        raise ValueError(f"clustering: group {int(sizes.argmin())} of {k} stays empty, too few "
                         "embeddings differ: choose a smaller k")
    return best


def lloyd(unit: NDArray[np.floating], centroids: NDArray[np.floating],
          iterations: int) -> Division:
    """Alternate assignment by largest cosine and renormalised means until nothing changes.

    `unit` has unit rows. A group that loses all its images takes the image that is farthest from
    its own centroid.
    """
    assignment = np.full(len(unit), -1)
    for _ in range(iterations):
        similarity = _product(unit, centroids.T)
        new = similarity.argmax(1)
        _fill_empty(new, similarity, len(centroids))
        if (new == assignment).all():
            break
        assignment, centroids = new, _means(unit, new, len(centroids))
    final = _product(unit, centroids.T)
    assignment = final.argmax(1)
    objective = float(final.max(1).astype(np.float64).mean())
    return Division(assignment.astype(np.int64), centroids.astype(np.float32), objective)


def plus_plus(unit: NDArray[np.floating], k: int, rng: np.random.Generator) -> NDArray[np.floating]:
    """k rows, each drawn with probability proportional to 1 - cosine to the nearest drawn one.

    1 - cosine is half the squared distance of unit rows (Arthur and Vassilvitskii, 2007).
    """
    chosen = [int(rng.integers(len(unit)))]
    distance = np.full(len(unit), np.inf)
    for _ in range(1, k):
        distance = np.minimum(distance, np.maximum(1 - _product(unit, unit[chosen[-1]]), 0))
        total = distance.sum(dtype=np.float64)
        weights = distance.astype(np.float64) / total if total > 0 else None
        chosen.append(int(rng.choice(len(unit), p=weights)))
    return unit[chosen]


def deal(n: int, k: int, seed: int) -> Division:
    """n images dealt into k groups whose sizes differ by at most 1, at random."""
    if k > n:
        raise ValueError(f"dealing {n} images into k={k} groups: choose k <= {n}")
    assignment = np.random.default_rng(seed).permutation(np.arange(n) % k)
    return Division(assignment.astype(np.int64), np.zeros((k, 0), np.float32), 0.0)


def agreement(labels: NDArray[np.int64], clusters: NDArray[np.int64]) -> dict[str, float]:
    """How a division fits the classes (DnC, Table 6 and Fig. 6).

    majority_top1: accuracy if each cluster votes its commonest class; mutual_information_bits;
    class_in_main_cluster: mean over classes of the share in the class's commonest cluster.
    """
    table = np.zeros((labels.max() + 1, clusters.max() + 1))
    np.add.at(table, (labels, clusters), 1)
    table = table[table.any(1)][:, table.any(0)]
    joint = table / table.sum()
    independent = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    ratio = np.divide(joint, independent, out=np.ones_like(joint), where=joint > 0)
    return {
        "majority_top1": float(table.max(0).sum() / table.sum()),
        "mutual_information_bits": float((joint * np.log2(ratio)).sum()),
        "class_in_main_cluster": float((table.max(1) / table.sum(1)).mean())}


def _product(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.floating]:
    """a @ b by torch, whose threads the stage sets; NumPy's BLAS has a pool of its own."""
    product: NDArray[np.floating] = (torch.from_numpy(a) @ torch.from_numpy(b)).numpy()
    return product


def _unit_rows(x: NDArray[np.floating]) -> NDArray[np.floating]:
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def _means(unit: NDArray[np.floating], assignment: NDArray[np.integer],
           k: int) -> NDArray[np.floating]:
    """Renormalised group means (k, d), as one product with the one-hot assignment."""
    one_hot = np.zeros((len(unit), k), dtype=unit.dtype)
    one_hot[np.arange(len(unit)), assignment] = 1
    return _unit_rows(_product(one_hot.T, unit) / np.maximum(one_hot.sum(0), 1)[:, None])


def _fill_empty(assignment: NDArray[np.integer], similarity: NDArray[np.floating], k: int) -> None:
    """Give every empty group, in place, the worst-placed image of a group with others."""
    sizes = np.bincount(assignment, minlength=k)
    own = similarity[np.arange(len(assignment)), assignment]
    for group in np.flatnonzero(sizes == 0):
        movable = np.where(sizes[assignment] > 1, own, np.inf)
        row = int(movable.argmin())
        sizes[assignment[row]] -= 1
        assignment[row], own[row] = group, np.inf
        sizes[group] = 1
