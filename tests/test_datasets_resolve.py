"""Resolving a specification: complete, checked, all problems at once, and without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import datasets
from datasets.controls import CONTROLS
from datasets.controls.base import Control
from datasets.sources import SOURCES


def problems(spec: dict[str, Any]) -> list[str]:
    with pytest.raises(datasets.DatasetError) as caught:
        datasets.resolve(spec)
    assert caught.value.problems and all("\n" not in line for line in caught.value.problems)
    return caught.value.problems


def test_every_source_says_what_it_is() -> None:
    assert {"photos", "cifar10", "cifar100", "npz", "folder"} <= set(SOURCES)
    for name in SOURCES:
        told = datasets.describe(name)
        assert all(told[key] for key in ("title", "licence", "citation", "layout", "size")), name


def test_all_problems_are_listed_together() -> None:
    found = problems({"source": "photos", "sise": 1, "size": 0, "seed": "a", "controls": {
        "longtail": {}, "correlation": {}, "long_tail": {"imbalance": "x", "profil": "step"}},
        "options": {"colour": 1}})
    text = "\n".join(found)
    for part in ("'sise'. Did you mean 'size'", "data.size must be", "data.seed must be",
                 "'longtail'. Did you mean 'long_tail'", "control 'correlation' needs repeats",
                 "imbalance must be float, not 'x'", "'profil'. Did you mean 'profile'",
                 "'colour'"):
        assert part in text, part
    assert "unknown source 'photo'. Did you mean 'photos'" in problems({"source": "photo"})[0]


def test_too_few_images_name_the_class_and_the_remedy() -> None:
    line = problems({"source": "photos", "size": 19 * 430})[0]
    assert "needs 430 images of class 'text', has 429: reduce size by 1" in line
    assert datasets.resolve({"source": "photos", "size": 19 * 430 - 1})["images"] == 8169
    assert "set data.size=NUMBER" in problems({"source": "photos", "controls": {
        "long_tail": {"imbalance": 10}}})[0]


def test_resolving_completes_defaults_and_is_stable() -> None:
    spec = {"source": "photos", "size": 190, "controls": {"long_tail": {"imbalance": 10}}}
    one = datasets.resolve(spec)
    assert one["controls"]["long_tail"] == {"imbalance": 10.0, "profile": "exponential",
                                            "alpha": 6.0, "order": "label"}
    explicit = {**spec, "seed": 0, "image_size": 32, "path": None, "controls": {
        "long_tail": {"profile": "exponential", "imbalance": 10.0}}}
    assert datasets.resolve(explicit) == one


def test_importing_and_resolving_need_no_torch() -> None:
    code = ("import sys, datasets; datasets.resolve({'source': 'photos', 'size': 190}); "
            "import datasets.recipes, datasets.card; "
            "bad = {'torch', 'torchvision', 'sklearn', 'skimage'} & set(sys.modules); "
            "assert not bad, bad")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)


NEUTRAL = {"correlation": {"repeats": 1}, "spurious": {"share": 0},
           "mixture": {"share": 0, "source": "digits"}}


@pytest.mark.parametrize("name", NEUTRAL)
def test_a_control_that_changes_nothing_makes_the_same_data_set(
        name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One fingerprint, so that one pre-training serves both; and its function agrees."""
    assert {n for n, c in CONTROLS.items() if c.neutral} == set(NEUTRAL)
    spec = {"source": "photos", "size": 190, "seed": 1,
            "controls": {"long_tail": {"imbalance": 5}}}
    plain = datasets.resolve(spec)
    more = {**spec, "controls": {**spec["controls"], name: NEUTRAL[name]}}
    assert datasets.resolve(more) == plain
    # as if it were applied
    monkeypatch.setattr(Control, "idle", lambda *_: False)
    applied = datasets.resolve(more)
    assert applied["fingerprint"] != plain["fingerprint"]
    ours, theirs = datasets.build(plain, "train"), datasets.build(applied, "train")
    assert len(ours.labels) == 190 and (ours.pixels == theirs.pixels).all()
    assert (ours.labels == theirs.labels).all()
