"""Backbones: shapes, stems, and clear refusals."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.training.backbones import build_backbone
from harness.training.settings import BACKBONES


@pytest.mark.parametrize(("name", "options", "dim"), [
    ("resnet18", {"stem": "cifar"}, 512),
    ("resnet18", {"stem": "imagenet", "zero_init_residual": True}, 512),
    ("resnet50", {}, 2048),
    ("resnet_tiny", {}, None),
    ("resnet_tiny", {"width": 16, "stages": 2, "blocks": 2, "stem_stride": 1}, 32),
])
def test_output_has_feature_dim(name: str, options: dict[str, object], dim: int | None) -> None:
    network = build_backbone(name, **options).eval()
    assert dim is None or network.feature_dim == dim
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, network.feature_dim)
    assert not any("fc" in name for name, _ in network.named_parameters())


def test_cifar_stem_keeps_the_resolution() -> None:
    network = build_backbone("resnet18", stem="cifar").eval()
    conv = network.get_submodule("conv1")
    assert isinstance(conv, nn.Conv2d)
    assert (conv.kernel_size, conv.stride, conv.padding) == ((3, 3), (1, 1), (1, 1))
    assert network.get_submodule("layer4")  # 32 -> 32, 16, 8, 4 as in SimCLR's appendix B.9
    maps = network.get_submodule("layer1")(network.get_submodule("maxpool")(conv(
        torch.randn(1, 3, 32, 32))))
    assert maps.shape[-2:] == (32, 32)


def test_zero_init_residual_makes_blocks_start_as_identities() -> None:
    network = build_backbone("resnet_tiny", width=8, zero_init_residual=True)
    weights = [p for name, p in network.named_parameters() if name.endswith("bn2.weight")]
    assert weights and all(not weight.any() for weight in weights)


def test_initialisation_follows_the_global_seed() -> None:
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        weights.append(next(build_backbone("resnet_tiny").parameters()))
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_unknown_names_list_the_valid_ones() -> None:
    assert sorted(BACKBONES) == ["resnet18", "resnet50", "resnet_tiny"]
    with pytest.raises(ValueError, match="'vit'.*resnet18"):
        build_backbone("vit")
    with pytest.raises(ValueError, match="'depth'.*width"):
        build_backbone("resnet_tiny", depth=3)
    with pytest.raises(ValueError, match="'stem' must be one of cifar, imagenet"):
        build_backbone("resnet18", stem="none")
