"""The default study, whole: every method must have learnt. Minutes, so it is marked slow."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from support import sweep

TRAINED = ("simclr", "mocov2", "byol", "moclr", "fnc", "cld", "dnc")
# 17 on two quiet cores; a busy machine must not fail what is about accuracy
MINUTES = 50


@pytest.fixture(scope="module")
def accuracy(tmp_path_factory: pytest.TempPathFactory) -> pd.Series:
    """Mean linear top-1 accuracy by method and condition, in points."""
    results: Path = tmp_path_factory.mktemp("laptop")
    done = sweep(results, base=("grid=curation_gap",), timeout=60 * MINUTES)
    assert done.returncode == 0, done.stderr
    print(done.stdout)
    frame = pd.read_parquet(results / "curation_gap-laptop/records.parquet")
    frame = frame[(frame.evaluation == "linear") & (frame.metric == "top1")]
    counts = frame.groupby(["method", "condition"]).seed.nunique()
    assert len(counts) == 2 * (len(TRAINED) + 4) and (counts == 3).all()
    return 100 * frame.groupby(["method", "condition"]).value.mean()


@pytest.mark.slow
def test_every_method_learns(accuracy: pd.Series) -> None:
    for method in TRAINED:
        assert accuracy[method, "curated"] >= accuracy["random_init", "curated"] + 5, method
        assert accuracy[method, "uncurated"] > accuracy["random_init", "uncurated"], method


@pytest.mark.slow
def test_labels_are_worth_more_than_any_method(accuracy: pd.Series) -> None:
    best = max(accuracy[method, "curated"] for method in TRAINED)
    assert accuracy["supervised", "curated"] > best
