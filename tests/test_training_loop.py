"""The loop: what a batch holds, resuming bit for bit, errors, teachers."""

from __future__ import annotations

import dataclasses
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import training_fixtures as fixtures
from torch import Tensor

from harness.training import checkpoint
from harness.training.loop import Interrupted, Loop
from harness.training.optim import OPTIMIZERS
from harness.training.sampling import Sampler
from harness.training.teachers import Teachers

ROOT = Path(__file__).parents[1]


def _trained(folder: Path, job: Any = None, **changes: Any) -> dict[str, Tensor]:
    loop = Loop(job or fixtures.job(), fixtures.surroundings(folder, **changes))
    loop.run()
    return fixtures.state(loop)


def _assert_equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert len(a) > 20 and a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different


def test_two_runs_are_equal_and_another_seed_is_not(tmp_path: Path) -> None:
    first = _trained(tmp_path / "a")
    _assert_equal(first, _trained(tmp_path / "b"))
    other = _trained(tmp_path / "c", dataclasses.replace(fixtures.job(), seed=4))
    assert not torch.equal(first["losses"], other["losses"])


def test_every_image_is_seen_equally_often_in_full_batches(tmp_path: Path) -> None:
    loop = Loop(fixtures.job(num_images=40, epochs=6.0), fixtures.surroundings(tmp_path))
    loop.run()
    assert loop.num_steps == 15
    seen = fixtures.state(loop)["seen"]
    assert seen.tolist() == [6] * 40
    batch = loop.job.method.last
    assert isinstance(batch, fixtures.Batch)
    assert batch.index.shape == (16,) and len(batch.views) == 2 and batch.labels is None
    assert batch.progress == pytest.approx(14 / 15)
    assert torch.isfinite(loop.losses).all() and loop.losses[-3:].mean() < loop.losses[:3].mean()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("stop_after", [1, 4])
def test_interrupted_and_resumed_equals_uninterrupted(
        tmp_path: Path, optimizer: str, stop_after: int) -> None:
    settings = {"optimizer": optimizer, "lr": 0.01, "warmup_epochs": 1.0}
    whole = _trained(tmp_path / "whole", fixtures.job(**settings))
    steps = iter(range(1, 100))
    with pytest.raises(Interrupted, match=f"step {stop_after} of 8"):
        _trained(tmp_path / "cut", fixtures.job(**settings),
                 stop=lambda: next(steps) >= stop_after)
    torch.manual_seed(99)  # the resumed process starts with another global state
    _assert_equal(whole, _trained(tmp_path / "cut", fixtures.job(**settings)))


def test_sigkill_at_random_moments_changes_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(fixtures.__file__))]
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    rng, kills = random.Random(0), 0
    folder = tmp_path / "killed"
    folder.mkdir()
    for _ in range(2):
        with subprocess.Popen([*command, str(folder)], env=environment) as process:
            _wait_for_progress(folder, process)
            time.sleep(rng.random() * 0.2)
            kills += process.poll() is None
            process.kill()
    assert kills, "the run must still have been going when it was killed"
    subprocess.run([*command, str(folder)], env=environment, check=True)
    whole = _trained(tmp_path / "whole", fixtures.job(epochs=30.0))
    _assert_equal(whole, torch.load(folder / "result.pt", weights_only=True))


def _wait_for_progress(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Until the process has replaced the checkpoint that it found, or has ended."""
    path = folder / checkpoint.NAME
    before = path.stat().st_mtime_ns if path.exists() else 0
    while process.poll() is None and not (path.exists() and path.stat().st_mtime_ns > before):
        time.sleep(0.01)


@pytest.mark.parametrize("check_every", [1, 5])
def test_nan_names_its_step_and_a_remedy(tmp_path: Path, check_every: int) -> None:
    job = fixtures.job()
    assert isinstance(job.method, fixtures.Dummy)
    job.method.fail_at = 0.5
    loop = Loop(job, fixtures.surroundings(tmp_path))
    loop.check_every = check_every
    with pytest.raises(FloatingPointError, match=r"became nan at step 5 of 8 \(.*lower lr"):
        loop.run()


def test_progress_and_checkpoints_are_reported(tmp_path: Path) -> None:
    facts: list[dict[str, Any]] = []
    _trained(tmp_path, fixtures.job(epochs=80.0), progress=facts.append, checkpoint_seconds=0.1)
    assert facts and facts[0].keys() == {
        "step", "steps", "images_per_second", "eta_seconds", "loss"}
    assert facts[0]["images_per_second"] > 0
    assert (tmp_path / checkpoint.NAME).exists()


def test_a_checkpoint_of_another_stage_is_refused(tmp_path: Path) -> None:
    checkpoint.save(tmp_path, {"identity": "other"})
    with pytest.raises(ValueError, match="belongs to another stage: remove"):
        _trained(tmp_path)


def test_a_damaged_checkpoint_is_named_and_the_run_starts_again(tmp_path: Path) -> None:
    (tmp_path / checkpoint.NAME).write_bytes(b"PK\x03\x04 truncated")
    with pytest.warns(UserWarning, match="damaged checkpoint, starting again"):
        found = _trained(tmp_path)
    _assert_equal(found, _trained(tmp_path / "clean"))


def test_sampler_defers_repeats_at_the_seam_and_resumes() -> None:
    sampler, copy = Sampler(10, 7, seed=0), Sampler(10, 7, seed=5)
    batches = []
    for step in range(20):
        if step == 9:
            copy.load_state_dict(sampler.state_dict())
        batches.append(sampler.next())
        assert step < 9 or torch.equal(batches[-1], copy.next())
    assert all(batch.unique().numel() == 7 for batch in batches)
    stream = torch.cat(batches)
    for epoch in range(14):
        assert sorted(stream[10 * epoch:10 * epoch + 10].tolist()) == list(range(10))
    with pytest.raises(ValueError, match="between 1 and 10"):
        Sampler(10, 11, seed=0)


def _teachers(num_groups: int, count: int) -> tuple[Teachers, list[fixtures.Dummy]]:
    methods = []
    for seed in range(count):
        method = fixtures.job().method
        assert isinstance(method, fixtures.Dummy)
        torch.manual_seed(seed)
        torch.nn.init.normal_(method.projector.weight)
        methods.append(method)
    return Teachers(methods, num_groups, "fp32", "cpu"), methods


def test_experts_embed_only_their_own_images() -> None:
    teachers, methods = _teachers(num_groups=3, count=4)
    assert teachers.dims(16) == (8, 8, 8, 8)
    view = torch.randn(10, 3, 16, 16)
    groups = torch.tensor([0, 1, 1, 0, 0, 1, 0, 1, 0, 0])  # group 2 is absent
    found = teachers.embed([view, view + 1], groups)
    assert len(found) == 4 and all(len(views) == 2 for views in found)
    with torch.no_grad():
        torch.testing.assert_close(found[0][1], methods[0].embed(view + 1, "output"))
        for expert in range(3):
            expected = methods[expert + 1].embed(view, "output") * (groups == expert)[:, None]
            torch.testing.assert_close(found[expert + 1][0], expected, rtol=1e-4, atol=1e-5)
    assert not found[0][0].requires_grad


def test_without_groups_every_teacher_sees_every_image() -> None:
    teachers, _ = _teachers(num_groups=0, count=2)
    found = teachers.embed([torch.randn(4, 3, 16, 16)], None)
    assert len(found) == 2 and all(bool(views[0].abs().sum(1).all()) for views in found)
