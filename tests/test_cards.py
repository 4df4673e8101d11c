"""Cards in the store: one for each data set that was trained on, made once, stopping nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness import cards, config
from harness.plan import Plan, make_plan
from harness.store import Store
from harness.study import resolve_study


def planned(results: Path, *arguments: str) -> Plan:
    """A plan of a small grid on photos, as the sweep makes it."""
    words = ["grid=mixture", "scale=smoke", f"results={results}", "grid.methods=[simclr]",
             "grid.seeds=[0]", *arguments]
    return make_plan(resolve_study(config.compose(words)), Store(results / "store"))


def test_each_data_set_gets_a_card_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(tmp_path)
    assert cards.write(plan, tmp_path) == []
    found = cards.cards(tmp_path)
    assert set(found) == set(cards.trained_on(plan)) and len(found) == 2
    assert sorted(stored.card["unlabelled"] for stored in found.values()) == [0, 95]
    for fingerprint, stored in found.items():
        assert stored.card["fingerprint"] == fingerprint and stored.picture is not None
        with Image.open(stored.picture) as picture:
            assert picture.size[0] > 500
    monkeypatch.setattr(cards, "_make", lambda *_: pytest.fail("made again"))
    assert cards.write(plan, tmp_path) == []


def test_a_damaged_or_older_card_is_made_again(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    cards.write(plan, tmp_path)
    one, two = sorted((tmp_path / "store" / "cards").glob("*.json"))
    whole = one.read_text()
    one.write_text("{")
    two.write_text(json.dumps({**json.loads(two.read_text()), "revision": -1}))
    assert cards.write(plan, tmp_path) == []
    assert one.read_text() == whole and json.loads(two.read_text())["revision"] > 0


def test_a_card_that_cannot_be_made_is_a_note(tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(tmp_path)

    def fail(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(cards, "_make", fail)
    lines = cards.write(plan, tmp_path)
    assert len(lines) == 2 and all("no space left" in line for line in lines)
    assert cards.cards(tmp_path) == {}


def test_targets_are_compared_with_the_training_images(tmp_path: Path) -> None:
    plan = planned(tmp_path, "grid.evaluations=[knn,knn@digits]")
    cards.write(plan, tmp_path)
    overlaps = {stored.card["unlabelled"]: stored.card["overlap"]
                for stored in cards.cards(tmp_path).values()}
    assert set(overlaps[0]) == {"validation", "test", "digits"}
    assert overlaps[0]["digits"]["exact"] == 0 and overlaps[95]["digits"]["images"] > 100


def test_foreign_images_are_found_where_the_condition_says(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (150, 32, 32, 3), dtype=np.uint8), np.arange(150) % 3
    np.savez(tmp_path / "far.npz", x_train=x, y_train=y, x_test=x[:9], y_test=y[:9])
    plan = planned(tmp_path, "grid.axis.controls.mixture.source=npz",
                   f"+grid.axis.controls.mixture.path={tmp_path / 'far.npz'}")
    assert str(tmp_path) not in json.dumps([stage.params for stage in plan.stages], default=str)
    assert cards.write(plan, tmp_path) == []
    assert len(cards.cards(tmp_path)) == 2


def test_labels_are_asked_for_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="'supervised': needs labels, which 95 of 190 images"):
        planned(tmp_path, "grid.methods=[supervised]")


def test_a_card_of_the_laptop_scale_takes_seconds_at_most(tmp_path: Path) -> None:
    plan = planned(tmp_path, "scale=laptop")
    started = time.process_time()
    assert cards.write(plan, tmp_path) == []
    assert len(cards.cards(tmp_path)) == 4
    assert time.process_time() - started < 4 * 2
