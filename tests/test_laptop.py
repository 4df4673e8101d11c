"""The default study, whole: every method must have learnt. Minutes, so it is marked slow."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from support import sweep

from methods.registry import discover

TRAINED = ("simclr", "mocov2", "byol", "moclr", "fnc", "cld", "dnc")
REFERENCES = ("random_init", "raw_pixels", "supervised")
# 17 on two quiet cores; a busy machine must not fail what is about accuracy
MINUTES = 50


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One store for both grids: the second pays only for the methods that it adds."""
    return tmp_path_factory.mktemp("laptop")


def accuracy(results: Path, grid: str) -> pd.Series:
    """Run a grid; mean linear top-1 accuracy by method and condition, in points, n=3 each."""
    done = sweep(results, base=(f"grid={grid}",), timeout=60 * MINUTES)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    frame = pd.read_parquet(results / f"{grid}-laptop/records.parquet")
    frame = frame[(frame.evaluation == "linear") & (frame.metric == "top1")]
    by_cell = frame.groupby(["method", "condition"])
    assert (by_cell.seed.nunique() == 3).all()
    return 100 * by_cell.value.mean()


@pytest.fixture(scope="module")
def gap(results: Path) -> pd.Series:
    """The default study."""
    found = accuracy(results, "curation_gap")
    assert len(found) == 2 * (len(TRAINED) + len(REFERENCES) + 1)
    return found


@pytest.mark.slow
def test_every_method_of_the_default_study_learns(gap: pd.Series) -> None:
    for method in TRAINED:
        assert gap[method, "curated"] >= gap["random_init", "curated"] + 5, method
        assert gap[method, "uncurated"] > gap["random_init", "uncurated"], method


@pytest.mark.slow
def test_labels_are_worth_more_than_any_method(gap: pd.Series) -> None:
    best = max(gap[method, "curated"] for method in TRAINED)
    assert gap["supervised", "curated"] > best


@pytest.mark.slow
def test_every_method_learns(results: Path, gap: pd.Series) -> None:
    found = accuracy(results, "methods").xs("curated", level="condition")
    # a student of teachers is DnC's last stage, and whoever made a checkpoint trained it
    every = {name for name, spec in discover().items()
             if "teachers" not in spec.needs and name != "checkpoint"}
    assert set(found.index) == every and len(every) >= 20
    for method in every - set(REFERENCES):
        assert found[method] > found["random_init"], method
