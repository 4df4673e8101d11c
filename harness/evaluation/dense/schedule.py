"""What every dense evaluation may say about its training, and named variants. No torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, TypeVar

from methods.options import option

T = TypeVar("T")


@dataclass(frozen=True)
class Schedule:
    """SGD with momentum 0.9: a linear warm-up, then steps. Defaults: MoCo's VOC detection."""

    iterations: int = option(24000, at_least=0, help="updates; 0 scores the untrained head",
                             source="pascal_voc_R_50_C4_24k.yaml of facebookresearch/moco")
    batch_size: int = option(16, at_least=1, source="Base-RCNN-C4-BN.yaml of facebookresearch/moco")
    lr: float = option(0.02, above=0, source="Base-RCNN-C4-BN.yaml of facebookresearch/moco")
    momentum: float = option(0.9, at_least=0, below=1)
    weight_decay: float = option(1e-4, at_least=0, help="not applied to normalisation layers",
                                 source="detectron2's default")
    warmup: int = option(100, at_least=0, help="updates from warmup_factor * lr to lr",
                         source="pascal_voc_R_50_C4_24k.yaml")
    warmup_factor: float = option(1e-3, at_least=0, at_most=1, source="detectron2's default")
    drops: tuple[float, ...] = option(
        (18 / 24, 22 / 24), above=0, at_most=1, help="shares of the run after which lr is "
        "multiplied by gamma", source="18k and 22k of 24k in pascal_voc_R_50_C4_24k.yaml")
    gamma: float = option(0.1, above=0, at_most=1, source="detectron2's default")
    freeze_at: int = option(0, at_least=0, help="fixed parts of the backbone: 1 the stem, 2 also "
                            "c2, ..", source="0 (all layers tuned) in Base-RCNN-C4-BN.yaml")
    norm: str = option("sync", choices=("sync", "frozen"), help="BatchNorm of the backbone: tuned, "
                       "over all processes, or fixed at its statistics",
                       source="SyncBN in Base-RCNN-C4-BN.yaml")
    precise_bn: int = option(200, at_least=0, help="training batches over which the statistics of "
                             "BatchNorm are taken anew at the end; 0 keeps the running ones",
                             source="TEST.PRECISE_BN in Base-RCNN-C4-BN.yaml; 200 in detectron2")
    precision: str = option("fp32", choices=("fp32", "bf16"), source="MoCo trains in fp32")

    def lr_at(self, step: int) -> float:
        """The learning rate of an update, counted from 0.

        Source: detectron2's WarmupMultiStepLR.
        """
        factor = 1.0
        if step < self.warmup:
            part = step / self.warmup
            factor = self.warmup_factor * (1 - part) + part
        passed = sum(step >= round(share * self.iterations) for share in self.drops)
        return float(self.lr * factor * self.gamma**passed)


def variant(config: type[T], name: str, source: str, **defaults: Any) -> type[T]:
    """A config with other defaults, each said to be from `source`; the rest stays as it is."""
    known = {entry.name: entry for entry in dataclasses.fields(config)}  # type: ignore[arg-type]
    assert not set(defaults) - set(known), f"{name}: {set(defaults) - set(known)}"
    fields = [(entry.name, entry.type, field(default=defaults[entry.name],
                                             metadata={**entry.metadata, "source": source}))
              for entry in known.values() if entry.name in defaults]
    made = dataclasses.make_dataclass(name, fields, bases=(config,), frozen=True)
    made.__module__ = config.__module__
    return made
