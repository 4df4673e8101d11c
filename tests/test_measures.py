"""A metric is checked, printed and ranked by what it is; features lie in their files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import evaluation_fixtures as fixtures
import numpy as np
import pandas as pd
import pytest
import synthetic
import torch

from harness.errors import UserError
from harness.evaluation.features import available, embed, embed_layers
from harness.evaluation.splits import Features, as_tensor
from harness.measured import check, describe, parse_study
from harness.tables import build_tables


def measured(metric: str, values: dict[str, float]) -> Any:
    """A study with one condition and one metric that has these values, apart by seed."""
    plan = synthetic.study(methods=tuple(values), conditions=synthetic.GAP[:1],
                           evaluations=("alignment",), seeds=(0, 1, 2, 3),
                           headline={"evaluation": "alignment", "metric": metric},
                           protocols={"alignment": {"metrics": [metric]}})
    frame: pd.DataFrame = synthetic.records(plan)
    frame = frame[frame["metric"] == "top1"].assign(metric=metric)
    frame["value"] = frame["method"].map(values) + 1e-4 * frame["seed"] * frame["method"].str.len()
    return check(parse_study(plan), frame, "records")


def test_a_metric_of_which_less_is_better_is_printed_as_it_is_and_ranked_so() -> None:
    table = build_tables(measured("uniformity", {"simclr": -2.5, "byol": -1.5}))[0]
    cell = table.cells["simclr", "curated"]
    assert cell.estimate.text().startswith("-2.50 ± 0.00") and "percent" not in table.legend
    assert cell.best and not table.cells["byol", "curated"].best and "lowest" in table.legend


def test_a_metric_without_a_direction_has_no_best() -> None:
    table = build_tables(measured("false_negative_rate", {"simclr": 0.5, "byol": 0.2}))[0]
    assert not any(cell.best for cell in table.cells.values()) and "Neither" in table.legend
    assert table.cells["simclr", "curated"].estimate.text().startswith("50.1 ± 0.1")


def test_balancedness_is_a_spread_of_which_less_is_better() -> None:
    table = build_tables(measured("balancedness", {"simclr": 0.052, "byol": 0.08}))[0]
    assert table.cells["simclr", "curated"].best and "lowest" in table.legend
    assert table.cells["simclr", "curated"].estimate.text().startswith("5.3 ± ")
    assert "lower is better" in table.title
    with pytest.raises(UserError, match=r"\[0, 0.5\]"):
        measured("balancedness", {"simclr": 0.6, "byol": 0.1})


def test_impossible_values_are_refused_by_the_metrics_own_range() -> None:
    assert measured("rankme", {"simclr": 40.0, "byol": 3.0}).records["value"].max() > 1
    for metric, value, where in (("rankme", -3.0, "inf"), ("purity", 1.5, "[0, 1]"),
                                 ("uniformity", 2.0, "[-inf, 0]")):
        with pytest.raises(UserError) as caught:
            measured(metric, {"simclr": value, "byol": 0.5})
        assert "not " in str(caught.value) and where in str(caught.value)


def test_an_id_with_a_target_is_a_phrase() -> None:
    phrase = "linear mean accuracy of the classes on pets"
    assert describe("linear@pets", "mean_per_class") == phrase
    assert describe("knn", "top1") == "kNN top-1 accuracy"


def test_features_stay_in_their_files(tmp_path: Path) -> None:
    data = Features.load(fixtures.write(tmp_path))
    file = str(tmp_path / "train.npy")
    assert file in Path("/proc/self/maps").read_text(), "mapped"
    before = Path(file).read_bytes()
    data.train.features.zero_()
    assert Path(file).read_bytes() == before, "what an evaluation writes is its own"
    with pytest.raises(ValueError, match="no layer 'hidden': use layer=pooled"):
        Features.load(tmp_path, layer="hidden")
    read_only = np.load(file, mmap_mode="r")
    assert torch.equal(as_tensor(read_only), torch.from_numpy(np.load(file)))


class Head(torch.nn.Module):
    """A method as far as extraction looks at one; it counts its forwards."""

    def __init__(self) -> None:
        super().__init__()
        self.forwards = 0
        self.layer = torch.nn.Linear(3, 2)

    def encoder(self, x: torch.Tensor) -> torch.Tensor:
        self.forwards += 1
        return x.mean((2, 3))

    def lift(self, pooled: torch.Tensor, layer: str) -> torch.Tensor:
        if layer == "hidden":
            raise ValueError("Head has no layer 'hidden'; use layer='pooled'")
        return pooled if layer == "pooled" else self.layer(pooled)

    @property
    def info(self) -> Any:
        return type("Info", (), {"feature_dim": 3})


def test_layers_come_from_one_forward_and_equal_those_alone(tmp_path: Path) -> None:
    method = Head()
    pixels = np.random.default_rng(0).integers(0, 256, (300, 8, 8, 3), dtype=np.uint8)
    assert available(method, ("hidden", "output")) == ("output",)
    with pytest.raises(ValueError, match="no layer 'hidden'"):
        available(method, ("hidden",))
    places = {layer: tmp_path / f"{layer}.npy" for layer in ("pooled", "output")}
    found = embed_layers(method, places, pixels, 8, "cpu", "fp32")
    assert method.forwards == 2, "two batches"
    alone = embed(method.encoder, pixels, 8, "cpu", "fp32")
    assert (found["pooled"] == alone).all() and found["output"].shape == (300, 2)
    np.save(tmp_path / "alone.npy", alone)
    assert places["pooled"].read_bytes() == (tmp_path / "alone.npy").read_bytes()
