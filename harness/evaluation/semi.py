"""Semi-supervised: fine-tuning on a part of the labels (1, 10 or 100 % of ImageNet's, few shots).

SimCLR (arXiv 2002.05709, appendix B.5), BYOL (arXiv 2006.07733), DnC (arXiv
2105.08054, Table 9 from the pooled features, Table 20 from the first layer of the head) and FNC
(arXiv 2011.11765: LARS, from the head). A share of ImageNet that SimCLR has published as a list is
that list; elsewhere the part is drawn by the cell's seed, balanced over the classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from harness.evaluation.registry import register
from harness.evaluation.splits import Features, TrainSplit, ValidationSplit, require_every_class
from harness.evaluation.subject import Subject
from harness.evaluation.tuning_config import Tuning
from harness.lazy import torch
from methods.options import option

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Config(Tuning):
    """Options of fine-tuning on few labels."""

    ADDED: ClassVar[tuple[str, ...]] = ("draw",)
    share: float = option(0.1, above=0, at_most=1,
                          help="of the training labels, spread evenly over the classes")
    shots: int = option(0, at_least=0, help="labelled images of each class, instead of a share")
    draw: str = option("published", choices=("published", "seed"),
                       help="a share of all ImageNet is SimCLR's list, which planning puts into "
                            "file; or it is drawn by seed, as of other data",
                       source="google-research/simclr, imagenet_subsets: 1percent.txt, "
                              "10percent.txt")
    file: str = option("", help="a published list of images, instead of a share")
    key: str = option("", help="the entry of a list file that holds several")
    steps: int = option(0, at_least=0, help="updates of each setting; 0: by epochs")
    epochs: float = option(60.0, above=0, help="passes over the labelled images",
                           source="SimCLR and FNC: 60 for 1 %, SimCLR 30 for 10 %")
    batch_size: int = option(1024, at_least=2, source="FNC; SimCLR 4096")
    lrs: tuple[float, ...] = option((0.005, 0.01, 0.02, 0.05, 0.1), above=0,
                                    help="learning rates, chosen from on validation",
                                    source="BYOL, as recalled; FNC 0.16 with LARS, SimCLR 0.05 per "
                                           "256 images")
    weight_decays: tuple[float, ...] = option((0.0,), at_least=0, source="SimCLR, FNC: none")
    decay_over_lr: bool = option(False, help="the optimiser gets weight decay / lr")
    norm_momentum: str = option("torch", choices=("simclr", "torch"),
                                help="of the running statistics")
    retrain: bool = option(False, choices=(False,),
                           help="not offered: the validation labels are not among the few")


@register("semi", config=Config, revision=2, takes="encoder", ranks=True)
def semi(subject: Subject, config: Config, class_counts: Sequence[int] | None) -> dict[str, Any]:
    """The whole network trained on a part of the labels; its settings chosen on validation."""
    from harness.evaluation.tuning import tune  # imports torch

    return tune(subject, labelled_part(subject, config), config, class_counts)


def labelled_part(subject: Subject, config: Config) -> Features:
    """The splits with the training images that have a label left.

    Listed images that are held out for validation are trained on, and not chosen on. Raises
    DatasetError for a list or a number of shots that the images do not have, ValueError for a part
    that lacks a class.
    """
    from datasets import semi as subsets

    whole = subject.splits()
    if config.share == 1 and not config.shots and not config.file:
        return whole
    if config.file:
        return _listed(whole, *subsets.listed(subject.data, subject.folder, file=config.file,
                                              key=config.key))
    given: dict[str, Any] = {"shots": config.shots} if config.shots else {"share": config.share}
    chosen = subsets.labelled(subject.data, subject.folder, seed=subject.seed, **given)
    return _listed(whole, chosen.positions, chosen.positions[:0])


def _listed(whole: Features, own: NDArray[np.int64], held: NDArray[np.int64]) -> Features:
    """The splits with these training images, and with these of validation moved to training."""
    rows, moved = torch.from_numpy(own), torch.from_numpy(held)
    train, validation = whole.train, whole.validation
    few = TrainSplit(train.features[rows], train.labels[rows])
    if len(held):
        from harness.evaluation.photographs import joined  # imports torch

        few = TrainSplit(joined(few.features, validation.features[moved]),
                         torch.cat([few.labels, validation.labels[moved]]))
        kept = torch.ones(len(validation), dtype=torch.bool)
        kept[moved] = False
        validation = ValidationSplit(validation.features[kept], validation.labels[kept])
    require_every_class(few.labels, whole.num_classes, "train, labelled part")
    if not len(validation):
        raise ValueError("the list takes every validation image: settings cannot be chosen; draw "
                         "by share or shots")
    return Features(few, validation, whole.test, whole.num_classes, whole.metric)
