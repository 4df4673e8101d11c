"""DnC's "divide": groups of the images that are trained on, by a base's embeddings.

"Divide and Contrast", arXiv 2105.08054, section 3 and appendix C. What is known of the classes is
looked at for the record only.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from datasets.rows import take
from harness.evaluation.clusters import Division, agreement, spherical_kmeans
from harness.training.seeds import Seed, derive

Embed = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
# Images that give the centroids where there are more, as on YFCC100M and JFT-300M (appendix C):
# the hidden layer of all 95 million images would be 1.5 TB.
SAMPLE = 1_500_000
BLOCK = 4096  # images that are embedded and assigned together: 600 MB at 224 px


def divide(embed: Embed, pixels: NDArray[np.uint8], k: int, seed: Seed) -> Division:
    """Spherical k-means of the embeddings of images (n, H, W, 3), in memory or not.

    Of more than SAMPLE images a random SAMPLE gives the centroids, and then every image goes to the
    nearest. `embed` maps images (b, H, W, 3) to (b, d). Raises ValueError as `spherical_kmeans`.
    """
    start = derive(seed, "kmeans")
    if len(pixels) <= SAMPLE:
        return spherical_kmeans(embed(pixels), k, seed=start)
    rng = np.random.default_rng(derive(seed, "centroids"))
    drawn = np.sort(rng.choice(len(pixels), SAMPLE, replace=False, shuffle=False))
    centroids = spherical_kmeans(embed(take(pixels, drawn)), k, seed=start).centroids
    columns = torch.from_numpy(centroids).T
    assignment, total = np.empty(len(pixels), np.int64), 0.0
    for at in range(0, len(pixels), BLOCK):
        x = torch.nn.functional.normalize(torch.from_numpy(embed(pixels[at:at + BLOCK])))
        own, nearest = (x @ columns).max(1)
        assignment[at:at + BLOCK] = nearest.numpy()
        total += float(own.double().sum())
    return Division(assignment, centroids, total / len(pixels))


def fit(labels: NDArray[np.int64], division: Division) -> dict[str, float]:
    """`agreement` with the classes of the images that have a label; nothing where none has.

    labels: int64 (n,), -1 unknown, as of the foreign images of a mixture.
    """
    known = np.flatnonzero(labels >= 0)
    return agreement(labels[known], division.assignment[known]) if len(known) else {}
