"""Small labelled features for the tests of the evaluations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from harness.evaluation.splits import Features, TestSplit, TrainSplit, ValidationSplit

GOLDEN = Path(__file__).parent / "golden"


def gaussian(n: int, d: int, num_classes: int, seed: int,
             noise: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features float32 (n, d) around one seeded mean per class, and their labels."""
    means = torch.randn(num_classes, d, generator=torch.Generator().manual_seed(17))
    labels = torch.arange(n) % num_classes
    generator = torch.Generator().manual_seed(seed)
    spread = noise * torch.linspace(0.3, 2, d)
    return means[labels] + spread * torch.randn(n, d, generator=generator), labels


def problem(n: int = 200, d: int = 12, num_classes: int = 5, noise: float = 1.0) -> Features:
    """Three splits of one Gaussian mixture."""
    return Features(TrainSplit(*gaussian(n, d, num_classes, 0, noise)),
                    ValidationSplit(*gaussian(n, d, num_classes, 1, noise)),
                    TestSplit(*gaussian(n, d, num_classes, 2, noise)), num_classes)


def write(folder: Path, n: int = 40, num_classes: int = 4) -> Path:
    """A features artifact with the three splits."""
    folder.mkdir(exist_ok=True)
    for seed, split in enumerate(("train", "validation", "test")):
        features, labels = gaussian(n, 6, num_classes, seed)
        np.save(folder / f"{split}.npy", features.numpy())
        np.save(folder / f"{split}_labels.npy", labels.numpy())
    return folder
