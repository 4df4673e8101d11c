"""Checkpoints of others: their keys are mapped, or what does not fit is said in one line."""

from __future__ import annotations

import collections
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support import door
from torch import nn
from torchvision.models import resnet18

from harness import foreign
from harness.training.backbones import build_backbone

State = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    torch.manual_seed(0)
    return dict(resnet18().state_dict())


def prefixed(prefix: str, state: State, shift: float = 0.0) -> State:
    return {f"{prefix}{name}": value + shift for name, value in state.items()}


def sequential(state: State) -> State:
    """nn.Sequential(*resnet.children()[:-1]), as lightly's examples have it."""
    network = resnet18()
    network.load_state_dict(state)
    return dict(nn.Sequential(collections.OrderedDict(
        (str(i), child) for i, child in enumerate(list(network.children())[:-1]))).state_dict())


DIALECTS: dict[str, Callable[[State], dict[str, Any]]] = {
    "torchvision": lambda s: dict(s),
    "moco": lambda s: {"epoch": 3, "arch": "resnet18", "optimizer": {0: {"m": s["fc.bias"]}},
                       "state_dict": {**prefixed("module.encoder_k.", s, 1),
                                      **prefixed("module.encoder_q.", s),
                                      "module.queue": torch.zeros(2)}},
    "mocov3": lambda s: {"state_dict": {**prefixed("module.momentum_encoder.", s, 1),
                                        **prefixed("module.base_encoder.", s)}},
    "dino": lambda s: {"student": prefixed("module.backbone.", s, 1),
                       "teacher": prefixed("backbone.", s)},
    "solo-learn": lambda s: {"state_dict": {**prefixed("momentum_backbone.", s, 1),
                                            **prefixed("backbone.", s)},
                             "optimizer_states": [], "pytorch-lightning_version": "1.7"},
    "lightly": lambda s: {"state_dict": {**prefixed("backbone_momentum.", sequential(s), 1),
                                         **prefixed("backbone.", sequential(s))}},
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_network_of_a_file_is_found(dialect: str, state: State, tmp_path: Path) -> None:
    file = tmp_path / "file.pth.tar"
    torch.save(DIALECTS[dialect](state), file)
    backbone = build_backbone("resnet18", stem="imagenet")
    done = foreign.load(backbone, file)
    held = backbone.state_dict()
    assert done["tensors"] == len(held) == 120 and done["left_out"] >= 0
    assert all(torch.equal(value, state[name]) for name, value in held.items())


def test_safetensors_and_absent_counters(state: State, tmp_path: Path) -> None:
    file = tmp_path / "file.safetensors"
    save_file({k: v for k, v in state.items() if "num_batches" not in k}, file)
    backbone = build_backbone("resnet18", stem="imagenet")
    assert foreign.load(backbone, file) == {"prefix": "", "tensors": 100, "left_out": 2}


class Custom:
    """Something that only unpickling code could bring back."""


def test_what_does_not_fit_is_one_line(state: State, tmp_path: Path) -> None:
    file = tmp_path / "file.pt"

    def says(content: object, **options: Any) -> str:
        torch.save(content, file)
        name = options.pop("name", "resnet18")
        with pytest.raises(ValueError) as caught:
            foreign.load(build_backbone(name, **options), file)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
        return str(caught.value)

    stem = says(state, stem="cifar")
    assert "1 of 120 tensors do not fit: conv1.weight is 64x3x7x7 in the file and 64x3x3x3" in stem
    assert "stem=imagenet" in stem
    holes = says({k: v for k, v in state.items() if "layer3" not in k}, stem="imagenet")
    assert "of 120 tensors do not fit: layer3.0.conv1.weight is missing; " in holes
    assert "none of its 122 tensors (conv1.weight" in says(state, name="resnet_tiny")
    assert "do not fit" in says(state, name="resnet50", stem="imagenet")
    assert "run its code" in says({"model": Custom()})
    assert "holds no tensor" in says({"epoch": 3})
    file.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="no checkpoint of torch or safetensors|run its code"):
        foreign.load(build_backbone("resnet18"), file)


def test_the_door_scores_a_file_beside_the_untrained_network(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_backbone("resnet_tiny", width=8, stages=2)
    torch.save({"state_dict": prefixed("module.encoder_q.", network.state_dict())},
               tmp_path / "mine.pth.tar")
    own = ("harness.evaluate", f"checkpoint={tmp_path / 'mine.pth.tar'}",
           "evaluation=knn,clusters", "backbone=resnet_tiny", "scale=smoke",
           "scale.backbone.width=8", "scale.backbone.stages=2", f"results={tmp_path / 'results'}",
           "launcher.workers=1")
    done = door(*own)
    assert done.returncode == 0, done.stderr
    assert "kNN top-1 accuracy" in done.stdout and "mine" in done.stdout
    again = door(*own, "dry_run=true")
    assert "0 to run" in again.stdout, again.stdout
    gone = door("harness.evaluate", "checkpoint=nowhere.pt")
    assert gone.returncode == 2 and gone.stderr.count("\n") == 1 and "nowhere.pt" in gone.stderr
