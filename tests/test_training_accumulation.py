"""A batch in several forward passes: equal to the whole batch where the loss is a mean over images,
the mean of the parts' losses where it is not, and in the key because it changes numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import distributed_ranks as ranks
import pytest
import test_methods_training as small
import torch
from slurm_cluster import TINY
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from harness.config import compose
from harness.errors import UserError
from harness.launch.resources import Shape, by_kind, describe, shape
from harness.plan import Plan, make_plan
from harness.schema import Training
from harness.shares import shares
from harness.store import Store
from harness.study import resolve_study
from harness.training.feed import Resident
from harness.training.loop import Job, Loop, Surroundings
from harness.training.settings import equal_parts, sharing
from methods.base import Method

# what couples these is an option that is not at its default, or is turned off here
UNCOUPLED: dict[str, dict[str, object]] = {
    "mocov1": {}, "mocov2": {}, "infomin": {"jigsaw": False}, "npid": {"negatives": 0},
    **{name: {} for name in small.TRAINABLE if not small.SPECS[name].couples}}
COUPLED = [name for name in small.TRAINABLE if name not in UNCOUPLED]


def without_norm(module: nn.Module) -> None:
    """Take every BatchNorm out: it couples any batch. Barlow Twins' last one is its loss."""
    for name, child in module.named_children():
        if isinstance(child, _BatchNorm) and name != "standardise":
            setattr(module, name, nn.Identity())
        else:
            without_norm(child)


def looped(method: Method, folder: Path, at_once: int | None) -> Loop:
    """Eight steps of 16 images without random numbers, in float64."""
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (small.NUM_IMAGES, 16, 16, 3), dtype=torch.uint8,
                           generator=generator)
    number = torch.arange(small.NUM_IMAGES)

    def view(shift: int) -> Callable[[Any, torch.Generator], Tensor]:
        return lambda images, _: images.permute(0, 3, 1, 2).double().roll(shift, 3) / 255 - 0.5

    training = Training(epochs=2, batch_size=small.BATCH, lr=0.01, precision="fp32")
    teachers: Any = ranks._Pixels() if method.needs_teachers else None
    job = Job(method, Resident(pixels), number % 4, [view(v) for v in range(len(method.views))],
              training, 3, "cpu", "x", groups=number % small.GROUPS, teachers=teachers,
              at_once=at_once)
    loop = Loop(job, Surroundings(folder, 1e9, lambda facts: None, lambda: False))
    loop.run()
    return loop


def built(name: str, **options: object) -> Method:
    torch.manual_seed(0)
    method = small.built(name, **options)
    without_norm(method)
    return method.double()


def test_there_is_something_to_compare() -> None:
    assert len(UNCOUPLED) >= 8 and len(COUPLED) >= 9


@pytest.mark.parametrize("name", UNCOUPLED)
@pytest.mark.parametrize("at_once", [4, 6])
def test_parts_are_the_whole_batch(name: str, at_once: int, tmp_path: Path) -> None:
    """Weights, averages, queues and banks: each moved once, with the rows of all parts."""
    parts = looped(built(name, **UNCOUPLED[name]), tmp_path / "a", at_once)
    whole = looped(built(name, **UNCOUPLED[name]), tmp_path / "b", None)
    assert parts.job.parts == 4 and parts.num_steps == whole.num_steps == 8
    torch.testing.assert_close(parts.losses, whole.losses, rtol=1e-6, atol=0)
    found, expected = parts.job.method.state_dict(), whole.job.method.state_dict()
    assert len(expected) > 4
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", COUPLED)
def test_a_loss_that_couples_images_changes(name: str, tmp_path: Path) -> None:
    parts = looped(built(name), tmp_path / "a", 4)
    whole = looped(built(name), tmp_path / "b", None)
    # far more than those agree that couple nothing
    assert not torch.allclose(parts.losses, whole.losses, rtol=2e-6, atol=0), \
        small.SPECS[name].couples
    assert torch.isfinite(parts.losses).all()


def test_of_a_coupled_loss_it_is_the_mean_over_the_parts(tmp_path: Path) -> None:
    """The first step's loss by hand, BatchNorm over the part included."""
    torch.manual_seed(0)
    method = small.built("simclr").double()
    torch.manual_seed(0)
    other = small.built("simclr").double()
    seen: list[Tensor] = []

    def noted(batch: Any) -> Tensor:
        seen.append(small.total(type(other).loss(other, batch)).detach())
        return small.total(type(method).loss(method, batch))

    method.loss = noted  # type: ignore[method-assign]
    loop = looped(method, tmp_path, 4)
    torch.testing.assert_close(loop.losses[0].double(), torch.stack(seen[:4]).mean())
    assert len(seen) == 4 * loop.num_steps and len(set(map(float, seen[:4]))) == 4


def test_equal_parts_and_equal_shares() -> None:
    assert [equal_parts(16, n) for n in (None, 16, 99, 15, 8, 6, 5, 2)] == [1, 1, 1, 2, 2, 4, 4, 8]
    with pytest.raises(ValueError, match="a batch of 7 images has no equal parts of 2 to 3"):
        equal_parts(7, 3)
    assert [sharing(8, n, []) for n in (4096, 12, 7, 1)] == [8, 6, 7, 1]
    assert sharing(32, 256, [8]) == 8 and sharing(32, 256, [1]) == 32


def planned(tmp_path: Path, *arguments: str) -> Plan:
    base = (*TINY[:2], "grid.methods=[simclr,byol]", *TINY[3:])
    study = resolve_study(compose([*base, f"results={tmp_path}", *arguments]))
    return make_plan(study, Store(tmp_path / "store"))


def keys(plan: Plan) -> set[str]:
    return {stage.key for stage in plan.stages if stage.kind == "pretrain"}


def test_accumulation_is_in_the_key_and_is_said_and_ranks_are_not(tmp_path: Path) -> None:
    plain = planned(tmp_path)
    part = "scale.resources.pretrain={micro_batch:16}"
    inline = planned(tmp_path, part)
    assert len(keys(plain)) == 2 and not keys(plain) & keys(inline)
    said = [line for line in inline.cautions if "accumulated from 4 forward passes of 16" in line]
    assert len(said) == 2 and not plain.cautions
    assert sum("negatives of the batch" in line for line in said) == 1
    # as many images at once over more processes are the same numbers
    more = planned(tmp_path, "launcher=slurm", "scale.resources.pretrain="
                   "{micro_batch:4,nodes:2,tasks_per_node:2}")
    assert keys(more) == keys(inline)
    for same in (planned(tmp_path, "scale.resources.pretrain={micro_batch:64}"),
                 planned(tmp_path, "launcher.ranks=4"),
                 planned(tmp_path, "launcher=slurm", "launcher.nodes=4")):
        assert keys(same) == keys(plain)


def test_processes_that_cannot_share_a_batch_are_said(tmp_path: Path) -> None:
    (first, _) = planned(tmp_path, "launcher.ranks=6").cautions
    assert "'simclr': 4 of 6 processes work on it: no more can share 64 images equally" in first
    spec = small.SPECS["mocov2"]
    params = {"training": {"batch_size": 256}, "options": {"key_splits": 8}}
    found, (line,) = shares(Shape(32), spec, params, "mocov2", None)
    assert not found and "8 of 32 processes" in line
    with pytest.raises(UserError, match="method 'x': a batch of 7 images has no equal parts"):
        shares(Shape(1, 3), spec, params, "x", 7)


def test_only_training_is_shared_by_processes(tmp_path: Path) -> None:
    problems: list[str] = []
    wide = {"nodes": 2, "tasks_per_node": 4, "gpus": 4}
    asked = {"pretrain": wide, "features": wide}
    found = by_kind(asked, {}, 1, problems)
    assert not problems and found["pretrain"].ranks == 8 and found["features"].ranks == 1
    assert found["pretrain"].gpus == 4 and found["features"].gpus == 1
    *lines, note = describe(planned(tmp_path).todo, found)
    assert "every other stage, fine-tuning too, by one" in note
    assert [line.split()[0] for line in lines] == ["pretrain", "features", "evaluate"]
    assert "2 nodes x 4 tasks, 4 GPUs a node" in lines[0] and "1 node x 1 task" in lines[1]


def test_here_a_process_has_a_gpu_each() -> None:
    config: dict[str, Any] = {"launcher": {"name": "local", "device": "auto"}, "scale": {
        "resources": {"pretrain": {"nodes": 4, "tasks_per_node": 8}}}}
    for number, expected in ((0, 1), (1, 1), (3, 3), (16, 8)):
        assert shape(config, (["0"] * number).copy).ranks == expected
    config["launcher"]["ranks"] = 2
    assert shape(config, lambda: []).ranks == 2
    config["launcher"] = {"name": "slurm"}
    assert shape(config, lambda: []).ranks == 32
