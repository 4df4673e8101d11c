"""Several processes over gloo compute what one process computes with the whole batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed_ranks as ranks
import pytest
import torch
from support import ROOT
from torch import nn
from torch._subclasses import FakeTensorMode

from harness.training import distributed
from harness.training.loop import Loop
from methods.parts import distributed as parts


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """As the ranks have it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All runs that several processes share."""
    folder = tmp_path_factory.mktemp("ranks")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo",
                   "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, ranks.__file__, str(folder)], env=environment, timeout=200,
                   check=True)
    return folder


def load(folder: Path, name: str, rank: int) -> dict[str, Any]:
    """What a rank has found."""
    found: dict[str, Any] = torch.load(folder / f"{name}.{rank}.pt", weights_only=True)
    assert "error" not in found, found["error"]
    return found


def test_every_method_is_compared() -> None:
    assert len(ranks.small.TRAINABLE) >= 12
    assert {method for method, _ in ranks.CASES.values()} == set(ranks.small.TRAINABLE)
    assert set(ranks.FOUR) <= set(ranks.CASES)


@pytest.mark.parametrize("name", ranks.CASES)
def test_two_processes_equal_one(name: str, shared: Path, tmp_path: Path) -> None:
    _compare(name, shared / "two", 2, tmp_path)


@pytest.mark.parametrize("name", ranks.FOUR)
def test_four_processes_equal_one(name: str, shared: Path, tmp_path: Path) -> None:
    _compare(name, shared / "four", 4, tmp_path)


def _compare(name: str, folder: Path, size: int, tmp_path: Path) -> None:
    """What the first rank has found against this process's, and against the other ranks'."""
    one, first = ranks.measured(name, tmp_path), load(folder, name, 0)
    _assert_steps_equal(first["single"], one["single"], name, 1e-5)
    # some methods ask for float32 in their loss, and the loop does for a loss in parts
    exact = one["double"]["losses"].dtype is torch.float64
    _assert_steps_equal(first["double"], one["double"], name, 1e-9 if exact else 1e-5)
    torch.testing.assert_close(first["loop"], one["loop"], rtol=1e-4, atol=0)
    assert len(one["loop"]) == ranks.LOOP_STEPS and one["loop"].unique().numel() > 5
    assert torch.equal(first["loop_rng"], one["loop_rng"])
    for other in (load(folder, name, rank) for rank in range(1, size)):
        assert torch.equal(other["loop"], first["loop"])
        assert torch.equal(other["loop_rng"], one["loop_rng"])
        different = [key for key, value in first["loop_state"].items()
                     if not torch.equal(value, other["loop_state"][key])]
        assert len(first["loop_state"]) > 5 and not [k for k in different if not _local(name, k)]


def _assert_steps_equal(some: dict[str, Any], one: dict[str, Any], name: str,
                        tolerance: float) -> None:
    """Losses, gradients (all parameters' as one vector) and states within a relative tolerance."""
    torch.testing.assert_close(some["losses"], one["losses"], rtol=tolerance, atol=0)
    assert len(one["gradients"]) > 3 and some["gradients"].keys() == one["gradients"].keys()
    ours, theirs = (torch.cat([g.flatten() for g in steps["gradients"].values()])
                    for steps in (some, one))
    assert (ours - theirs).norm() <= tolerance * theirs.norm()
    assert len(one["state"]) > 5 and some["state"].keys() == one["state"].keys()
    for key, value in one["state"].items():
        if not _local(name, key):
            torch.testing.assert_close(some["state"][key], value, rtol=tolerance, atol=tolerance,
                                       msg=lambda text, key=key: f"{key}: {text}")
    assert torch.equal(some["rng"], one["rng"])


def _local(name: str, key: str) -> bool:
    """Whether a tensor is of its rank only.

    The key encoder of shuffling BN sees its parts by themselves, so its running statistics are
    those of the rank's parts; nothing reads them.
    """
    return "shuffled" in name and "key_encoder" in key and (
        "running" in key or "num_batches" in key)


@pytest.fixture(scope="module")
def codes(shared: Path) -> dict[str, list[int]]:
    """The ranks' exit codes in every run."""
    found: dict[str, list[int]] = json.loads((shared / "codes.json").read_text())
    return found


def test_a_killed_rank_ends_the_others_and_the_run_resumes(
        shared: Path, codes: dict[str, list[int]]) -> None:
    assert codes["killed"] == [1, -9] and not list((shared / "cut").glob("*.pt"))
    assert codes["two"] == codes["resumed"] == [0, 0] and codes["four"] == [0] * 4
    _assert_loop_is_whole(shared, "resumed")


def test_a_request_to_stop_one_rank_stops_all_after_the_same_step(
        shared: Path, codes: dict[str, list[int]]) -> None:
    assert codes["stopped"] == codes["again"] == [0, 0]
    for rank in range(2):
        said = load(shared / "stopped", ranks.CUT, rank)["said"]
        assert said == f"stopped after step 7 of {ranks.LOOP_STEPS}"
    _assert_loop_is_whole(shared, "again")


def _assert_loop_is_whole(shared: Path, run: str) -> None:
    for rank in range(2):
        whole = load(shared / "two", ranks.CUT, rank)["loop"]
        assert torch.equal(load(shared / run, ranks.CUT, rank)["loop"], whole)


def test_ranks_that_see_other_checkpoints_are_refused(
        shared: Path, codes: dict[str, list[int]]) -> None:
    assert codes["apart"] == [0, 0]
    for rank in range(2):
        said = load(shared / "apart", ranks.CUT, rank)["said"]
        assert "found checkpoints of steps [4, 0]: put the checkpoint folder where" in said


def test_the_first_rank_writes_the_artifact_of_the_stage(
        shared: Path, codes: dict[str, list[int]], tmp_path: Path) -> None:
    assert codes["stage"] == [0, 0]
    first, second = (load(shared / "stage", "simclr", rank) for rank in range(2))
    assert "method.safetensors" in first["files"] and second["files"] == []
    one = ranks.stage("simclr", tmp_path)
    assert len(one["encoder"]) > 5 and one["files"] == first["files"]
    assert one["images_seen"] == first["images_seen"] == second["images_seen"]
    torch.testing.assert_close(first["encoder"], one["encoder"], rtol=1e-4, atol=1e-5)


def test_a_batch_that_cannot_be_shared_is_refused(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    job = ranks.looped("simclr", tmp_path).job
    monkeypatch.setattr(distributed, "world", lambda: 3)
    with pytest.raises(ValueError, match="16 images cannot be shared by 3 processes: choose"):
        Loop(job, None)  # type: ignore[arg-type]  # refused before it is looked at


def test_shuffling_bn_names_what_it_cannot_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "world", lambda: 3)
    with pytest.raises(ValueError, match="'key_splits' 4 over 3 processes: choose a multiple of 3"):
        ranks.small.built("mocov2", key_splits=4)


def test_one_process_is_left_alone() -> None:
    x = torch.randn(6, 3)
    assert parts.gather(x) is x and parts.total(x) is x and parts.mine(x) is x
    assert parts.rank_rows(3, views=2).tolist() == list(range(6))
    shuffled, order = parts.shuffle(x)
    assert torch.equal(shuffled, x[order]) and torch.equal(parts.unshuffle(shuffled, order), x)
    module = nn.Sequential(nn.BatchNorm1d(3))
    distributed.convert(module)
    assert type(module[0]) is nn.BatchNorm1d


def test_a_gpu_gets_torchs_own_synchronised_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world", lambda: 2)
    with FakeTensorMode():
        module = nn.Sequential(nn.BatchNorm2d(3, affine=False, device="cuda"),
                               nn.Sequential(nn.BatchNorm1d(2, device="cuda")))
        before = module.state_dict(keep_vars=True)
        distributed.convert(module)
    norms = [m for m in module.modules() if isinstance(m, nn.SyncBatchNorm)]
    assert len(norms) == 2 and norms[0].weight is None
    assert all(value is module.state_dict(keep_vars=True)[key] for key, value in before.items())


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_synchronised_norm_is_batch_norm(affine: bool, momentum: float | None) -> None:
    ours = distributed.SyncBatchNorm(3, momentum=momentum, affine=affine)
    torchs = nn.BatchNorm2d(3, momentum=momentum, affine=affine)
    for step in range(3):
        x = torch.randn(8, 3, 4, 4, requires_grad=True)
        y = x.detach().clone().requires_grad_()
        weight = torch.randn(8, 3, 4, 4)
        (ours(x) * weight).sum().backward()
        (torchs(y) * weight).sum().backward()
        assert x.grad is not None and x.grad.abs().sum() > 0, step
        torch.testing.assert_close(x.grad, y.grad)
        torch.testing.assert_close(dict(ours.state_dict()), dict(torchs.state_dict()))
    torch.testing.assert_close(ours.eval()(x), torchs.eval()(y))
