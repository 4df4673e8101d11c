"""What a pretraining stage may say about its backbone and its training. No torch here: the
planner validates with these classes before anything runs."""

from __future__ import annotations

from dataclasses import dataclass

from methods.options import option


@dataclass(frozen=True)
class ResNet:
    """torchvision's ResNet without its classifier."""

    stem: str = option("cifar", choices=("cifar", "imagenet"),
                       help="cifar: 3x3, stride 1, no pooling",
                       source="SimCLR, arXiv 2002.05709, appendix B.9")
    zero_init_residual: bool = option(False, help="each block starts as the identity")


@dataclass(frozen=True)
class ResNetTiny:
    """A ResNet of basic blocks small enough for one CPU core."""

    width: int = option(32, at_least=1, help="channels of the first stage; they double")
    stages: int = option(3, at_least=1, help="each after the first halves the resolution")
    blocks: int = option(1, at_least=1, help="blocks of a stage")
    stem_kernel: int = option(3, at_least=1)
    stem_stride: int = option(2, at_least=1)
    zero_init_residual: bool = option(False, help="each block starts as the identity")


BACKBONES: dict[str, type[ResNet] | type[ResNetTiny]] = {
    "resnet18": ResNet,
    "resnet50": ResNet,
    "resnet_tiny": ResNetTiny,
}
