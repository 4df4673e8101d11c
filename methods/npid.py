"""NPID: "Unsupervised Feature Learning via Non-Parametric Instance Discrimination".

arXiv 1805.01978. Released code: zhirongw/lemniscate.pytorch, lib/LinearAverage.py (full softmax),
lib/NCEAverage.py and lib/NCECriterion.py.

Shapes: N images of the batch, D embedding width, M images of the bank, K noise samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.base import Batch, Info, Method
from methods.options import option
from methods.parts.branches import BankBranch
from methods.parts.distributed import mine, total, world
from methods.parts.heads import mlp
from methods.parts.losses import full_precision, unit
from methods.parts.stores import Bank
from methods.registry import register

EPSILON = 1e-7  # released lib/NCECriterion.py


@full_precision
def noise_contrastive(p_N1K: Tensor, noise: float) -> Tensor:
    """Return Eq. 7 (N,) from the probabilities of the image (column 0) and K samples of noise.

    `noise` is K times the probability of a noise sample.
    """
    data_N = (p_N1K[:, 0] / (p_N1K[:, 0] + noise + EPSILON)).log()
    rest_N = (noise / (p_N1K[:, 1:] + noise + EPSILON)).log().sum(dim=1)
    return -(data_N + rest_N)


@register("npid")
class NPID(Method):
    """Tell every image from all others by its row in a memory bank."""

    paper = (
        "Unsupervised Feature Learning via Non-Parametric Instance Discrimination, arXiv 1805.01978"
    )
    views = ("moco_v1",)
    keeps = ("bank",)
    couples = "the noise samples and their normaliser, with negatives"
    normaliser: Tensor

    @dataclass(frozen=True)
    class Config(Method.Config):
        """Options of NPID."""

        temperature: float = option(0.07, above=0, help="0.1 on CIFAR", source="released main.py")
        negatives: int = option(
            4096, at_least=0, help="0: full softmax, as on CIFAR", source="released main.py"
        )
        momentum: float = option(0.5, at_least=0, at_most=1, help="bank", source="released main.py")
        output_dim: int = option(128, at_least=1, source="released main.py")

    def __init__(self, backbone: nn.Module, info: Info, config: Config) -> None:
        """Add the linear head and the bank."""
        super().__init__(backbone, info, config)
        self.projector = mlp([info.feature_dim, config.output_dim])
        bank = Bank(info.num_images, config.output_dim, config.momentum)
        self.instance = BankBranch(bank, config.temperature)
        # Z of Eq. 8, estimated on the first batch and constant from then on; 0: not yet.
        self.register_buffer("normaliser", torch.zeros(()))

    def draw(self, index_N: Tensor) -> Tensor:
        """Return the bank rows to compare with (N, 1 + K): the image's own, then uniform noise."""
        shape = (len(index_N) * world(), self.config.negatives)
        noise = mine(torch.randint(self.info.num_images, shape, device=index_N.device))
        return torch.cat([index_N[:, None], noise], dim=1)

    def loss(self, batch: Batch) -> Tensor:
        """Return the softmax over the bank (Eq. 2), or its estimate by NCE (Eq. 7)."""
        x_ND = unit(self.projector(self.backbone(batch.views[0])))
        if self.config.negatives == 0:
            return self.instance.loss([x_ND], batch.index)
        self.instance.remember([x_ND], batch.index)
        return self._nce(x_ND, batch.index)

    def _nce(self, x_ND: Tensor, index_N: Tensor) -> Tensor:
        rows = self.instance.bank.rows[self.draw(index_N)]
        scores = (rows * x_ND[:, None]).sum(dim=2) / self.config.temperature
        first = total(scores.detach().exp().mean() / world()) * self.info.num_images
        self.normaliser.copy_(torch.where(self.normaliser == 0, first, self.normaliser))
        noise = self.config.negatives / self.info.num_images
        return noise_contrastive(scores.exp() / self.normaliser, noise).mean()

    def after_step(self, progress: float) -> None:
        """Move the bank's rows of the batch."""
        self.instance.after_step()
