"""DnC's division of very many images, and what it says of classes where not all are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from harness.evaluation.clusters import Division, agreement, spherical_kmeans
from harness.training import division
from harness.training.seeds import derive


def images() -> NDArray[np.uint8]:
    """Three colours with noise, (600, 1, 1, 3), and their number by position % 3."""
    rng = np.random.default_rng(0)
    means = np.array([[200, 20, 20], [20, 200, 20], [20, 20, 200]])
    noisy = means[np.arange(600) % 3] + rng.integers(-15, 16, (600, 3))
    return noisy.astype(np.uint8)[:, None, None]


def embed(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The colour, (n, 3)."""
    seen.append(len(pixels))
    return np.asarray(pixels, np.float32).reshape(len(pixels), 3)


seen: list[int] = []


def test_all_images_are_clustered_where_they_are_few() -> None:
    found = division.divide(embed, images(), 3, 5)
    wanted = spherical_kmeans(embed(images()), 3, derive(5, "kmeans"))
    assert (found.assignment == wanted.assignment).all()
    assert (found.centroids == wanted.centroids).all()
    assert found.objective == wanted.objective


def test_of_very_many_a_sample_gives_the_centroids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(division, "SAMPLE", 100)
    monkeypatch.setattr(division, "BLOCK", 64)
    seen.clear()
    found = division.divide(embed, images(), 3, 5)
    assert seen == [100, *[64] * 9, 24], "the sample, then every image once, a block at a time"
    assert found.assignment.shape == (600,) and found.assignment.dtype == np.int64
    groups = found.assignment.reshape(200, 3)
    assert (groups == groups[0]).all() and len(set(groups[0].tolist())) == 3
    assert 0.99 < found.objective <= 1
    again = division.divide(embed, images(), 3, 5)
    assert (again.centroids == found.centroids).all()
    assert (division.divide(embed, images(), 3, 6).centroids != found.centroids).any()


def test_images_without_a_label_say_nothing_of_the_classes() -> None:
    labels, groups = np.repeat([0, 1], 5), np.repeat([0, 1], 5)
    mixed = np.concatenate([labels, np.full(10, -1)]), np.concatenate([groups, 1 - groups])
    empty = np.zeros((2, 0), np.float32)
    found = division.fit(mixed[0], Division(mixed[1], empty, 0.0))
    assert found == agreement(labels, groups) and found["majority_top1"] == 1
    assert division.fit(np.full(10, -1), Division(groups, empty, 0.0)) == {}
