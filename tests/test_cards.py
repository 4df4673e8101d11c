"""Cards in the store: one for each data set that was trained on, made once, stopping nothing."""

from __future__ import annotations

import json
import shutil
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


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Plan]:
    """A store with the cards of a small study that has a target."""
    results = tmp_path_factory.mktemp("cards")
    plan = planned(results, "grid.evaluations=[knn,knn@digits]")
    assert cards.write(plan, results) == []
    return results, plan


def test_each_data_set_gets_a_card_once(made: tuple[Path, Plan],
                                        monkeypatch: pytest.MonkeyPatch) -> None:
    results, plan = made
    found = cards.cards(results)
    assert set(found) == set(cards.trained_on(plan)) and len(found) == 2
    assert sorted(stored.card["unlabelled"] for stored in found.values()) == [0, 95]
    for fingerprint, stored in found.items():
        assert stored.card["fingerprint"] == fingerprint and stored.picture is not None
        with Image.open(stored.picture) as picture:
            assert picture.size[0] > 500
    monkeypatch.setattr(cards, "_make", lambda *_: pytest.fail("made again"))
    assert cards.write(plan, results) == []


def test_a_damaged_older_or_half_written_card_is_made_again(
        made: tuple[Path, Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, plan = made
    again: list[Path] = []
    monkeypatch.setattr(cards, "_make", lambda _plan, _data, path: again.append(path))
    shutil.copytree(results / "store", tmp_path / "store")
    one, two = sorted((tmp_path / "store" / "cards").glob("*.json"))
    one.write_text("{")
    two.write_text(json.dumps({**json.loads(two.read_text()), "revision": -1}))
    cards.write(plan, tmp_path)
    assert sorted(again) == [one, two]
    two.with_suffix(".png").unlink()
    assert cards.write(plan, tmp_path) == [] and len(again) == 4


def test_a_card_that_cannot_be_made_is_a_note(tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(tmp_path)

    def fail(*_: Any) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(cards, "_make", fail)
    lines = cards.write(plan, tmp_path)
    assert len(lines) == 2 and all("no space left" in line for line in lines)
    assert cards.cards(tmp_path) == {}


def test_targets_are_compared_with_the_training_images(made: tuple[Path, Plan]) -> None:
    overlaps = {stored.card["unlabelled"]: stored.card["overlap"]
                for stored in cards.cards(made[0]).values()}
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


@pytest.mark.parametrize("grid", ["diversity", "mixture", "spurious"])
@pytest.mark.parametrize("scale", ["smoke", "laptop"])
def test_grids_of_controls_hold_the_total(tmp_path: Path, grid: str, scale: str) -> None:
    plan = planned(tmp_path, f"grid={grid}", f"scale={scale}")
    totals = {spec["images"] for spec in cards.trained_on(plan).values()}
    assert totals == {190 if scale == "smoke" else 684}
    assert len(cards.trained_on(plan)) == len(plan.study.conditions) > 1


def test_a_card_of_the_laptop_scale_takes_2_seconds_at_most(tmp_path: Path) -> None:
    plan = planned(tmp_path, "scale=laptop", "grid.axis.values=[0.25,0.5]")
    started = time.process_time()
    assert cards.write(plan, tmp_path) == [] and len(cards.cards(tmp_path)) == 2
    assert time.process_time() - started < 2 * 2
