"""One pre-training by several worker processes, on this machine and on a real Slurm."""

from __future__ import annotations

import json
import os
import queue
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file
from slurm_cluster import Cluster
from test_slurm import until_idle

from harness import crew
from harness.config import compose
from harness.launch.pool import Outcome, Pool
from harness.launch.settings import for_workers, settings
from harness.plan import Plan, make_plan
from harness.store import Store
from harness.study import resolve_study

# a larger rate multiplies what float32 rounds by ten each step
GRID = ("grid=curation_gap", "scale=smoke", "grid.methods=[mocov2]", "grid.seeds=[0]",
        "grid.conditions=[curated]", "grid.evaluations=[knn]", "scale.training.precision=fp32",
        "scale.training.lr=0.0001", "scale.training.batch_size=32", "scale.training.epochs=1.5")
Event = dict[str, Any]


def planned(results: Path, *arguments: str) -> tuple[Plan, dict[str, Any]]:
    config = compose([*GRID, f"results={results}", "launcher.device=cpu", *arguments])
    study = resolve_study(config)
    store = Store.open(results / "store")
    given = {**settings(config, study), "store": str(store.root), "data_paths": {},
             "provenance": {}, "checkpoint_seconds": 0.01}
    return make_plan(study, store), given


def trained(results: Path, *arguments: str, retries: int = 0,
            report: Callable[[Event], None] = lambda event: None) -> tuple[Path, Outcome]:
    """Run the one pre-training of the grid; its artifact."""
    plan, given = planned(results, *arguments)
    (stage,) = [stage for stage in plan.todo if stage.kind == "pretrain"]
    store = Store(results / "store")
    outcome = Pool([stage], store, for_workers(given), 1, results / "logs", report,
                   retries=retries).run()
    return store.path(stage), outcome


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of one process."""
    return trained(tmp_path_factory.mktemp("single"))[0]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of two processes that nobody disturbed."""
    return trained(tmp_path_factory.mktemp("pair"), "launcher.ranks=2")[0]


def assert_close(some: Path, one: Path) -> None:
    """The same stage, and the same weights but for rounding."""
    ours, theirs = (load_file(folder / "method.safetensors") for folder in (some, one))
    assert some.name == one.name and len(theirs) > 40 and ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-4, msg=name)


def same_bytes(some: Path, one: Path) -> bool:
    names = ("method.safetensors", "encoder.safetensors", "metrics.json", "losses.npy")
    return all((some / name).read_bytes() == (one / name).read_bytes() for name in names)


def test_two_processes_are_one_stage(single: Path, pair: Path) -> None:
    assert_close(pair, single)
    assert json.loads((pair / "record.json").read_text())["ranks"] == 2
    assert "ranks" not in json.loads((single / "record.json").read_text())


class Killer:
    """Kills a process of a crew in the middle of its stage, once."""

    def __init__(self, how: signal.Signals = signal.SIGKILL) -> None:
        self.how, self.worker, self.killed = how, 0, 0

    def __call__(self, event: Event) -> None:
        if event["event"] == "ready":
            self.worker = event["pid"]
        if event["event"] == "progress" and not self.killed:
            (child,) = psutil.Process(self.worker).children()
            self.killed = child.pid
            child.send_signal(self.how)


def test_a_killed_rank_is_started_again_and_the_bytes_are_equal(pair: Path,
                                                                tmp_path: Path) -> None:
    killer = Killer()
    found, outcome = trained(tmp_path, "launcher.ranks=2", "launcher.workers=1", retries=1,
                             report=killer)
    assert killer.killed and outcome.ran == 1 and not outcome.failed
    assert same_bytes(found, pair)
    log = next((tmp_path / "store" / "logs").glob(f"{found.name}.log")).read_text()
    assert "lost: rank 1 of 2 was killed by SIGKILL" in log and log.count("--- ") == 2


UNWELL = """
from dataclasses import dataclass
from methods.base import Method
from methods.parts.distributed import rank
from methods.registry import register


@register("unwell")
class Unwell(Method):
    views = ("simclr",)

    def loss(self, batch):
        if rank() == 1 and batch.progress > 0.2:
            raise ValueError("no more colours")
        return self.backbone(batch.views[0]).square().mean()
"""


def test_the_cause_shown_is_that_of_the_rank_that_failed(tmp_path: Path) -> None:
    plugin = tmp_path / "unwell.py"
    plugin.write_text(UNWELL)
    found, outcome = trained(tmp_path, "launcher.ranks=2", f"plugins=[{plugin}]",
                             "grid.methods=[unwell]", retries=3)
    (cause,) = outcome.failed.values()
    assert cause.startswith("rank 1 of 2 on ") and cause.endswith(": no more colours")
    failure = json.loads((tmp_path / f"store/failures/{found.name}.json").read_text())
    assert failure["cause"] == cause and 'raise ValueError("no more colours")' in \
        failure["traceback"]


@pytest.mark.slow
def test_a_rank_that_is_asked_to_stop_stops_all_and_they_go_on(pair: Path, tmp_path: Path) -> None:
    killer = Killer(signal.SIGTERM)
    events: list[Event] = []
    found, outcome = trained(tmp_path, "launcher.ranks=2", report=lambda event: (
        killer(event), events.append(event))[1])
    assert killer.killed and outcome.ran == 1 and same_bytes(found, pair)
    assert [e["event"] for e in events if e["event"] in ("interrupted", "done")] == [
        "interrupted", "done"]


def test_a_silent_rank_is_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "SILENT_SECONDS", 1.0)
    monkeypatch.setattr(crew, "CAUSE_SECONDS", 0.1)
    heard: queue.Queue[tuple[str, Any]] = queue.Queue()
    leader = crew.Crew(crew.Place(0, 2, "127.0.0.1", 0), lambda *said: heard.put(said))
    leader.store.set("beat/1", "node7 123|0")
    leader.active = True
    assert heard.get(timeout=20) == ("rank 1 of 2 on node7 is silent", None)
    with pytest.raises(crew.Lost, match="rank 1 of 2 on node7 is silent"), \
            leader.stage({}, 2, "cpu"):
        pass


def environment(process: psutil.Process, word: str) -> dict[str, str]:
    try:
        return process.environ() if word in " ".join(process.cmdline()) else {}
    except psutil.Error:
        return {}


def processes(cluster: Cluster, rank: int, word: str) -> list[int]:
    """Processes of a rank in the allocations of this cluster, with a word in their command."""
    return [p.pid for p in psutil.process_iter() if (found := environment(p, word))
            and found.get("SLURM_CONF") == cluster.environment["SLURM_CONF"]
            and found.get("SLURM_PROCID") == str(rank)]


def four(cluster: Cluster, results: Path, *more: str) -> None:
    """Submit the grid with a pre-training on two nodes with two tasks each."""
    asked = cluster.run(results, "scale.resources.pretrain={nodes:2,tasks_per_node:2}",
                        "launcher.checkpoint_seconds=0.01", *more, base=GRID)
    assert asked.returncode == 0, asked.stderr
    assert "1 x 2 nodes x 2 tasks" in asked.stdout


def artifact(results: Path) -> Path:
    (found,) = (results / "store" / "pretrain").glob("??/*")
    return found


def kill_one(cluster: Cluster, results: Path, word: str) -> None:
    """Kill a process of the last rank once there is a checkpoint."""
    deadline = time.monotonic() + 90
    while not list((results / "store" / "checkpoints").glob("*/checkpoint.pt")):
        assert time.monotonic() < deadline, cluster.ask("squeue")
        time.sleep(0.05)
    (pid,) = processes(cluster, 3, word)
    os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def whole(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifact of four processes on two nodes that nobody disturbed."""
    results = tmp_path_factory.mktemp("whole")
    four(cluster, results)
    until_idle(cluster)
    # the features and the evaluation came after it, by one process
    assert len(list((results / "store" / "evaluate").glob("??/*"))) == 1
    return artifact(results)


@pytest.mark.slow
def test_two_nodes_of_two_tasks_are_one_process(whole: Path, single: Path) -> None:
    assert_close(whole, single)
    assert json.loads((whole / "record.json").read_text())["ranks"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("word", ["harness.worker", "submitit.core"])
def test_they_survive_the_death_of_a_worker_and_of_a_task(
        cluster: Cluster, whole: Path, word: str, tmp_path: Path) -> None:
    four(cluster, tmp_path)
    kill_one(cluster, tmp_path, word)
    deadline = time.monotonic() + 200
    while not list((tmp_path / "store" / "pretrain").glob("??/*/SHA256SUMS")):
        assert time.monotonic() < deadline, cluster.ask("squeue")
        time.sleep(0.5)
    cluster.cancel_all()  # what comes after the pre-training
    until_idle(cluster)
    assert same_bytes(artifact(tmp_path), whole)
    (log,) = (tmp_path / "store" / "logs").glob(f"{whole.name}.log")
    assert log.read_text().count("--- ") >= 2
    if word == "harness.worker":  # in the same allocation
        assert "lost: rank 3 of 4 on" in log.read_text()
        assert "was killed by SIGKILL" in log.read_text()
    else:  # Slurm ends the others, and the job begins again
        assert list((tmp_path / "store" / "submissions").glob("*/batch/killed-*"))
