"""`harness.check` passes what keeps the contract and names what does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import door

BASE = '''
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from methods.base import Batch, Info, Method
from methods.registry import register


@register("bad")
class Bad(Method):
    """A method with one fault."""

    views = ("simclr", "simclr")

    def __init__(self, backbone: nn.Module, info: Info, config: Method.Config) -> None:
        super().__init__(backbone, info, config)
        self.head = nn.Linear(info.feature_dim, 16)
        self.count = 0

    def loss(self, batch: Batch) -> Tensor:
        a, b = (nn.functional.normalize(self.head(self.backbone(v))) for v in batch.views)
        loss = nn.functional.cross_entropy(a @ b.T / 0.5, torch.arange(len(a)))
        return loss
'''
RETURN = "        return loss"
FAULTS = {
    "whose gradient reaches the whole encoder": (RETURN, "        return loss.detach()"),
    "the loss is a finite scalar": (RETURN, "        return (a * b).sum(1)"),
    # its value is the loss, its gradient points the other way
    "training lowers the loss": (RETURN, "        return 2 * loss.detach() - loss"),
    # state outside state_dict is lost when the run is resumed
    "ends like one that is not": (
        RETURN, "        self.count += 1\n        return loss * (1 + self.count / 10)"),
    "loads and builds": ("self.count = 0", "self.count = unknown_name"),
    "must be `loss(self, batch)`": ("batch: Batch)", "batch: Batch, x: int)"),
}


@pytest.mark.parametrize("said", FAULTS)
def test_a_fault_is_named(said: str, tmp_path: Path) -> None:
    plugin = tmp_path / "bad.py"
    plugin.write_text(BASE.replace(*FAULTS[said]))
    done = door("harness.check", "method=bad", f"plugins={plugin}")
    failed = [line for line in done.stdout.splitlines() if "FAIL" in line]
    assert done.returncode == 1 and any(said in line for line in failed), done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_the_faultless_one_passes(tmp_path: Path) -> None:
    plugin = tmp_path / "bad.py"
    plugin.write_text(BASE)
    done = door("harness.check", "method=bad", f"plugins={plugin}")
    assert done.returncode == 0 and done.stdout.count("  ok   ") == 8, done.stdout


def test_a_wrong_name_is_one_line() -> None:
    done = door("harness.check", "method=simcrl")
    assert done.returncode == 2 and "Did you mean 'simclr'" in done.stderr


@pytest.mark.slow
def test_every_method_keeps_the_contract() -> None:
    done = door("harness.check", "method=all", timeout=1200)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("keeps the contract") >= 18
