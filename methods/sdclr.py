"""SDCLR: "Self-Damaging Contrastive Learning", arXiv 2106.02990.

Released code: VITA-Group/SDCLR.

Shapes: N images of the batch, D embedding width.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from methods.base import Batch, Info
from methods.options import option
from methods.parts.pruning import magnitude_masks
from methods.registry import register
from methods.simclr import SimCLR


@register("sdclr")
class SDCLR(SimCLR):
    """SimCLR between the network and its pruned self, which forgets rare images first."""

    paper = "Self-Damaging Contrastive Learning, arXiv 2106.02990"

    @dataclass(frozen=True)
    class Config(SimCLR.Config):
        """Options of SDCLR."""

        temperature: float = option(0.2, above=0, source="released scripts/")
        prune: float = option(0.9, at_least=0, below=1, help="share of weights", source="scripts/")
        variant: str = option(
            "paper", choices=("released", "paper"), help="paper: the mean, as SDCLR's code has it"
        )

    def __init__(self, backbone: nn.Module, info: Info, config: Config) -> None:
        """Give the pruned branch BatchNorm layers of its own; it shares all other weights."""
        super().__init__(backbone, info, config)
        self.pruned = copy.deepcopy(self.backbone)
        self.shared: list[str] = []
        self.convolutions: list[str] = []
        for place, module in self.backbone.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                continue
            for name, _ in module.named_parameters(place, recurse=False):
                self.shared.append(name)
                self.pruned.get_parameter(name).requires_grad_(False)
            if isinstance(module, nn.Conv2d):
                self.convolutions.append(f"{place}.weight".lstrip("."))
        self.renew()

    def loss(self, batch: Batch) -> Tensor:
        """Return NT-Xent between one view in the network and the other in the pruned one."""
        every = max(1, self.info.num_images // self.info.batch_size)
        if round(batch.progress * self.info.total_steps) % every == 0:
            self.renew()
        first, second = batch.views
        weights: dict[str, Tensor] = {
            name: self.backbone.get_parameter(name) for name in self.shared
        }
        for name in self.convolutions:
            weights[name] = weights[name] * self.pruned.get_parameter(name)
        a_ND = self.projector(self.backbone(first))
        b_ND = self.projector(functional_call(self.pruned, weights, (second,)))
        return self.contrast(a_ND, b_ND, batch.progress)

    @torch.no_grad()
    def renew(self) -> None:
        """Prune anew by the present weights, once an epoch; the masks lie in the copy's weights."""
        weights = [self.backbone.get_parameter(name) for name in self.convolutions]
        masks = magnitude_masks(weights, self.config.prune) if weights else []
        for name, mask in zip(self.convolutions, masks, strict=True):
            self.pruned.get_parameter(name).copy_(mask)
