"""Backbones: networks (B, 3, H, W) -> (B, feature_dim) without a classifier."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.models import resnet

from harness.training.settings import BACKBONES, ResNet, ResNetTiny
from methods.options import build, unknown


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut (He et al., arXiv 1512.03385, Fig. 2)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, channels, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv3x3(channels, channels, 1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            conv = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, channels, H / stride, W / stride)."""
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return cast(Tensor, self.relu(out + self.shortcut(x)))


class TinyResNet(nn.Module):
    """A ResNet for a CPU: `stages` stages of `blocks` basic blocks, the channels doubling."""

    def __init__(self, config: ResNetTiny) -> None:
        super().__init__()
        width = config.width
        stem = nn.Conv2d(3, width, config.stem_kernel, config.stem_stride,
                         (config.stem_kernel - 1) // 2, bias=False)
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        layers: list[nn.Module] = []
        channels = width
        for stage in range(config.stages):
            out = width * 2**stage
            for block in range(config.blocks):
                layers.append(BasicBlock(channels, out, 2 if stage and not block else 1))
                channels = out
        self.layers = nn.Sequential(*layers)
        self.feature_dim = channels
        _initialise(self, config.zero_init_residual)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, feature_dim)."""
        return cast(Tensor, self.layers(self.stem(x)).mean((2, 3)))


def build_backbone(name: str, **options: Any) -> nn.Module:
    """The backbone `name` with `feature_dim: int`, weights drawn from torch's global generator.

    Options and their defaults are the fields of `settings.BACKBONES[name]`. Raises ValueError
    naming an unknown backbone or option and the valid ones.
    """
    if name not in BACKBONES:
        raise ValueError(unknown("backbone", name, BACKBONES))
    config = build(BACKBONES[name], options, f"backbone '{name}'")
    if isinstance(config, ResNetTiny):
        return TinyResNet(config)
    return _torchvision_resnet(name, config)


def _torchvision_resnet(name: str, config: ResNet) -> nn.Module:
    """torchvision's ResNet v1 with the ImageNet stem, or SimCLR's CIFAR stem (its appendix B.9)."""
    network: resnet.ResNet = getattr(resnet, name)(zero_init_residual=config.zero_init_residual)
    if config.stem == "cifar":
        network.conv1 = _conv3x3(3, 64, 1)
        nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
        cast(Any, network).maxpool = nn.Identity()
    feature_dim = network.fc.in_features
    cast(Any, network).fc = nn.Identity()
    cast(Any, network).feature_dim = feature_dim
    return network


def _conv3x3(in_channels: int, channels: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)


@torch.no_grad()
def _initialise(network: nn.Module, zero_init_residual: bool) -> None:
    """He initialisation of convolutions; optionally each block starts as the identity."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, BasicBlock) and zero_init_residual:
            nn.init.zeros_(module.bn2.weight)
