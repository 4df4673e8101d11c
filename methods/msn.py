"""MSN: "Masked Siamese Networks for Label-Efficient Learning", arXiv 2204.07141.

Released code: facebookresearch/msn, src/losses.py and src/msn_train.py. It trains vision
transformers; what follows from that is marked as a choice.

Shapes: N images of the batch, V anchor views, D width, K prototypes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.base import Batch, Info, Method
from methods.options import option
from methods.parts.distributed import gather, mine, total, world
from methods.parts.ema import Momentum
from methods.parts.heads import mlp
from methods.parts.losses import full_precision, koleo, similarity, unit
from methods.parts.masking import mask_patches
from methods.parts.sinkhorn import balance
from methods.registry import register

FOCAL = {"recipe": "simclr_cifar", "blur_p": 0.5, "crop_min": 0.05, "crop_max": 0.3, "size": 3 / 7}


@full_precision
def masked_siamese(log_VNK: Tensor, targets_NK: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the cross entropy (Eq. 1), me-max plus log K (0 at best), and the mean entropy.

    `log_VNK` are the log-probabilities of the anchors.
    """
    p_VNK = log_VNK.exp()
    mean_K = total(p_VNK.mean(dim=(0, 1))) / world()
    spread = mean_K.xlogy(mean_K).sum() + math.log(len(mean_K))
    entropy = -(p_VNK * log_VNK).sum(dim=2).mean()
    return -(targets_NK * log_VNK).sum(dim=2).mean(), spread, entropy


@register("msn")
class MSN(Method):
    """Assign masked and small views to prototypes as the averaged network assigns a whole one."""

    paper = "Masked Siamese Networks for Label-Efficient Learning, arXiv 2204.07141"
    views: tuple[dict[str, object], ...] = (
        {"recipe": "simclr_cifar", "blur_p": 0.5, "crop_min": 0.3},
        {"recipe": "simclr_cifar", "blur_p": 0.5, "crop_min": 0.3},
    )
    keeps = ("ema",)
    couples = "Sinkhorn targets and the mean assignment of the batch"

    @dataclass(frozen=True)
    class Config(Method.Config):
        """Options of MSN."""

        temperature: float = option(0.1, above=0, source="released msn_vits16.yaml")
        sharpen: float = option(0.25, above=0, help="T of the targets", source="msn_vits16.yaml")
        sinkhorn: bool = option(True, help="balance the targets", source="msn_vits16.yaml")
        iterations: int = option(3, at_least=1, help="of Sinkhorn", source="released losses.py")
        prototypes: int = option(1024, at_least=2, source="released msn_vits16.yaml")
        memax_weight: float = option(1.0, at_least=0, source="released msn_vits16.yaml")
        entropy_weight: float = option(0.0, at_least=0, source="released msn_vits16.yaml")
        koleo_weight: float = option(0.0, at_least=0, help="DINOv2 has 0.1", source="choice")
        focal_views: int = option(10, at_least=0, help="small crops", source="msn_vits16.yaml")
        masked: float = option(
            0.15, at_least=0, below=1, help="share of patches set to 0", source="msn_vits16.yaml"
        )
        grid: int = option(14, at_least=1, help="patches a side; 224 / 16", source="ViT-S/16")
        hidden_dim: int = option(2048, at_least=1, source="released msn_vits16.yaml")
        output_dim: int = option(256, at_least=1, source="released msn_vits16.yaml")
        momentum: float = option(
            0.996, at_least=0, at_most=1, help="linear to 0.9992", source="released msn_train.py"
        )

    def __init__(self, backbone: nn.Module, info: Info, config: Config) -> None:
        """Add the three-layer projector (ReLU for GELU: choice), its average, the prototypes."""
        super().__init__(backbone, info, config)
        self.views = self.views + (FOCAL,) * config.focal_views
        hidden = config.hidden_dim
        self.projector = mlp([info.feature_dim, hidden, hidden, config.output_dim])
        self.target = Momentum(self.backbone, self.projector)
        limit = config.output_dim**-0.5
        start = torch.empty(config.prototypes, config.output_dim).uniform_(-limit, limit)
        self.prototypes = nn.Parameter(start)

    def _log_assign(self, z_ND: Tensor) -> Tensor:
        logits = similarity(unit(z_ND), unit(self.prototypes)) / self.config.temperature
        return logits.log_softmax(dim=1)

    @torch.no_grad()
    def _targets(self, whole: Tensor) -> Tensor:
        config = self.config
        sharp_NK = (self._log_assign(self.target(whole)) / config.sharpen).softmax(dim=1)
        return mine(balance(gather(sharp_NK), config.iterations)) if config.sinkhorn else sharp_NK

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        """Return cross entropy, me-max and, where weighted, entropy and KoLeo."""
        config, (whole, second, *focal) = self.config, batch.views
        # A transformer leaves the masked patches out; a convolution needs something (choice: 0).
        groups = [[mask_patches(second, config.masked, config.grid)], focal]
        batches = [torch.cat(views) for views in groups if views]
        z = torch.cat([self.projector(self.backbone(x)) for x in batches])
        log_VNK = self._log_assign(z).unflatten(0, (-1, len(whole)))
        assign, memax, entropy = masked_siamese(log_VNK, self._targets(whole))
        parts = {"assign": assign, "memax": config.memax_weight * memax}
        if config.entropy_weight:
            parts["entropy"] = config.entropy_weight * entropy
        if config.koleo_weight:
            views = z.unflatten(0, (-1, len(whole)))
            parts["koleo"] = config.koleo_weight * torch.stack([koleo(v) for v in views]).mean()
        return parts

    def after_step(self, progress: float) -> None:
        """Move the target; its momentum would reach 1 after 1.25 times the run."""
        momentum = self.config.momentum
        self.target.update(momentum + (1 - momentum) * progress / 1.25)
