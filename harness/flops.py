"""What a network costs, counted from its shape: multiply-adds of a forward pass, and parameters.

Only convolutions are counted, as is usual; norms, pooling and heads come to a few percent. Held
against torch's own counter by a test. No torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from methods.options import build

from .training.settings import BACKBONES, ResNetTiny

# torchvision's ResNet v1: blocks of the four stages, and whether they are bottlenecks.
LAYOUTS = {"resnet18": ((2, 2, 2, 2), False), "resnet50": ((3, 4, 6, 3), True)}


@dataclass(frozen=True)
class Convolution:
    """`side` is that of the square output in pixels."""

    inputs: int
    outputs: int
    kernel: int
    side: int

    @property
    def parameters(self) -> int:
        """Weights; these convolutions have no bias."""
        return self.inputs * self.outputs * self.kernel**2

    @property
    def multiply_adds(self) -> int:
        """Of one image."""
        return self.parameters * self.side**2


@dataclass(frozen=True)
class Cost:
    """Multiply-adds of a forward pass of one image, parameters, and the width of the features."""

    multiply_adds: int
    parameters: int
    width: int


def cost(backbone: Mapping[str, Any], image_size: int) -> Cost:
    """Of a backbone as the configuration names it, on square images of `image_size` pixels."""
    options = {name: value for name, value in backbone.items() if name != "name"}
    config = build(BACKBONES[backbone["name"]], options, "backbone")
    layers = list(_tiny(config, image_size) if isinstance(config, ResNetTiny)
                  else _resnet(str(backbone["name"]), config.stem, image_size))
    return Cost(sum(layer.multiply_adds for layer in layers),
                sum(layer.parameters for layer in layers), layers[-1].outputs)


def training_step(backbone: Mapping[str, Any], trained: Sequence[int],
                  seen: Sequence[int] = ()) -> int:
    """Multiply-adds of one image in a training step: a forward and, at twice its cost, a backward
    pass for each view that is trained on, a forward pass for each that is only seen. Sides in
    pixels. An average that follows the network is not counted (DnC's table 13 does not either)."""
    return (3 * sum(cost(backbone, side).multiply_adds for side in trained)
            + sum(cost(backbone, side).multiply_adds for side in seen))


def _resnet(name: str, stem: str, side: int) -> Iterator[Convolution]:
    blocks, bottleneck = LAYOUTS[name]
    if stem == "imagenet":
        side = _half(side)
        yield Convolution(3, 64, 7, side)
        side = _half(side)
    else:
        yield Convolution(3, 64, 3, side)
    channels = 64
    for stage, count in enumerate(blocks):
        width = 64 * 2**stage
        for block in range(count):
            stride = 2 if stage and not block else 1
            yield from (_bottleneck if bottleneck else _basic)(channels, width, side, stride)
            channels = 4 * width if bottleneck else width
            side = _half(side) if stride == 2 else side


def _tiny(config: ResNetTiny, side: int) -> Iterator[Convolution]:
    padding = (config.stem_kernel - 1) // 2
    side = (side + 2 * padding - config.stem_kernel) // config.stem_stride + 1
    yield Convolution(3, config.width, config.stem_kernel, side)
    channels = config.width
    for stage in range(config.stages):
        width = config.width * 2**stage
        for block in range(config.blocks):
            stride = 2 if stage and not block else 1
            yield from _basic(channels, width, side, stride)
            channels, side = width, _half(side) if stride == 2 else side


def _basic(inputs: int, width: int, side: int, stride: int) -> Iterator[Convolution]:
    """Two 3x3 convolutions; the shortcut last but one, so that the last one has the width out."""
    out = _half(side) if stride == 2 else side
    yield Convolution(inputs, width, 3, out)
    if stride == 2 or inputs != width:
        yield Convolution(inputs, width, 1, out)
    yield Convolution(width, width, 3, out)


def _bottleneck(inputs: int, width: int, side: int, stride: int) -> Iterator[Convolution]:
    """1x1, 3x3 with the stride (torchvision's ResNet v1.5), 1x1 to four times the width."""
    out = _half(side) if stride == 2 else side
    yield Convolution(inputs, width, 1, side)
    yield Convolution(width, width, 3, out)
    if stride == 2 or inputs != 4 * width:
        yield Convolution(inputs, 4 * width, 1, out)
    yield Convolution(width, 4 * width, 1, out)


def _half(side: int) -> int:
    return (side + 1) // 2
