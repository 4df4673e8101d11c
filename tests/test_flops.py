"""The counted cost of a network against torch's own counter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from harness.flops import cost, training_step
from harness.papers import tables
from harness.training.backbones import build_backbone


@pytest.mark.parametrize(("backbone", "side"), [
    ({"name": "resnet50", "stem": "imagenet"}, 224), ({"name": "resnet18", "stem": "cifar"}, 32),
    ({"name": "resnet18", "stem": "imagenet"}, 97), ({"name": "resnet_tiny", "width": 32}, 32),
    ({"name": "resnet_tiny", "width": 8, "stages": 2, "blocks": 3, "stem_kernel": 4,
      "stem_stride": 3}, 37),
])
def test_cost_equals_torch(backbone: dict[str, Any], side: int) -> None:
    options = {k: v for k, v in backbone.items() if k != "name"}
    with torch.device("meta"):
        network = build_backbone(backbone["name"], **options).eval()
        with FlopCounterMode(display=False) as counter:
            network(torch.empty(1, 3, side, side))
    found = cost(backbone, side)
    assert 2 * found.multiply_adds == counter.get_total_flops() > 0
    assert found.width == network.feature_dim
    assert found.parameters == sum(p.numel() for p in network.parameters() if p.ndim == 4)


def test_a_training_step_is_within_a_hundredth_of_table_13() -> None:
    network = {"name": "resnet50", "stem": "imagenet"}
    two = training_step(network, [224, 224])
    distilled = training_step(network, [224, 224], [224])
    # of DnC-3k's epochs 2500 train the base and the experts, 500 distil
    ours = {"SwAV": training_step(network, [224, 224, *[96] * 6]), "BYOL": two, "MoCLR": two,
            "DnC": (2500 * two + 500 * distilled) / 3000}
    cells = {cell.key[0]: cell for cell in tables()["dnc/table13"].cells}
    assert set(cells) == set(ours)
    for name, cell in cells.items():
        assert ours[name] / 1e9 == pytest.approx(cell.value, rel=0.01), name
        below = cell.value - round(ours[name] / 1e9, 1)
        assert f"counted, not run: {ours[name] / 1e9:.1f} here" in cell.why_not
        assert f", {below:.1f} below, of convolutions alone" in cell.why_not


def test_resnet50_is_the_papers_four_billion() -> None:
    # DnC, table 13: 24.7 B for two views, each a forward and a backward pass of twice its cost
    found = cost({"name": "resnet50", "stem": "imagenet"}, 224)
    assert 6 * found.multiply_adds == pytest.approx(24.7e9, rel=0.01)
