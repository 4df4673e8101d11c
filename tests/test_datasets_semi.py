"""Labelled subsets: balanced, nested, by source image; the published lists give their totals."""

from __future__ import annotations

import lzma
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import datasets
from datasets import lists, semi
from datasets.messages import TooFewImages
from datasets.types import Pool

SHARED = Path(os.environ.get("CURATION_GAP_SHARED", Path(__file__).parents[2] / "shared"))
LISTS = SHARED / "data" / "lists"
seeds = st.integers(0, 2**31)


def pool(labels: np.ndarray, origin: np.ndarray | None = None,
         ids: np.ndarray | None = None) -> Pool:
    n = len(labels)
    return Pool(labels, np.full(n, -1) if origin is None else origin, np.zeros(n, dtype=np.int64),
                np.arange(n) if ids is None else ids)


@settings(deadline=None, max_examples=80)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=8), st.floats(0.01, 1), st.floats(0.01, 1),
       seeds)
def test_shares_are_exact_as_even_as_can_be_and_nested(sizes: list[int], one: float, two: float,
                                                       seed: int) -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(len(sizes)), sizes))
    small, large = sorted((one, two))
    images = pool(labels)
    if int(small * len(labels) + 1e-9) < len(sizes):
        with pytest.raises(ValueError, match="set share to at least"):
            semi.subset(images, share=small, seed=seed)
        return
    few, many = (semi.subset(images, share=share, seed=seed) for share in (small, large))
    counts = np.bincount(labels[few.positions], minlength=len(sizes))
    assert len(few) == int(small * len(labels) + 1e-9) == len(np.unique(few.positions))
    short = counts < np.array(sizes)  # classes that had more to give
    assert not short.any() or counts.max() - counts[short].min() <= 1
    assert np.isin(few.positions, many.positions).all() and (np.diff(few.positions) > 0).all()
    again = semi.subset(images, share=small, seed=seed)
    assert (again.positions == few.positions).all() and again.fingerprint == few.fingerprint


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 20), st.integers(1, 6), st.integers(2, 6), seeds)
def test_shots_take_a_second_frame_of_a_track_only_when_all_tracks_have_one(
        shots: int, tracks: int, frames: int, seed: int) -> None:
    origin = np.repeat(np.arange(3 * tracks), frames)
    labels = origin // tracks
    if shots > tracks * frames:
        with pytest.raises(TooFewImages, match=f"needs {shots} images of class 0, has"):
            semi.subset(pool(labels, origin), shots=shots, seed=seed)
        return
    chosen = semi.subset(pool(labels, origin), shots=shots, seed=seed).positions
    assert (np.bincount(labels[chosen]) == shots).all()
    per_track = np.bincount(origin[chosen], minlength=3 * tracks)
    assert per_track.max() - per_track.min() <= 1


def test_copies_count_as_their_image_and_images_without_label_are_never_chosen() -> None:
    labels, ids = np.repeat([0, 1, -1], 8), np.repeat(np.arange(6), 4)
    chosen = semi.subset(pool(labels, ids=ids), share=1.0).positions
    assert chosen.tolist() == [0, 4, 8, 12]
    resolved = datasets.resolve({"source": "photos", "size": 760,
                                 "controls": {"correlation": {"repeats": 4}}})
    chosen = semi.labelled(resolved, shots=10).positions
    picked = datasets.select(resolved, "train")
    assert len(np.unique(picked.index[chosen])) == 190 and not picked.copy[chosen].any()
    with pytest.raises(datasets.DatasetError, match=r"11 shots of source 'photos': needs 11 images "
                                                    r"of class 'astronaut', has 10"):
        semi.labelled(resolved, shots=11)


def test_the_seed_and_the_rule_are_in_the_fingerprint() -> None:
    images = pool(np.repeat(np.arange(4), 50))
    rules: list[dict[str, float]] = [{"share": 0.1}, {"share": 0.2}, {"shots": 5}, {"shots": 10}]
    prints = {semi.subset(images, **rule, seed=seed).fingerprint  # type: ignore[arg-type]
              for rule in rules for seed in (0, 1)}
    assert len(prints) == 8


@pytest.mark.parametrize(("arguments", "message"), [
    ({}, "not none of them"), ({"share": 0.1, "shots": 3}, "not share and shots"),
    ({"share": 0.0}, "above 0"), ({"share": 1.5}, "at most 1"), ({"shots": 0}, "at least 1"),
    ({"share": 0.1, "missing": "ignore"}, "'error' or 'skip'"), ({"file": "no.txt"}, "is not in"),
])
def test_mistakes_are_one_line(arguments: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        semi.subset(pool(np.repeat(np.arange(4), 50)), folder=tmp_path, **arguments)


@pytest.mark.parametrize(("name", "images"), [("1percent.txt.xz", 12_811),
                                              ("10percent.txt.xz", 128_116)])
def test_simclr_lists_select_by_file_name(name: str, images: int) -> None:
    path = LISTS / "simclr_semi" / name
    if not path.is_file():
        pytest.skip(f"{path} is not there; set CURATION_GAP_SHARED")
    listed = lists.read(path).names or ()
    classes = sorted({file.partition("_")[0] for file in listed})
    assert len(listed) == images and len(classes) == 1000
    number = {wnid: label for label, wnid in enumerate(classes)}
    # ImageNet stood in for by the listed files, with one more of each class
    files = [f"{file.partition('_')[0]}/{file}" for file in listed] + [
        f"{wnid}/{wnid}_0.JPEG" for wnid in classes]
    labels = np.array([number[file.partition("/")[0]] for file in files])
    chosen = semi.subset(pool(labels), file=name, names=files, folder=path.parent)
    assert (chosen.positions == np.arange(images)).all() and not chosen.missing
    assert np.ptp(np.bincount(labels[chosen.positions])) == 1  # 12 or 13, 128 or 129 of each


def test_listed_images_that_are_held_out_are_an_error_or_counted(tmp_path: Path) -> None:
    (tmp_path / "few.txt.xz").write_bytes(lzma.compress(b"a_0.png\na_7.png\nb_1.png\n"))
    files = [f"{name}/{name}_{i}.png" for name in "ab" for i in range(5)]
    images = pool(np.repeat([0, 1], 5))
    with pytest.raises(ValueError, match=r"names 1 images of 3 .* missing=skip"):
        semi.subset(images, file="few.txt.xz", names=files, folder=tmp_path)
    chosen = semi.subset(images, file="few.txt.xz", names=files, folder=tmp_path, missing="skip")
    assert chosen.positions.tolist() == [0, 6] and chosen.missing == 1
    with pytest.raises(ValueError, match="no image of this training set"):
        semi.subset(images, file="few.txt.xz", folder=tmp_path, missing="skip",
                    names=[name.replace("_", "-") for name in files])
    with pytest.raises(ValueError, match="names files"):
        semi.subset(images, file="few.txt.xz", folder=tmp_path)


def test_sdclr_few_shot_sets_number_the_images_of_cifar() -> None:
    path = LISTS / "sdclr_cifar" / "sdclr_cifar10_splits.npz"
    if not path.is_file():
        pytest.skip(f"{path} is not there; set CURATION_GAP_SHARED")
    labels = np.arange(50_000) % 10
    chosen = semi.subset(pool(labels), file=path.name, key="split1_S_b", folder=path.parent)
    assert len(chosen) == 450
