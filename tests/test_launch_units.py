"""Which stages share a worker, an allocation, an array: values, without a batch system."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from harness.launch import ledger, processes, snapshot
from harness.launch.pool import Pool
from harness.launch.resources import Resources, by_kind
from harness.launch.states import Look
from harness.launch.units import Packing, Unit, arrays, divide, jobs
from harness.stages import REVISIONS, Stage, digest
from harness.store import Store

ONE = {kind: Resources() for kind in REVISIONS}


def pretrain(name: str, **inputs: Stage) -> Stage:
    return Stage("pretrain", {"name": name, "training": {"epochs": 1}}, inputs)


def scored(encoder: Stage) -> list[Stage]:
    features = Stage("features", {}, {"encoder": encoder})
    return [features, *(Stage("evaluate", {"by": e}, {"features": features}) for e in ("a", "b"))]


def dnc(seed: int) -> list[Stage]:
    base = pretrain(f"base{seed}")
    groups = Stage("cluster", {}, {"base": base})
    experts = [pretrain(f"expert{seed}.{i}", groups=groups) for i in range(3)]
    last = pretrain(f"distil{seed}", teacher0=base, **{
        f"teacher{i + 1}": e for i, e in enumerate(experts)}, groups=groups)
    return [base, groups, *scored(base), *experts, last, *scored(last)]


def names(unit: Unit) -> list[str]:
    return [str(stage.params.get("name", stage.kind)) for stage in unit.stages]


def test_a_chain_is_one_unit_and_experts_are_side_by_side() -> None:
    units = divide(dnc(0), ONE)
    assert [names(u) for u in units if "base0" in names(u)] == [["base0", "cluster"]]
    # what nobody waits for is apart from what the experts wait for
    assert ["features", "evaluate", "evaluate"] in map(names, units)
    assert sum(names(u)[0].startswith("expert") for u in units) == 3
    assert names(units[-1]) == ["distil0", "features", "evaluate", "evaluate"]
    made = jobs(units, lambda unit: Packing(), {})
    experts = [job for job in made if names(job.units[0])[0].startswith("expert")]
    assert len(made) == 6 and {job.after for job in experts} == {frozenset({0})}
    assert len(arrays(made, 100)) == 3  # base; its evaluation and the experts; distil


def test_every_stage_is_in_one_job_after_those_it_needs() -> None:
    stages = [stage for seed in range(20) for stage in dnc(seed)]
    for packed in (Packing(), Packing(4), Packing(2, 5)):
        made = jobs(divide(stages, ONE), lambda unit, packed=packed: packed, {})
        home = {stage.key: job for job in made for stage in job.stages}
        assert len(home) == len(stages) == sum(len(job.stages) for job in made)
        for job in made:
            assert len(job.units) <= packed.units and all(n < job.number for n in job.after)
            needed = {home[p.key].number for s in job.stages for p in s.inputs.values()}
            assert needed - {job.number} == job.after
        together = arrays(made, 7)
        assert sum(map(len, together)) == len(made) and max(map(len, together)) <= 7
        assert all(len({(j.after, j.resources) for j in group}) == 1 for group in together)


def test_stages_of_other_resources_are_other_units() -> None:
    large = {**ONE, "pretrain": Resources(gpus=8)}
    units = divide([one := pretrain("one"), *scored(one)], large)
    assert [names(u) for u in units] == [["one"], ["features", "evaluate", "evaluate"]]


def test_a_unit_waits_for_the_living_job_of_another_submission() -> None:
    units = divide(scored(pretrain("elsewhere")), ONE)
    encoder = next(iter(units[0].inputs))
    (job,) = jobs(units, lambda unit: Packing(), {encoder: "17_3"})
    assert job.after_ids == {"17_3"} and not job.after


def test_an_allocation_reads_the_stages_that_were_planned() -> None:
    made = jobs(divide(dnc(0), ONE), lambda unit: Packing(), {})
    for job in made:
        read = ledger.stages_of(ledger.describe(job))
        assert [stage.key for stage in read] == [stage.key for stage in job.stages]
        assert [{r: p.key for r, p in s.inputs.items()} for s in read] == \
            [{r: p.key for r, p in s.inputs.items()} for s in job.stages]


def test_resources_of_kinds_and_what_is_wrong_with_them() -> None:
    problems: list[str] = []
    found = by_kind({"pretrain": {"gpus": 8, "minutes": 60}},
                    {"timeout_min": 30, "resources": {"pretrain": {"cpus": 9}}}, 2, problems)
    assert not problems
    assert found["pretrain"] == Resources(gpus=8, minutes=30, cpus=9)
    assert found["evaluate"] == Resources(minutes=30, cpus=2)
    by_kind({"pretrian": {}, "cluster": {"gpu": 1}}, {"resources": {"cluster": {"cpus": 0}}}, 1,
            problems)
    assert len(problems) == 3 and "Did you mean 'pretrain'" in problems[0]
    assert "Did you mean 'gpus'" in problems[1] and "must be >= 1" in problems[2]


def test_a_stage_whose_input_is_paid_for_is_looked_at_alone(tmp_path: Path) -> None:
    key, parent = digest("x"), digest("paid for, so not asked about")
    look = Look(Store.open(tmp_path), [(key, "features", [parent])])
    assert {key: state.name for key, state in look.states.items()} == {key: "missing"}


def test_equal_code_is_one_snapshot(tmp_path: Path) -> None:
    plugin = tmp_path / "mine.py"
    plugin.write_text("x = 1\n")
    first = snapshot.take(tmp_path, [plugin])
    assert snapshot.take(tmp_path, [plugin]) == first
    assert first.plugins[0].read_text() == "x = 1\n"
    assert (first.folder / "harness" / "worker.py").is_file()
    assert not list(first.folder.rglob("__pycache__"))
    plugin.write_text("x = 2\n")
    second = snapshot.take(tmp_path, [plugin])
    assert second.hash != first.hash and first.plugins[0].read_text() == "x = 1\n"
    assert len(list((tmp_path / "code").iterdir())) == 2


def test_a_stage_that_is_only_known_has_its_key() -> None:
    assert Stage.known("pretrain", digest("x")).key == digest("x")




# it ends its stage well, but only once it was asked to stop
LATE = """
import json, signal, sys
signal.signal(signal.SIGTERM, lambda *_: None)
print(json.dumps({"event": "ready"}), flush=True)
key = json.loads(sys.stdin.readline())["stage"]["key"]
print(json.dumps({"event": "progress", "key": key}), flush=True)
sys.stdin.read()
print(json.dumps({"event": "done", "key": key, "seconds": 1.0, "ran": True}), flush=True)
"""


def test_a_stage_that_ends_while_its_pool_stops_is_reported(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage, said = pretrain("late"), []
    monkeypatch.setattr(processes, "start", lambda *_: subprocess.Popen(
        [sys.executable, "-c", LATE], stdin=subprocess.PIPE, stdout=subprocess.PIPE))

    def report(event: dict[str, Any]) -> None:
        said.append(event["event"])
        if event["event"] == "progress":
            raise KeyboardInterrupt

    pool = Pool([stage], Store.open(tmp_path / "store"), {}, 1, tmp_path / "logs", report)
    outcome = pool.run()
    assert said == ["ready", "started", "progress", "done"] or \
        said == ["started", "ready", "progress", "done"]
    assert outcome.ran == 1 and outcome.interrupted


def test_a_signal_waits_until_what_was_read_is_said(
        monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The handler of a batch system's signal ends the process: not between a stage's end, which is
    read once, and the line that tells of it."""
    stage = pretrain("one")
    said: list[str] = []
    monkeypatch.setattr(processes, "start", lambda *_: subprocess.Popen(
        [sys.executable, "-c", LATE.replace("sys.stdin.read()", "")], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE))

    def report(event: dict[str, Any]) -> None:
        if event["event"] == "done":
            # to this thread, the only one that an allocation has: a test runner has others
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR2)
            said.append("done")

    def wanted_back(*_: Any) -> None:
        said.append("wanted back")
        raise SystemExit

    before = signal.signal(signal.SIGUSR2, wanted_back)
    try:
        pool = Pool([stage], Store.open(tmp_path / "store"), {}, 1, tmp_path / "logs", report)
        with pytest.raises(SystemExit):
            pool.run()
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert said == ["done", "wanted back"]
