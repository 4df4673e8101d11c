"""What a pretraining stage may say about its backbone and its training. No torch here: the
planner validates with these classes before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
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


def equal_parts(batch_size: int, at_once: int | None) -> int:
    """The fewest equal parts of a batch with at most `at_once` images each.

    Raises ValueError where only parts of a single image are equal.
    """
    parts = -(-batch_size // (at_once or batch_size))
    while batch_size % parts:
        parts += 1
    if parts == batch_size > 1:
        raise ValueError(f"a batch of {batch_size} images has no equal parts of 2 to {at_once}: "
                         "choose another batch_size, or micro_batch")
    return parts


def sharing(size: int, images: int, options: Sequence[int]) -> int:
    """The most processes, up to `size`, that `images` and each of the options above 1 divide by."""
    return next(ranks for ranks in range(size, 0, -1) if images % ranks == 0 and not any(
        value > 1 and value % ranks for value in options))
