"""Class counts: profiles at a fixed total, and the builders of published long-tailed sets.

Weights and counts run from the head class to the tail class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

PROFILES = ("exponential", "pareto", "step")


def apportion(weights: NDArray[np.float64], total: int) -> NDArray[np.int64]:
    """Integers in proportion to `weights`: they sum to `total`, and none is below 1.

    Largest remainders get the rounding; ties go to the earlier class, so falling weights give
    counts that never rise. Raises ValueError if there are more classes than images.
    """
    weights = np.asarray(weights, dtype=np.float64)
    if total < len(weights):
        raise ValueError(f"a total of {total} cannot hold one image of each of {len(weights)} "
                         f"classes: set size to at least {len(weights)}")
    quota = np.ones(len(weights))
    free = np.ones(len(weights), dtype=bool)
    while free.any():  # classes whose share is below one image get one, the rest share again
        share = weights[free] / weights[free].sum() * (total - (~free).sum())
        quota[free] = share
        if (share >= 1).all():
            break
        small = free & (quota < 1)
        quota[small] = 1
        free &= ~small
    # 1e-9: a quota such as 2.9999999999 is 3 with a rounding error, not 2 with a remainder
    counts = np.floor(quota + 1e-9).astype(np.int64)
    order = np.lexsort((np.arange(len(quota)), -(quota - counts).round(9)))
    counts[order[:total - int(counts.sum())]] += 1
    return counts


def profile_weights(profile: str, classes: int, imbalance: float,
                    alpha: float = 6.0) -> NDArray[np.float64]:
    """Weights from head to tail whose first is `imbalance` times the last; float64 (C,).

    exponential: imbalance^(-c/(C-1)) (Cui et al. 2019; LDAM). step: the first half at 1, the
    second at 1/imbalance (Buda et al. 2018; LDAM). pareto: quantiles of a Pareto (type II) law
    with power alpha, 6 for ImageNet-LT (Liu et al. 2019), cut off where the ratio is reached.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile must be one of {', '.join(PROFILES)}, not {profile!r}")
    if not imbalance >= 1 or not np.isfinite(imbalance):
        raise ValueError("imbalance is max/min of the class counts, so at least 1, "
                         f"not {imbalance}")
    if classes == 1:
        return np.ones(1)
    position = np.arange(classes) / (classes - 1)
    if profile == "exponential":
        return np.asarray(imbalance ** -position)
    if profile == "step":
        return np.where(np.arange(classes) < classes // 2, 1.0, 1.0 / imbalance)
    if not alpha > 0:
        raise ValueError(f"alpha, the power of the Pareto law, must be above 0, not {alpha}")
    first = 0.5 / classes
    head = first ** (-1 / alpha) - 1
    last = (1 + head / imbalance) ** -alpha
    weights = (first + (last - first) * position) ** (-1 / alpha) - 1
    return np.asarray(weights / head)


def ldam_counts(classes: int, largest: float, profile: str, factor: float) -> NDArray[np.int64]:
    """Official CIFAR-LT class counts, int64 (C,); factor = min/max, e.g. 0.01.

    LDAM-DRW, imbalance_cifar.py, get_img_num_per_cls (truncated): CIFAR-10 5000, CIFAR-100 500.
    SDCLR and its successors use the same with 4500 and 450.
    """
    if profile == "exp":
        return np.array([int(largest * factor ** (c / (classes - 1.0))) for c in range(classes)])
    if profile == "step":
        head = classes // 2
        return np.array([int(largest)] * head + [int(largest * factor)] * (classes - head))
    raise ValueError(f"profile must be 'exp' or 'step', not {profile!r}")


def sdclr_counts(classes: int, factor: float = 0.01) -> NDArray[np.int64]:
    """SDCLR's CIFAR-10/100-LT counts: LDAM's rule from the 45,000 images of its training part."""
    return ldam_counts(classes, 45_000 // classes, "exp", factor)


def ldam_indices(labels: NDArray[np.int64], counts: NDArray[np.int64],
                 seed: int = 0) -> NDArray[np.int64]:
    """Official sampling: per class ascending, shuffle its indices, take the first counts[c].

    LDAM-DRW, imbalance_cifar.py, gen_imbalanced_data with np.random.seed(seed): the legacy
    generator is needed to draw the same images. Returns int64 (sum of counts,), class by class.
    """
    rng = np.random.RandomState(seed)
    chosen = []
    for label, count in zip(np.unique(labels), counts, strict=True):
        members = np.flatnonzero(labels == label)
        rng.shuffle(members)
        chosen.append(members[:count])
    return np.concatenate(chosen)


def power_counts(counts: NDArray[np.int64], alpha: float, total: int) -> NDArray[np.int64]:
    """counts^alpha rescaled to `total`: only the skew changes (BalFeat, data/gen_data.py).

    alpha 0 is balanced, 1 keeps the proportions. int64 (C,), each at least 1.
    """
    return apportion(np.asarray(counts, dtype=np.float64) ** alpha, total)
