"""Semi-supervised: fine-tuning on a part of the labels (1, 10 or 100 % of ImageNet's, few shots).

SimCLR (arXiv 2002.05709, appendix B.5), BYOL (arXiv 2006.07733), DnC (arXiv
2105.08054, Table 9 from the pooled features, Table 20 from the first layer of the head) and FNC
(arXiv 2011.11765: LARS, from the head). Where nothing is published the part is drawn by the cell's
seed, balanced over the classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.evaluation.registry import register
from harness.evaluation.splits import Features, TrainSplit, require_every_class
from harness.evaluation.subject import Subject
from harness.evaluation.tuning_config import Tuning
from harness.lazy import torch
from methods.options import option


@dataclass(frozen=True)
class Config(Tuning):
    """Options of fine-tuning on few labels."""

    share: float = option(0.1, above=0, at_most=1, help="of the training labels, per class")
    shots: int = option(0, at_least=0, help="labelled images of each class, instead of a share")
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

    Raises DatasetError for a list or a number of shots that the images do not have, ValueError for
    a part that lacks a class.
    """
    from datasets import semi as subsets

    whole = subject.splits()
    if config.share == 1 and not config.shots and not config.file:
        return whole
    given: dict[str, Any] = {"shots": config.shots} if config.shots else {"share": config.share}
    if config.file:
        given = {"file": config.file, "key": config.key}
    chosen = subsets.labelled(subject.data, subject.folder, seed=subject.seed, **given)
    rows = torch.from_numpy(chosen.positions)
    train = TrainSplit(whole.train.features[rows], whole.train.labels[rows])
    require_every_class(train.labels, whole.num_classes, "train, labelled part")
    return Features(train, whole.validation, whole.test, whole.num_classes, whole.metric)
