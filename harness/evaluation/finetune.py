"""Transfer by fine-tuning the whole network, as in "Do Better ImageNet Models Transfer Better?",
arXiv 1805.08974, SimCLR (arXiv 2002.05709, appendix B.8) and BYOL (arXiv 2006.07733).

SGD with Nesterov's momentum, crops and flips, a grid of learning rates and weight decays; the
setting is chosen on the validation split by the data set's own metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.evaluation.registry import register
from harness.evaluation.subject import Subject
from harness.evaluation.tuning_config import Tuning


@dataclass(frozen=True)
class Config(Tuning):
    """Options of fine-tuning on a whole data set."""


@register("finetune", config=Config, revision=2, takes="encoder", several=True, ranks=True)
def finetune(subject: Subject, config: Config,
             class_counts: Sequence[int] | None) -> dict[str, Any]:
    """The whole network trained on all labels of a data set; its settings chosen on validation."""
    from harness.evaluation.tuning import tune  # imports torch

    return tune(subject, subject.splits(), config, class_counts)
