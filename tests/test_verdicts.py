"""Verdicts and directions come out as planted."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.peers import peers
from harness.verdicts import (
    ABOVE,
    BELOW,
    MISSING,
    NOT_COMPARABLE,
    REPRODUCED,
    Entry,
    Spread,
    directions,
    judge,
    rounding,
    spread_for,
    spreads,
)

SPREAD = Spread(0.5, "planted")


@pytest.mark.parametrize(("shift", "name"), [
    (0.0, REPRODUCED), (0.5, REPRODUCED), (-0.5, REPRODUCED), (3.0, ABOVE), (-3.0, BELOW)])
@pytest.mark.parametrize("seeds", [1, 3, 5, 10])
def test_planted_truths(shift: float, name: str, seeds: int) -> None:
    noise = np.random.default_rng(0).normal(0, 0.2, seeds)
    found = judge(68.5, list(68.5 + shift + noise - noise.mean()), spread=SPREAD)
    assert (found.name, found.n) == (name, seeds)
    assert found.delta == pytest.approx(shift)
    assert math.isnan(found.low) == (seeds == 1)
    assert ("one seed, so no interval of ours" in found.why) == (seeds == 1)


def test_how_often_a_true_number_is_called_reproduced() -> None:
    # without any slack the verdict is the t interval's own: 95 % of intervals hold the truth
    draws = np.random.default_rng(1).normal(70.0, 0.4, (1000, 3))
    names = [judge(70.0, list(values), rounding=0.0).name for values in draws]
    share = names.count(REPRODUCED) / len(names)
    assert 0.93 < share < 0.97
    assert abs(names.count(ABOVE) - names.count(BELOW)) < 40


def test_what_differs_forbids_a_verdict_but_not_the_difference() -> None:
    found = judge(68.5, [68.4, 68.6], differs=("scale: smoke", "data: photos"), spread=SPREAD)
    assert found.name == NOT_COMPARABLE and found.why == ("scale: smoke", "data: photos")
    assert found.delta == pytest.approx(0.0) and found.n == 2


def test_nothing_of_ours_is_missing_with_its_reason() -> None:
    assert judge(68.5, []).why == ("not run yet",)
    found = judge(68.5, [], missing=["JFT-300M is private"], differs=("scale",))
    assert found.name == MISSING and found.why == ("JFT-300M is private",) and found.n == 0


def test_spreads_are_those_of_the_peers() -> None:
    found = spreads(peers())
    assert found["mocov2"].half == pytest.approx((67.5 - 66.4) / 2)
    assert found["byol"].half == pytest.approx(0.25)
    assert found["swav"].half == pytest.approx((73.07 - 70.5) / 2)
    assert 0.25 <= found[""].half <= 1.3 and "median" in found[""].why
    assert spread_for(found, "dnc", "linear", "top1", "imagenet") == found[""]
    assert spread_for(found, "mocov2", "linear", "top1", "imagenet") == found["mocov2"]
    assert spread_for(found, "mocov2", "knn", "top1", "cifar10") is None


def test_spread_of_different_settings_is_no_spread() -> None:
    entries = [{"epochs": 100, "batch_size": 256, "top1": 60.0},
               {"epochs": 200, "batch_size": 256, "top1": 70.0}, {"epochs": 200, "top1": 50.0}]
    assert spreads({"spread": {"byol": entries}, "statements": []}) == {}


def test_rounding() -> None:
    assert rounding(68.5, False) == pytest.approx(0.05)
    assert rounding(74.0, False) == pytest.approx(0.05)
    assert rounding(67.43, False) == pytest.approx(0.005)
    assert rounding(0.573, False) == pytest.approx(0.0005)
    assert rounding(68.5, True) == 0.5


def entry(label: str, budget: float, published: float, *values: float,
          group: str = "yfcc") -> Entry:
    return Entry(label, group, budget, published, dict(enumerate(values)))


def test_directions_compare_equal_budgets_on_equal_data() -> None:
    found = directions([
        entry("MoCLR 3000", 3000, 65.7, 50.0, 50.1), entry("DnC 3000", 3000, 67.8, 52.0, 52.1),
        entry("MoCLR 5000", 5000, 66.1, 55.0, 55.1), entry("BYOL 5000", 5000, 67.0, 54.0, 54.1),
        entry("DnC 4500", 4500, 68.5, 56.0, 53.0), entry("other", 3000, 1.0, 1.0, group="jft")])
    assert {(d.row, d.base): d.agrees for d in found} == {
        ("DnC 3000", "MoCLR 3000"): True, ("BYOL 5000", "MoCLR 5000"): False,
        ("DnC 4500", "MoCLR 5000"): None, ("DnC 4500", "BYOL 5000"): None}
    assert found[0].published == pytest.approx(2.1) and found[0].ours.n == 2


def test_rows_that_differ_in_budget_alone_are_compared() -> None:
    found = directions([entry("60", 2560, 74.0, 50.0), entry("500", 3000, 75.8, 51.0)])
    assert [(d.row, d.base, d.agrees, d.ours.n) for d in found] == [("500", "60", True, 1)]


def test_a_direction_without_ours_is_open() -> None:
    found, = directions([entry("a", 1, 74.0), entry("b", 1, 75.8, 51.0)])
    assert found.agrees is None and found.ours.missing
    tied, = directions([entry("a", 1, 74.0, 1.0), entry("b", 1, 74.0, 2.0)])
    assert tied.agrees is None
