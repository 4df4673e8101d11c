"""The two-branch scheme of BYOL, MoCLR and MoCo v3: an online network follows its own average.

Shapes: N images of the batch, D embedding width.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from methods.base import Batch, Info, Method
from methods.parts.ema import Momentum, cosine_momentum
from methods.parts.losses import crossed


class TwoBranch(Method):
    """Each view in turn goes through the online branch and meets the other view's target.

    A subclass gives the heads and `compare`. The average is taken after the optimiser step with
    the cosine schedule, unless `average_first` says that it is taken inside the step, between the
    queries and the keys.
    """

    average_first = False

    def __init__(
        self,
        backbone: nn.Module,
        info: Info,
        config: Any,
        projector: nn.Module,
        predictor: nn.Module | None = None,
    ) -> None:
        """Add the heads and the averaged copy of backbone and projector; config has `momentum`."""
        super().__init__(backbone, info, config)
        self.projector = projector
        self.predictor = nn.Identity() if predictor is None else predictor
        self.target = Momentum(self.backbone, self.projector)
        self._moved = False  # in this step

    def online(self, view: Tensor) -> Tensor:
        """Return the online branch's output (N, D) for images (N, 3, H, W)."""
        return self.predictor(self.projector(self.backbone(view)))

    def compare(self, q_ND: Tensor, k_ND: Tensor) -> Tensor:
        """Return the loss of one direction from raw online outputs and targets."""
        raise NotImplementedError

    def loss(self, batch: Batch) -> Tensor:
        """Return the sum of both directions."""
        first, second = batch.views
        q1_ND, q2_ND = self.online(first), self.online(second)
        if self.average_first and not self._moved:
            self._moved = True
            self.target.update(cosine_momentum(self.config.momentum, batch.progress))
        k1_ND, k2_ND = self.target(first), self.target(second)
        return crossed(self.compare, (q1_ND, q2_ND), (k1_ND, k2_ND))

    def after_step(self, progress: float) -> None:
        """Move the target towards the online network."""
        if not self.average_first:
            self.target.update(cosine_momentum(self.config.momentum, progress))
        self._moved = False
