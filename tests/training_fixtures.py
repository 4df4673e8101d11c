"""A small method and a small job for the tests of the loop; also run as a program to be killed.

    python tests/training_fixtures.py FOLDER     trains, checkpoints in FOLDER, writes result.pt
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.schema import Training
from harness.training.backbones import build_backbone
from harness.training.feed import Resident
from harness.training.loop import Job, Loop, Surroundings
from harness.training.seeds import derive
from methods.base import Batch, Info, Method


class Dummy(Method):
    """Predicts one view's embedding from the other's, with noise, a buffer and a teacher."""

    views = ("a", "b")

    def __init__(self, backbone: nn.Module, info: Info, config: Any) -> None:
        super().__init__(backbone, info, config)
        self.projector = nn.Linear(info.feature_dim, 8)
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros(info.num_images, dtype=torch.int64))
        self.last: Batch | None = None
        self.fail_at = -1.0

    def loss(self, batch: Batch) -> dict[str, Tensor]:
        self.last = batch
        self.seen[batch.index] += 1
        z1, z2 = (self.projector(self.backbone(view)).float() for view in batch.views)
        noise = torch.randn_like(z1) * 0.1
        bad = float("nan") if batch.progress >= self.fail_at >= 0 else 1.0
        targets = torch.arange(len(z1), device=z1.device)
        logits = F.normalize(z1 + noise) @ F.normalize(z2).T / 0.2
        contrast = F.cross_entropy(logits, targets)
        return {"contrast": contrast * bad, "size": z1.square().mean() * 0.1}

    def embed(self, x: Tensor, layer: str) -> Tensor:
        return torch.as_tensor(self.projector(self.backbone(x)))


def noisy(images: Tensor, generator: torch.Generator) -> Tensor:
    """A view: float, channels first, with noise from the given generator."""
    x = images.permute(0, 3, 1, 2).float() / 255 - 0.5
    x = x + 0.1 * torch.randn(x.shape, generator=generator, device=x.device)
    return x.contiguous(memory_format=torch.channels_last)


def job(num_images: int = 40, **training: Any) -> Job:
    """A run on seeded noise images; `training` overrides the settings."""
    settings = {"epochs": 3.0, "batch_size": 16, "lr": 0.05, "precision": "bf16", **training}
    config = Training(**settings)
    torch.manual_seed(derive(3, "init"))
    backbone = build_backbone("resnet_tiny", width=8, stages=2)
    info = Info(num_images, 2, min(config.batch_size, num_images), 1, int(backbone.feature_dim))
    method = Dummy(backbone, info, None).to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (num_images, 16, 16, 3), dtype=torch.uint8, generator=generator)
    labels = torch.arange(num_images) % 2
    return Job(method, Resident(pixels), labels, (noisy, noisy), config, 3, "cpu", "dummy")


def surroundings(folder: Path, **changes: Any) -> Surroundings:
    """Quiet surroundings that checkpoint in `folder`."""
    values: dict[str, Any] = {"checkpoint_dir": folder, "checkpoint_seconds": 1e9,
                              "progress": lambda facts: None, "stop": lambda: False, **changes}
    return Surroundings(**values)


def state(loop: Loop) -> dict[str, Tensor]:
    """Everything that training changed."""
    return {**loop.job.method.state_dict(), "losses": loop.losses}


def main() -> None:
    """Train with a checkpoint after every step, so that a kill finds one at any moment."""
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    loop = Loop(job(epochs=30.0), surroundings(folder, checkpoint_seconds=0.0))
    loop.run()
    torch.save(state(loop), folder / "result.pt")


if __name__ == "__main__":
    main()
