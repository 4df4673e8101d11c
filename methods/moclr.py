"""MoCLR, the base learner of "Divide and Contrast: Self-supervised Learning from Uncurated Data".

arXiv 2105.08054, section 3.1. No code was released; the heads follow the paper's Figure 3.

Shapes: N images of the batch, D embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from methods.base import Info, Method
from methods.options import option
from methods.parts.heads import mlp
from methods.parts.losses import info_nce
from methods.parts.two_branch import TwoBranch
from methods.registry import register


@register("moclr")
class MoCLR(TwoBranch):
    """SimCLR with a momentum branch for the keys: BYOL without predictor, InfoNCE for its loss."""

    paper = "Divide and Contrast: Self-supervised Learning from Uncurated Data, arXiv 2105.08054"
    views = ("byol_t", "byol_t_prime")
    keeps = ("ema",)
    couples = "negatives of the batch"

    @dataclass(frozen=True)
    class Config(Method.Config):
        """Options of MoCLR."""

        temperature: float = option(
            0.1,
            above=0,
            help="the paper prints none",
            source="choice: SimCLR's and DetCon's released ImageNet settings",
        )
        hidden_dim: int = option(4096, at_least=1, source="arXiv 2105.08054, section 3.1")
        output_dim: int = option(256, at_least=1, source="arXiv 2105.08054, section 3.1")
        momentum: float = option(
            0.996, at_least=0, at_most=1, help="cosine to 1", source="arXiv 2105.08054, appendix E"
        )

    def __init__(self, backbone: nn.Module, info: Info, config: Config) -> None:
        """Add the projector, whose last layer is a BatchNorm (affine, on which it is silent)."""
        dims = [info.feature_dim, config.hidden_dim, config.output_dim]
        super().__init__(backbone, info, config, mlp(dims, last_norm="affine"))

    def compare(self, q_ND: Tensor, k_ND: Tensor) -> Tensor:
        """Return Eq. 1: the negatives are the other images' momentum projections only."""
        return info_nce(q_ND, k_ND, self.config.temperature)
