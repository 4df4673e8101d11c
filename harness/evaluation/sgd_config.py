"""The settings of linear classifiers trained by SGD. No torch."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

from methods.options import option


@dataclass(frozen=True)
class Settings:
    """One point of the grid: lr is the optimiser's."""

    lr: float
    weight_decay: float


@dataclass(frozen=True)
class Sgd:
    """Options of linear classification by SGD; defaults are DnC's and BYOL's on ImageNet.

    MoCo and CLD: lrs [30], batch_size 256, epochs 100, schedule step at 0.6 and 0.8, nesterov
    false. FNC: lrs [0.04] (0.005 sqrt(1024) at 1024), epochs 90. SDCLR: lrs [30], epochs 30,
    schedule step at 1/3 and 2/3 (few-shot: epochs 100, at 0.4 and 0.6), nesterov false.
    """

    lrs: tuple[float, ...] = option(
        (0.05, 0.1, 0.2, 0.3, 0.4), above=0, help="learning rates for 256 images a batch, chosen "
        "from on validation", source="arXiv 2105.08054, appendix F: ImageNet; YFCC 0.1 to 1")
    weight_decays: tuple[float, ...] = option(
        (0.0,), at_least=0, help="weight decays, chosen from on validation",
        source="0 in byol/configs/eval.py")
    epochs: float = option(80.0, above=0, source="arXiv 2105.08054, appendix F")
    batch_size: int = option(1024, at_least=1, source="arXiv 2105.08054, appendix F")
    momentum: float = option(0.9, at_least=0, below=1)
    nesterov: bool = option(True, source="arXiv 2105.08054, appendix F")
    schedule: str = option("cosine", choices=("cosine", "step", "constant"),
                           help="step: times `drop` at each milestone")
    milestones: tuple[float, ...] = option((0.6, 0.8), above=0, below=1,
                                           help="shares of the training, schedule=step")
    retrain: bool = option(False, help="train the chosen setting again on train and validation")
    # 4.6 times on a CPU with bfloat16 products, where 13 settings of 1000 classes are all products
    products: str = option("fp32", choices=("fp32", "bf16"),
                           help="bf16: rounds what is multiplied; sums and updates stay fp32")

    drop: float = option(0.1, above=0, at_most=1, help="what the rate is multiplied by at each "
                         "milestone; InfoMin 0.2")

    ADDED: ClassVar[tuple[str, ...]] = ("products", "drop")

    def grid(self) -> list[Settings]:
        """Every learning rate, scaled by batch_size / 256, with every weight decay."""
        return [Settings(lr * self.batch_size / 256, decay)
                for lr, decay in itertools.product(self.lrs, self.weight_decays)]


@dataclass(frozen=True)
class OnImages(Sgd):
    """Options of SGD on augmented images."""

    crop_min: float = option(0.08, above=0, at_most=1, help="smallest crop; 1: no crop",
                             source="0.08 in BYOL, 0.2 in google-research/fnc data.py")
    flip: float = option(0.5, at_least=0, at_most=1, help="probability of a horizontal flip")
