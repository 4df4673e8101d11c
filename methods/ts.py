"""TS: "Temperature Schedules for Self-Supervised Contrastive Methods on Long-Tail Data".

arXiv 2303.13664. SimCLR whose temperature swings between instance and group discrimination.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from methods.options import option
from methods.registry import register
from methods.simclr import SimCLR


def swing(epoch: float, low: float, high: float, half_period: float) -> float:
    """Return a cosine: `high` at epoch 0, `low` at `half_period`, and back."""
    return low + (high - low) * (1 + math.cos(math.pi * epoch / half_period)) / 2


@register("ts")
class TS(SimCLR):
    """SimCLR with a cosine temperature schedule."""

    paper = "Temperature Schedules for Self-Supervised Contrastive Methods, arXiv 2303.13664"

    @dataclass(frozen=True)
    class Config(SimCLR.Config):
        """Options of TS; `temperature` is the schedule's maximum."""

        temperature: float = option(1.0, above=0, help="the highest", source="arXiv 2303.13664")
        lowest: float = option(0.1, above=0, source="arXiv 2303.13664")
        half_period: float = option(200.0, above=0, help="epochs", source="arXiv 2303.13664")
        variant: str = option(
            "paper", choices=("released", "paper"), help="paper: the mean over anchors"
        )

    def temperature(self, progress: float) -> float:
        """Return the temperature of the (fractional) epoch at this point of the run."""
        config, info = self.config, self.info
        epoch = progress * info.total_steps * info.batch_size / info.num_images
        return swing(epoch, config.lowest, config.temperature, config.half_period)
