"""MoCo v3: "An Empirical Study of Training Self-Supervised Vision Transformers", arXiv 2104.02057.

Released code: facebookresearch/moco-v3, moco/builder.py, the ResNet-50 settings.

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


@register("mocov3")
class MoCoV3(TwoBranch):
    """BYOL's two branches with InfoNCE against the other view's momentum keys of the batch."""

    paper = "An Empirical Study of Training Self-Supervised Vision Transformers, arXiv 2104.02057"
    views = (
        {"recipe": "byol_t", "rule": "torchvision", "crop_min": 0.2},
        {"recipe": "byol_t_prime", "rule": "torchvision", "crop_min": 0.2},
    )
    keeps = ("ema",)
    couples = "negatives of the batch"
    average_first = True

    @dataclass(frozen=True)
    class Config(Method.Config):
        """Options of MoCo v3."""

        temperature: float = option(1.0, above=0, source="released main_moco.py")
        hidden_dim: int = option(4096, at_least=1, source="released main_moco.py, --moco-mlp-dim")
        output_dim: int = option(256, at_least=1, source="released main_moco.py, --moco-dim")
        momentum: float = option(
            0.99,
            at_least=0,
            at_most=1,
            help="cosine to 1; 0.996 at 1000 epochs",
            source="released CONFIG.md",
        )

    def __init__(self, backbone: nn.Module, info: Info, config: Config) -> None:
        """Add projector and predictor without biases; the projector ends in a bare BatchNorm."""
        hidden, output = config.hidden_dim, config.output_dim
        projector = mlp(
            [info.feature_dim, hidden, output],
            hidden_bias=False,
            last_bias=False,
            last_norm="plain",
        )
        predictor = mlp([output, hidden, output], hidden_bias=False, last_bias=False)
        super().__init__(backbone, info, config, projector, predictor)

    def compare(self, q_ND: Tensor, k_ND: Tensor) -> Tensor:
        """Return Eq. 1 scaled by 2 T, as released, which keeps the gradient's size over T."""
        return 2 * self.config.temperature * info_nce(q_ND, k_ND, self.config.temperature)
