"""What a pretraining stage may say about its backbone and its training. No torch here: the
planner validates with these classes before anything runs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ResNet:
    """torchvision's ResNet without its classifier."""

    stem: str = "cifar"
    zero_init_residual: bool = False


@dataclass(frozen=True)
class ResNetTiny:
    """A ResNet of basic blocks small enough for one CPU core."""

    width: int = 32
    stages: int = 3
    blocks: int = 1
    stem_kernel: int = 3
    stem_stride: int = 2
    zero_init_residual: bool = False


BACKBONES: dict[str, type[ResNet] | type[ResNetTiny]] = {
    "resnet18": ResNet,
    "resnet50": ResNet,
    "resnet_tiny": ResNetTiny,
}
