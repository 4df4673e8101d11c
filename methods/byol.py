"""BYOL: "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning", arXiv 2006.07733.

Released code: google-deepmind/deepmind-research, byol/byol_experiment.py and byol/utils.

Shapes: N images of the batch, D embedding width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from methods.base import Info, Method
from methods.options import option
from methods.parts.heads import mlp
from methods.parts.losses import cosine_regression
from methods.parts.two_branch import TwoBranch
from methods.registry import register


@register("byol")
class BYOL(TwoBranch):
    """Predict the target network's projection of the other view; no negatives."""

    paper = (
        "Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning, arXiv 2006.07733"
    )
    views = ("byol_t", "byol_t_prime")
    keeps = ("ema",)

    @dataclass(frozen=True)
    class Config(Method.Config):
        """Options of BYOL."""

        hidden_dim: int = option(4096, at_least=1, source="released configs/byol.py")
        output_dim: int = option(256, at_least=1, source="released configs/byol.py")
        momentum: float = option(
            0.996,
            at_least=0,
            at_most=1,
            help="cosine to 1; 0.99 for 100 and 300 epochs, 0.97 for 40",
            source="released configs/byol.py, 1000 epochs",
        )

    def __init__(self, backbone: nn.Module, info: Info, config: Config) -> None:
        """Add projector and predictor: a bias in the first Linear only, no last BatchNorm."""
        hidden, output = config.hidden_dim, config.output_dim
        projector = mlp([info.feature_dim, hidden, output], last_bias=False)
        predictor = mlp([output, hidden, output], last_bias=False)
        super().__init__(backbone, info, config, projector, predictor)

    def compare(self, q_ND: Tensor, k_ND: Tensor) -> Tensor:
        """Return Eq. 2, the squared distance of unit vectors, 2 - 2 cos."""
        return cosine_regression(q_ND, k_ND)
