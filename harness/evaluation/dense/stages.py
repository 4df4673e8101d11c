"""A ResNet taken apart: its stem and its stages, with their channels and strides."""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from torchvision.models.resnet import ResNet
from torchvision.ops import FrozenBatchNorm2d

from harness.training.backbones import TinyResNet

PROBE = 64  # side of the image that strides are read from; a multiple of every stride in use


class Body(nn.Module):
    """Stem, then stages; calling it returns the last `len(outputs)` stages' outputs.

    channels, strides: of each stage (c2..c5 of a ResNet-50: 256..2048, 4..32).
    """

    def __init__(self, stem: nn.Module, stages: list[nn.Module]) -> None:
        super().__init__()
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        self.channels, self.strides = _probe(self)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W) -> each stage's output (B, C_i, H / stride_i, W / stride_i)."""
        x = self.stem(x)
        outputs = []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        return outputs

    def split(self) -> tuple[Body, nn.Module]:
        """The body without its last stage, and that stage: what C4 detectors are made of."""
        return Body(self.stem, list(self.stages)[:-1]), self.stages[-1]


def stages(backbone: nn.Module, at_least: int = 2) -> Body:
    """A copy of a backbone, taken apart; the backbone itself is left alone.

    Raises ValueError for a network that is no ResNet of torchvision or of this package, or has
    fewer than `at_least` stages.
    """
    network = copy.deepcopy(backbone)
    if isinstance(network, ResNet):
        stem = nn.Sequential(network.conv1, network.bn1, network.relu, network.maxpool)
        parts: list[nn.Module] = [network.layer1, network.layer2, network.layer3, network.layer4]
    elif isinstance(network, TinyResNet):
        stem, parts = network.stem, _tiny_stages(network)
    else:
        raise ValueError(
            f"dense evaluations need a ResNet whose stages can be taken apart, got "
            f"{type(backbone).__name__}: choose backbone.name=resnet50, resnet18 or resnet_tiny")
    if len(parts) < at_least:
        raise ValueError(f"this dense evaluation needs a backbone of {at_least} stages, got "
                         f"{len(parts)}: raise backbone.stages")
    return Body(stem, parts)


def dilate(stage: nn.Module, dilation: int = 2) -> nn.Module:
    """Make every convolution of a stage stride 1 and its 3x3 ones dilated, in place.

    The weights stay. Source: MoCo, arXiv 1911.05722, appendix A.7: "the 3x3 convolutions in conv5
    blocks have dilation 2 and stride 1".
    """
    for module in stage.modules():
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if module.kernel_size == (3, 3):
                module.dilation = module.padding = (dilation, dilation)
    return stage


def freeze(body: Body, count: int) -> None:
    """Fix the first `count` of stem, c2, c3, ...: no gradients, BatchNorm at its statistics.

    Source: detectron2's BACKBONE.FREEZE_AT; MoCo has 0.
    """
    parts = [("stem", body.stem), *((str(i), stage) for i, stage in enumerate(body.stages))]
    for name, part in parts[:count]:
        for parameter in part.parameters():
            parameter.requires_grad_(False)
        frozen = freeze_norms(part)
        if name == "stem":
            body.stem = frozen
        else:
            body.stages[int(name)] = frozen


def freeze_norms(module: nn.Module) -> nn.Module:
    """The module with every BatchNorm replaced by its statistics and affine map, as constants."""
    if isinstance(module, nn.BatchNorm2d):
        return _frozen(module)
    for name, child in module.named_children():
        setattr(module, name, freeze_norms(child))
    return module


def _frozen(norm: nn.BatchNorm2d) -> FrozenBatchNorm2d:
    made = FrozenBatchNorm2d(norm.num_features, norm.eps)
    made.load_state_dict({name: value for name, value in norm.state_dict().items()
                          if name != "num_batches_tracked"})
    return cast(FrozenBatchNorm2d, made)


def _tiny_stages(network: TinyResNet) -> list[nn.Module]:
    """The blocks by stage: each stage after the first starts with a stride."""
    groups: list[list[nn.Module]] = []
    for block in network.layers:
        if not groups or cast(Any, block).conv1.stride != (1, 1):
            groups.append([])
        groups[-1].append(block)
    return [nn.Sequential(*group) for group in groups]


@torch.no_grad()
def _probe(body: Body) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Channels and strides of the stages, read from an image of zeros; statistics are left."""
    training = {module: module.training for module in body.modules()}
    parameter = next(body.parameters())
    outputs = body.eval()(parameter.new_zeros(1, 3, PROBE, PROBE))
    for module, state in training.items():
        module.training = state
    return (tuple(x.shape[1] for x in outputs), tuple(PROBE // x.shape[2] for x in outputs))
