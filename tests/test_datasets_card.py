"""The card: skew and repetition measured, not declared."""

from __future__ import annotations

import json

import numpy as np
import pytest

import datasets
from datasets import card as cards
from datasets.types import Images


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
    assert card["overlap"]["test"]["exact"] == card["overlap"]["test"]["near"] == 0
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
    whole = cards.repeats(cards.thumbnails(pixels))
    monkeypatch.setattr(cards, "BLOCK", 7)
    assert (cards.repeats(cards.thumbnails(pixels)) == whole).all() and whole.sum() == 40


def test_flat_images_are_no_near_copies_and_sizes_below_16_work() -> None:
    flat = np.full((3, 8, 8, 3), 9, np.uint8)
    assert not cards.repeats(cards.thumbnails(flat)).any()
    assert cards.distinct(flat)["exact"] == 1


def test_thumbnails_average_evenly() -> None:
    box = cards._box(40)
    np.testing.assert_allclose(box.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(box.sum(0), 16 / 40, rtol=1e-6)
