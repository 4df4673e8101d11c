"""The card: skew and repetition measured, not declared."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import datasets
from datasets import card as cards
from datasets import copies, multilabel
from datasets._build import Sample
from datasets.types import Images, Selection
from harness import card_picture

SHARED = Path(os.environ.get("CURATION_GAP_SHARED", Path(__file__).parents[2] / "shared"))


def images(pixels: np.ndarray) -> Images:
    n = len(pixels)
    return Images(pixels, np.zeros(n, np.int64), np.full(n, -1), ("one",))


def test_the_card_of_photos_is_plain_data() -> None:
    spec = {"source": "photos", "size": 190, "controls": {"long_tail": {"imbalance": 20},
                                                          "correlation": {"repeats": 4}}}
    resolved = datasets.resolve(spec)
    card = cards.card(resolved)
    assert json.loads(json.dumps(card)) == card
    assert card["images"] == {"train": 190, "validation": 323, "test": 1368}
    assert sum(card["class_counts"].values()) == 190 and len(card["class_counts"]) == 19
    assert 15 <= card["imbalance"] <= 20 and 0.3 < card["gini"] < 0.6
    assert card["distinct"]["by_construction"] == sum(
        -(-n // 4) for n in card["class_counts"].values())
    assert card["overlap"]["test"]["exact"] == 0
    assert card["overlap"]["test"]["near"] <= 2  # textures: brick looks like brick
    assert card["fingerprint"] == resolved["fingerprint"]


def test_gini_and_imbalance() -> None:
    assert cards.gini(np.array([5, 5, 5])) == 0 and cards.imbalance(np.array([5, 5])) == 1
    assert cards.gini(np.array([0, 9])) == 0  # of the classes that are there
    assert abs(cards.gini(np.array([1, 3])) - 0.25) < 1e-12
    assert cards.imbalance(np.array([100, 0, 4])) == 25


def test_copies_are_counted_exactly_and_nearly() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(30, 220, (50, 32, 32, 3), dtype=np.uint8)
    brighter = base[:10] + 5
    pixels = np.concatenate([base, base[:5], brighter])
    found = cards.distinct(pixels)
    assert found["exact"] == 60 and found["near"] == 50 and found["effective"] == 50
    shared = cards.overlap(images(pixels[45:]), images(base))
    assert shared["exact"] == 10 and shared["near"] == 20 and shared["images"] == 20


def test_blocks_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    base = rng.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    pixels = np.concatenate([base, base[::-1]])
    whole = copies.repeats(copies.hashes(pixels))
    monkeypatch.setattr(copies, "BLOCK", 7)
    assert (copies.repeats(copies.hashes(pixels)) == whole).all() and whole.sum() == 40


def test_flat_images_are_no_near_copies_and_any_size_works() -> None:
    flat = np.full((3, 8, 8, 3), 9, np.uint8)
    assert not copies.repeats(copies.hashes(flat)).any()
    assert cards.distinct(flat)["exact"] == 1
    for side in (5, 8, 32, 40, 224):
        rows = copies.hashes(np.random.default_rng(0).integers(
            0, 256, (6, side, side, 3), dtype=np.uint8))
        np.testing.assert_allclose((rows ** 2).sum(1), 1, rtol=1e-5)
        assert (copies.matches(rows, rows[:3]) == [True] * 3 + [False] * 3).all()


def test_the_transform_is_a_cosine_transform_of_even_averages() -> None:
    waves = copies._transform(32)
    np.testing.assert_allclose(waves[1:] @ waves[1:].T, np.eye(7), atol=1e-6)
    np.testing.assert_allclose(copies._transform(40)[1:].sum(1), 0, atol=1e-5)


def test_hashes_are_as_near_as_bits_are_equal() -> None:
    rng = np.random.default_rng(0)
    rows = np.where(rng.random((2, 64)) < 0.5, 0.125, -0.125).astype(np.float32)
    for flipped, near in ((0, True), (6, True), (7, False)):
        other = rows[:1].copy()
        other[0, :flipped] *= -1
        assert copies.matches(other, rows)[0] == near


def test_a_sample_is_scaled_up_and_says_what_was_looked_at() -> None:
    resolved = datasets.resolve({"source": "photos", "size": 190, "controls": {
        "mixture": {"share": 0.2, "source": "digits"}, "correlation": {"repeats": 4}}})
    whole, part = cards.card(resolved), cards.card(resolved, limit=50)
    assert part["class_counts"] == whole["class_counts"] and part["images"] == whole["images"]
    assert part["distinct"]["compared"] == 50 and whole["distinct"]["compared"] == 190
    assert part["unlabelled"] == whole["unlabelled"] == 38
    assert part["overlap"]["test"]["of"] == 1368 and part["overlap"]["test"]["images"] == 50
    looked = cards.look(resolved, limit=50)
    built = datasets.build(resolved, "train")
    at = [np.flatnonzero((built.pixels == image).all((1, 2, 3))) for image in looked.images.pixels]
    assert all(len(one) for one in at) and (looked.labels == built.labels).all()


def test_other_evaluation_sets_are_compared_too() -> None:
    photos = datasets.resolve({"source": "photos", "size": 95})
    digits = datasets.resolve({"source": "digits", "image_size": 32})
    own = datasets.resolve({"source": "photos", "size": 19})
    card = cards.card(photos, held={"digits": cards.Held(digits),
                                    "itself": cards.Held(own, "train")})
    assert card["overlap"]["digits"]["exact"] == card["overlap"]["digits"]["near"] == 0
    assert card["overlap"]["itself"]["exact"] == 19


def test_images_of_several_classes_count_in_each(monkeypatch: pytest.MonkeyPatch) -> None:
    signs = np.array([[1, -1, 1], [1, 0, -1], [-1, -1, 1], [1, -1, -1]])
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    labels = multilabel.pack(signs)
    found = Images(pixels, labels, np.full(4, -1), ("a", "b", "c"))
    place = np.arange(4)
    sample = Sample(found, Selection(place, np.zeros(4, np.int64)), 4, 4, labels)
    monkeypatch.setattr(cards, "look", lambda *_, **__: sample)
    several = next(name for name, source in datasets.SOURCES.items() if source.multilabel)
    card = cards.of(sample, {"source": several, "fingerprint": "", "controls": {}, "seed": 0,
                             "image_size": 8})
    assert card["class_counts"] == {"a": 3, "b": 0, "c": 2}
    assert card_picture.draw([card_picture.Panel("several", card, sample)])[:4] == b"\x89PNG"


def test_judged_near_duplicates_of_cifar_are_found_as_often_as_the_documentation_says() -> None:
    """ciFAIR's pairs, with as many test images that have none."""
    path = SHARED / "data" / "lists" / "cifair" / "duplicates_cifar10.csv"
    packed = SHARED / "data" / "cifar10" / "cifar10_jpeg75.npz"
    if not (path.is_file() and packed.is_file()):
        pytest.skip(f"{path} or {packed} is not there; set CURATION_GAP_SHARED")
    pairs = np.array([line.split(",")[:2] for line in path.read_text().split()[1:]], dtype=int)
    others = np.setdiff1d(np.arange(2000), pairs[:, 0])[:300]
    held = copies.hashes(_cifar(packed, 50_000 + np.concatenate([pairs[:, 0], others])))
    found = copies.matches(held, copies.hashes(_cifar(packed, pairs[:, 1])))
    assert len(pairs) == 286 and 0.32 < found[:286].mean() < 0.38
    assert found[286:].sum() <= 1


def test_near_copies_of_tracks_are_mostly_within_a_track() -> None:
    folder = SHARED / "data" / "gtsrb32"
    if not (folder / "gtsrb32_train_subset_lossless.webp").is_file():
        pytest.skip(f"{folder} is not there; set CURATION_GAP_SHARED")
    sheet = np.asarray(Image.open(folder / "gtsrb32_train_subset_lossless.webp").convert("RGB"))
    tiles = sheet.reshape(-1, 32, 30, 32, 3).transpose(0, 2, 1, 3, 4).reshape(-1, 32, 32, 3)
    with np.load(folder / "gtsrb32_subset_meta.npz", allow_pickle=False) as meta:
        track = meta["y_train"].astype(int) * 1000 + meta["track_train"]  # numbered in each class
    rows = copies.hashes(tiles)
    near = np.triu(rows @ rows.T > copies._least(copies.BITS), k=1)
    within = near & (track[:, None] == track[None])
    assert len(np.unique(track)) == 170 and near.sum() > 1000
    assert within.sum() / near.sum() > 0.8
    whole = cards.distinct(tiles)
    assert whole["effective"] < 0.8 * len(tiles) < cards.distinct(tiles[::30])["near"] * 30


def _cifar(path: Path, index: np.ndarray) -> np.ndarray:
    with np.load(path, allow_pickle=False) as packed:
        header, blob, offsets = packed["header"].tobytes(), packed["blob"], packed["offsets"]
    return np.stack([np.asarray(Image.open(io.BytesIO(
        header + blob[offsets[i]:offsets[i + 1]].tobytes())).convert("RGB")) for i in index])
