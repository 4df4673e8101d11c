"""MoCo v2: "Improved Baselines with Momentum Contrastive Learning", arXiv 2003.04297.

Released code: facebookresearch/moco, moco/builder.py.

Shapes: N images of the batch, D embedding width, Q queue rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from methods.base import Batch, Info, Method
from methods.options import option
from methods.parts.ema import Momentum
from methods.parts.heads import mlp
from methods.parts.losses import queue_nce, unit
from methods.parts.queue import Queue
from methods.registry import register


@register("mocov2")
class MoCoV2(Method):
    """Contrast a query with its momentum key and with a queue of older keys."""

    paper = "Improved Baselines with Momentum Contrastive Learning, arXiv 2003.04297"
    views = ("moco_v2", "moco_v2")
    keeps = ("ema", "queue")

    @dataclass(frozen=True)
    class Config(Method.Config):
        """Options of MoCo v2."""

        temperature: float = option(0.2, above=0, source="released README.md, --moco-t 0.2")
        momentum: float = option(0.999, at_least=0, at_most=1, source="released main_moco.py")
        queue_size: int = option(65536, at_least=1, source="released main_moco.py")
        head: str = option("mlp", choices=("mlp", "linear"), source="released README.md, --mlp")
        hidden_dim: int = option(2048, at_least=1, source="released builder.py: the feature width")
        output_dim: int = option(128, at_least=1, source="released main_moco.py")

    def __init__(self, backbone: nn.Module, info: Info, config: Config) -> None:
        """Add the head, the key encoder and the queue."""
        super().__init__(backbone, info, config)
        hidden = [config.hidden_dim] if config.head == "mlp" else []
        self.projector = mlp([info.feature_dim, *hidden, config.output_dim], norm=False)
        self.key_encoder = Momentum(self.backbone, self.projector)
        if config.queue_size < info.batch_size:
            raise ValueError(
                f"option 'queue_size' {config.queue_size} is smaller than the batch of"
                f" {info.batch_size}: raise it or lower the batch size"
            )
        self.queue = Queue(config.queue_size, config.output_dim)
        self._new_keys: Tensor | None = None

    def loss(self, batch: Batch) -> Tensor:
        """Return InfoNCE of the first view against the second's key and the queue (Algorithm 1).

        The order is that of the released forward pass:
        1. queries, 2. the key encoder moves, 3. keys, 4. logits, 5. (after the step) the queue.
        """
        query, key = batch.views
        q_ND = self.projector(self.backbone(query))
        self.key_encoder.update(self.config.momentum)
        k_ND = unit(self.key_encoder(key).to(self.queue.rows.dtype))
        self._new_keys = k_ND
        return queue_nce(q_ND, k_ND, self.queue.rows, self.config.temperature)

    def after_step(self, progress: float) -> None:
        """Enqueue the keys; here and not in `loss`, since backward still needs the old rows."""
        if self._new_keys is not None:
            self.queue.push(self._new_keys)
        self._new_keys = None
