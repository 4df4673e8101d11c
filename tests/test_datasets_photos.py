"""The embedded source: disjoint regions, priority of windows, declared counts, clear errors."""

from __future__ import annotations

import numpy as np
import pytest

import datasets
from datasets.sources import photos
from datasets.sources.photos import NAMES, SIDE, Photos


def test_nineteen_photographs_with_declared_counts_equal_to_the_cut_ones() -> None:
    source = Photos()
    assert len(NAMES) == 19 and source.problem() is None
    for split in datasets.SPLITS:
        cut = np.bincount(source.pool(split).labels, minlength=19)
        assert (source.counts(split) == cut).all(), split
    assert photos._pictures_digest() == photos.KNOWN_PICTURES
    pool = source.pool("train")
    assert (source.grid_counts() == np.bincount(pool.labels[pool.tier == 0])).all()


def test_no_pixel_is_shared_between_splits() -> None:
    for image in photos._pictures():
        covered = np.zeros(image.shape[:2], dtype=int)
        for split in datasets.SPLITS:
            area = photos.region(image.shape[0], image.shape[1], split)
            covered[area.top:area.bottom, area.left:area.right] += 1
        assert covered.max() == 1
    for split in datasets.SPLITS:
        windows, pictures = photos._windows(split), photos._pictures()
        assert len(windows.y) > 0
        for number, image in enumerate(pictures):
            area = photos.region(image.shape[0], image.shape[1], split)
            rows = windows.picture == number
            assert windows.y[rows].min() >= area.top
            assert windows.y[rows].max() + SIDE <= area.bottom
            assert windows.x[rows].min() >= area.left
            assert windows.x[rows].max() + SIDE <= area.right


def test_near_duplicates_stay_inside_the_training_region() -> None:
    source = Photos()
    index = np.arange(0, len(source.pool("train")), 97)
    copies = np.full_like(index, 3)
    moved = source.render("train", index, copies, seed=1)
    still = source.pixels("train", index)
    assert (moved != still).any(axis=(1, 2, 3)).mean() > 0.95
    # the moved window is a window of the same region: look for it there, pixel for pixel
    windows, pictures = photos._windows("train"), photos._pictures()
    for row in (0, 5, len(index) - 1):
        image = pictures[windows.picture[index[row]]]
        area = photos.region(image.shape[0], image.shape[1], "train")
        part = image[area.top:area.bottom, area.left:area.right]
        views = np.lib.stride_tricks.sliding_window_view(part, (SIDE, SIDE), axis=(0, 1))
        y, x = windows.y[index[row]], windows.x[index[row]]
        near = views[max(y - 6, 0):y + 7, max(x - 6, 0):x + 7].transpose(0, 1, 3, 4, 2)
        assert (near == moved[row]).all(axis=(2, 3, 4)).any()


def test_windows_overlap_only_once_the_grid_is_used_up() -> None:
    source = Photos()
    pool, grid = source.pool("train"), source.grid_counts()
    least = int(grid.min())
    curated = datasets.select(datasets.resolve({"source": "photos", "size": 19 * least}), "train")
    assert len(curated) == 19 * least and (pool.tier[curated.index] == 0).all()
    more = datasets.select(datasets.resolve({"source": "photos", "size": 19 * 200}), "train")
    used = np.bincount(pool.labels[more.index[pool.tier[more.index] == 0]], minlength=19)
    assert (used == np.minimum(grid, 200)).all()


def test_grid_windows_do_not_overlap_and_none_is_constant() -> None:
    windows = photos._windows("train")
    grid = windows.tier == 0
    assert grid.sum() > 3000
    assert (windows.y[grid] % SIDE == 0).all() and (windows.x[grid] % SIDE == 0).all()
    places = np.stack([windows.picture, windows.y, windows.x], axis=1)
    assert len(np.unique(places, axis=0)) == len(places)
    pixels = Photos().pixels("train", np.flatnonzero(windows.picture == NAMES.index("retina")))
    assert (pixels != pixels[:, :1, :1]).any(axis=(1, 2, 3)).all()


def test_a_missing_picture_names_the_package_and_the_remedy() -> None:
    with pytest.raises(FileNotFoundError, match="scikit-image lacks data/nothing.png; install"):
        photos._locate("skimage", "data", "nothing.png")
    with pytest.raises(FileNotFoundError, match="pip install"):
        photos._locate("skimage", "elsewhere", "astronaut.png")


def test_another_window_side_is_refused() -> None:
    with pytest.raises(datasets.DatasetError, match="set data.image_size=32"):
        datasets.resolve({"source": "photos", "image_size": 64})
