from __future__ import annotations

import pytest

from harness import stages
from harness.stages import Stage, canonical, in_order


def test_key_is_of_content_not_of_order() -> None:
    one = Stage("pretrain", {"a": 1, "b": [1, 2]})
    other = Stage("pretrain", {"b": [1, 2], "a": 1})
    assert one.key == other.key and one == other and len({one, other}) == 1
    assert len(one.key) == 64


def test_key_is_stable_across_versions() -> None:
    # a change here makes every store in the world worthless: raise a revision instead
    stage = Stage("evaluate", {"evaluation": "knn"}, {"features": Stage("features", {"x": 1.5})})
    assert stage.key == (
        "6d0bc81eb87a83255378585843ccf665012890a83ad813be04258d7c73c4abcb")


@pytest.mark.parametrize("other", [
    Stage("cluster", {"a": 1}), Stage("pretrain", {"a": 2}), Stage("pretrain", {"a": 1, "b": None}),
    Stage("pretrain", {"a": 1}, {"base": Stage("pretrain", {})})])
def test_every_difference_changes_the_key(other: Stage) -> None:
    assert Stage("pretrain", {"a": 1}).key != other.key


def test_revision_changes_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Stage("pretrain", {}).key
    monkeypatch.setitem(stages.REVISIONS, "pretrain", 99)
    assert Stage("pretrain", {}).key != before


def test_nan_is_no_parameter() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical({"lr": float("nan")})


def test_in_order_puts_inputs_first_and_each_once() -> None:
    base = Stage("pretrain", {"n": 0})
    left, right = (Stage("pretrain", {"n": n}, {"base": base}) for n in (1, 2))
    top = Stage("pretrain", {"n": 3}, {"teacher0": left, "teacher1": right})
    ordered = in_order([top, right])
    assert [s.params["n"] for s in ordered] == [0, 1, 2, 3]
