"""The settings that the evaluations which fine-tune share. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from methods.options import option


@dataclass(frozen=True)
class Tuning:
    """Options of fine-tuning; defaults are SimCLR's transfer protocol on a smaller grid."""

    steps: int = option(20000, at_least=0, help="updates of each setting; 0: by epochs",
                        source="SimCLR, arXiv 2002.05709, appendix B.8.1")
    epochs: float = option(60.0, above=0, help="passes over the training images, where steps is 0")
    batch_size: int = option(256, at_least=2, source="SimCLR, appendix B.8.1")
    optimizer: str = option("sgd", choices=("sgd", "lars", "lars_simclr"),
                            help="sgd is with Nesterov's momentum")
    momentum: float = option(0.9, at_least=0, below=1)
    lrs: tuple[float, ...] = option((0.001, 0.01, 0.1), above=0,
                                    help="learning rates, chosen from on validation",
                                    source="SimCLR: 7 log-spaced from 0.0001 to 0.1")
    weight_decays: tuple[float, ...] = option(
        (0.0, 1e-5, 1e-3), at_least=0, help="weight decays, chosen from on validation",
        source="SimCLR: 0 and 7 log-spaced from 1e-6 to 1e-3")
    decay_over_lr: bool = option(True, help="the optimiser gets weight decay / lr",
                                 source="SimCLR, appendix B.8.1")
    warmup_epochs: float = option(0.0, at_least=0)
    schedule: str = option("cosine", choices=("cosine", "constant"))
    crop_min: float = option(0.08, above=0, at_most=1, help="smallest crop; 1: no crop")
    flip: float = option(0.5, at_least=0, at_most=1, help="probability of a horizontal flip")
    norm_momentum: str = option("simclr", choices=("simclr", "torch"),
                                help="of the running statistics; simclr: max(1 - 10 / s, 0.9), s "
                                     "steps per epoch")
    retrain: bool = option(True, help="train the chosen setting again on train and validation",
                           source="SimCLR, appendix B.8.1")
