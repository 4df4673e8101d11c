"""Dividing images by their embeddings, and what a division has to do with the classes.

"Divide and Contrast", arXiv 2105.08054, section 3 and appendix C: k-means with cosine similarity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from harness.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

RESTARTS = 5
ITERATIONS = 100
FEW = 64  # centroids
LANES = 32  # centroids side by side where there are many
SMALL = 2**17  # similarities of all images to all centroids that are held at once
RESIDENT = 2**26  # numbers that are normalised once, 256 MiB; above it, by blocks in every pass
SEEDS = 2**20  # images above which the starts are drawn from a part of them


Step = tuple[NDArray[np.int64], NDArray[np.floating], Callable[[], NDArray[np.floating]]]


@dataclass(frozen=True)
class Division:
    """assignment int64 (n,), centroids float32 (k, d), mean cosine to the own centroid."""

    assignment: NDArray[np.int64]
    centroids: NDArray[np.float32]
    objective: float


def spherical_kmeans(x: NDArray[np.floating], k: int, seed: int, restarts: int = RESTARTS,
                     iterations: int = ITERATIONS) -> Division:
    """The best of several k-means++ starts; every group has an image.

    x: (n, d), any scale, in memory or mapped; rows are normalised. Beside x it takes at most about
    0.5 GiB and 40 bytes an image. Deterministic in `seed`. Raises ValueError for fewer distinct
    rows than groups, or values that are not finite.
    """
    rows = Rows.of(x)
    if not rows.finite():
        raise ValueError("clustering: embeddings are not finite: the base has diverged; lower its "
                         "lr or use precision=fp32")
    if k > len(rows):
        raise ValueError(f"clustering {len(rows)} images into k={k} groups: choose k <= "
                         f"{len(rows)}")
    rng = np.random.default_rng(seed)
    runs = [_run(rows, _start(rows, k, rng), iterations) for _ in range(restarts)]
    best = max(runs, key=lambda run: run.objective)
    sizes = np.bincount(best.assignment, minlength=k)
    if not sizes.all():
        raise ValueError(f"clustering: group {int(sizes.argmin())} of {k} stays empty, too few "
                         "embeddings differ: choose a smaller k")
    return best


@dataclass(frozen=True)
class Rows:
    """Rows (n, d) that are normalised when they are read; `ready` says that they are already."""

    values: NDArray[np.floating]
    ready: bool

    @classmethod
    def of(cls, x: NDArray[np.floating]) -> Rows:
        """x in memory, normalised, if it is not too large for that."""
        if x.size > RESIDENT:
            return cls(x, False)
        return cls(_unit_rows(np.asarray(x, dtype=np.float32)), True)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: slice | NDArray[np.int64]) -> NDArray[np.floating]:
        chosen = self.values[index]
        return chosen if self.ready else _unit_rows(np.asarray(chosen, dtype=np.float32))

    def finite(self) -> bool:
        """Whether every value is."""
        return all(np.isfinite(self.values[block]).all() for block in _blocks(len(self), 65536))


def lloyd(unit: NDArray[np.floating], centroids: NDArray[np.floating],
          iterations: int) -> Division:
    """Alternate assignment by largest cosine and renormalised means until nothing changes.

    `unit` has unit rows. A group that loses all its images takes the image that is farthest from
    its own centroid.
    """
    return _run(Rows(unit, True), centroids, iterations)


def _run(rows: Rows, centroids: NDArray[np.floating], iterations: int) -> Division:
    """`lloyd`, by blocks of rows where not all similarities are held at once."""
    steps = _whole if len(rows) * len(centroids) <= SMALL else _by_blocks
    assignment = np.full(len(rows), -1)
    for _ in range(iterations):
        new, _own, means = steps(rows, centroids)
        if (new == assignment).all():
            break
        assignment, centroids = new, means()
    final, own = steps(rows, centroids, False)[:2]
    return Division(final.astype(np.int64), centroids.astype(np.float32),
                    float(own.astype(np.float64).mean()))


def _whole(rows: Rows, centroids: NDArray[np.floating], fill: bool = True) -> Step:
    """The assignment, the cosines to the own centroid, and the new centroids when called."""
    unit, k = rows[:], len(centroids)
    similarity = _product(unit, centroids.T)
    new, own = similarity.argmax(1), similarity.max(1)
    if fill:
        _fill_empty(new, own, k)
    return new, own, lambda: _means(unit, new, k)


def _by_blocks(rows: Rows, centroids: NDArray[np.floating], fill: bool = True) -> Step:
    """As `_whole`, holding one block of similarities; sums are float32 in a block, then float64."""
    k, d = centroids.shape
    size = max(256, min(4096, 2**21 // k))
    new, own = np.empty(len(rows), np.int64), np.empty(len(rows), np.float32)
    sums = torch.zeros(k, d, dtype=torch.float64)
    columns = torch.from_numpy(np.ascontiguousarray(centroids, np.float32))
    assign, columns = (_assign_few, columns) if k < FEW else (_assign_many, _padded(columns))
    for block in _blocks(len(rows), size):
        x = torch.from_numpy(np.ascontiguousarray(rows[block], np.float32))
        index, value = assign(x, columns)
        new[block], own[block] = index.numpy(), value.numpy()
        sums += _sums(x, new[block], k)
    if fill and (moved := _fill_empty(new, own.copy(), k)):
        for row, before in moved:
            x = torch.from_numpy(rows[np.array([row])][0].astype(np.float64))
            sums[before] -= x
            sums[new[row]] += x
    sizes = np.maximum(np.bincount(new, minlength=k), 1)[:, None]
    return new, own, lambda: _unit_rows(sums.numpy() / sizes).astype(np.float32)


def _sums(x: Tensor, groups: NDArray[np.int64], k: int) -> Tensor:
    """The sum of the rows x (b, d) of each group, (k, d).

    0.7 ms for 50,000 x 128 in 10 groups; index_add_ takes 2.9, the one-hot product 3.3.
    """
    # numpy sorts numbers of 8 and 16 bits by radix
    order = groups.astype(np.min_scalar_type(k)).argsort(kind="stable")
    starts = np.bincount(groups, minlength=k).cumsum()[:-1]
    return torch.nn.functional.embedding_bag(
        torch.from_numpy(order), x, torch.from_numpy(np.r_[0, starts]), mode="sum")


def _assign_many(x: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest centroid of each row (b,), and its cosine."""
    if torch.backends.mkldnn.is_available():
        # oneDNN's own layout: 69 ms instead of 149 by MKL for 50,000 x 128 x 1,000 on an AMD EPYC
        packed = x.to_mkldnn(), centroids.to_mkldnn()
        similarity = torch.nn.functional.linear(*packed).to_dense()
    else:
        similarity = x @ centroids.T
    # the largest of every LANES-th column, then where: max with its index is not vectorised, 1.2 ms
    # instead of 0.2 for 1,024 x 1,024
    columns = similarity.view(len(x), -1, LANES)
    value, lane = columns.amax(1).max(1)
    place = columns[torch.arange(len(x)), :, lane].argmax(1)
    return place * LANES + lane, value


def _assign_few(x: Tensor, centroids: Tensor) -> tuple[Tensor, Tensor]:
    """As `_assign_many`, with one row a centroid: no step of it goes through the images singly."""
    similarity = centroids @ x.T
    value = similarity.amax(0)
    nearest = similarity.eq_(value)
    if int(nearest.sum(dtype=torch.float64)) != len(x):  # of equals the first one
        return nearest.argmax(0), value
    number = torch.arange(len(centroids), dtype=x.dtype)
    return (number @ nearest).long(), value


def _padded(centroids: Tensor) -> Tensor:
    """As many rows as LANES divides: the first is repeated, which of equals is never chosen."""
    return torch.cat([centroids, centroids[:1].expand(-len(centroids) % LANES, -1)])


def _blocks(n: int, size: int) -> Iterator[slice]:
    return (slice(start, start + size) for start in range(0, n, size))


def _start(rows: Rows, k: int, rng: np.random.Generator) -> NDArray[np.floating]:
    """k-means++ on all rows, or of very many on 256 a group (at least 16,384) drawn from them."""
    if rows.ready and len(rows) <= SEEDS:
        return plus_plus(rows[:], k, rng)
    count = max(16384, 256 * k)
    if count >= len(rows):
        return plus_plus(rows[:], k, rng)
    drawn = np.sort(rng.choice(len(rows), count, replace=False, shuffle=False))
    return plus_plus(rows[drawn], k, rng)


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


def _fill_empty(assignment: NDArray[np.integer], own: NDArray[np.floating],
                k: int) -> list[tuple[int, int]]:
    """Give every empty group, in place, the worst-placed image of a group with others.

    own (n,) is the cosine to the own centroid. Returns the images and the groups they were in.
    """
    sizes, moved = np.bincount(assignment, minlength=k), []
    for group in np.flatnonzero(sizes == 0):
        movable = np.where(sizes[assignment] > 1, own, np.inf)
        row = int(movable.argmin())
        moved.append((row, int(assignment[row])))
        sizes[assignment[row]] -= 1
        assignment[row], own[row] = group, np.inf
        sizes[group] = 1
    return moved
