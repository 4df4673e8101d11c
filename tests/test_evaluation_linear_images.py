"""SGD on augmented images: one forward for all settings, stopping and going on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from harness.evaluation import evaluation
from harness.evaluation.linear_sgd import linear_images
from harness.evaluation.sgd_config import OnImages
from harness.evaluation.splits import Features
from harness.evaluation.subject import Subject
from harness.execute import Context, Interrupted

CONFIG = OnImages(lrs=(1e-5, 8.0), epochs=12, batch_size=16)


class Bright(nn.Module):
    """Counts its forwards; the features are the mean colour."""

    feature_dim = 3

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.scale = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x.mean((2, 3)) * self.scale


def _subject(folder: Path, network: Bright, stop: Callable[[], bool],
             classes: int = 3) -> Subject:
    rng = np.random.default_rng(0)

    def split(n: int) -> tuple[Tensor, Tensor]:
        labels = np.arange(n) % classes
        pixels = rng.integers(0, 80, (n, 12, 12, 3))
        pixels[np.arange(n), :, :, labels % 3] += 120
        return torch.from_numpy(pixels.astype(np.uint8)), torch.from_numpy(labels)

    splits = {"train": split(48), "validation": split(24), "test": split(24)}
    context = Context(device="cpu", data_paths={}, plugins=(), progress=lambda facts: None,
                      checkpoint_seconds=1e9, checkpoint_dir=folder, threads=1, stop=stop)
    return Subject(lambda layer: network, lambda: Features.of(splits), {"image_size": 12}, "top1",
                   "pooled", 0, "fp32", "key", folder, context)


def test_all_settings_share_a_forward_and_the_backbone_is_frozen(tmp_path: Path) -> None:
    assert "crops" in evaluation("linear_images").summary
    assert evaluation("linear_images").takes == "encoder"
    calls = []
    for lrs in ((8.0,), (1e-5, 8.0, 0.1)):
        network = Bright()
        found = linear_images(_subject(tmp_path, network, lambda: False),
                              replace(CONFIG, lrs=lrs), None)
        assert found["top1"] == 1.0 and torch.equal(network.scale, torch.ones(3))
        calls.append(network.calls)
    steps = 12 * 48 // 16
    assert calls[0] == steps + 2 and calls[1] == steps + 4  # and one for each validation, test


def test_top5_of_more_classes_than_colours(tmp_path: Path) -> None:
    found = linear_images(_subject(tmp_path, Bright(), lambda: False, classes=12), CONFIG, None)
    assert found["top1"] < 0.6 and found["top5"] == 1.0, "four classes of each colour"


def test_a_stopped_one_goes_on_to_the_same_numbers(tmp_path: Path) -> None:
    whole = linear_images(_subject(tmp_path / "a", Bright(), lambda: False), CONFIG, None)
    network = Bright()
    with pytest.raises(Interrupted, match="stopped after step 10"):
        linear_images(_subject(tmp_path / "b", network, lambda: network.calls == 10), CONFIG, None)
    assert "top5" not in whole, "three classes"
    rest = Bright()
    assert linear_images(_subject(tmp_path / "b", rest, lambda: False), CONFIG, None) == whole
    assert rest.calls == 12 * 48 // 16 + 3 - 10
