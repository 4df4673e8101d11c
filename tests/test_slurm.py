"""launcher=slurm on a real Slurm: four virtual nodes on this machine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from slurm_cluster import TINY, Cluster, until_idle
from support import contents, door, sweep

from harness.launch.ledger import Submission, submissions
from harness.store import Store

REFERENCES = "grid.methods=[random_init,raw_pixels]"


@pytest.fixture(scope="module")
def inline(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The bytes that two references have when nobody disturbs them."""
    results = tmp_path_factory.mktemp("inline")
    done = sweep(results, REFERENCES, base=TINY)
    assert done.returncode == 0, done.stderr
    return contents(results)


def latest(results: Path) -> Submission:
    return next(submissions(Store(results / "store")))


def spans(submission: Submission) -> dict[str, tuple[str, str]]:
    """When each stage began and ended, by the logs of the jobs."""
    begun: dict[str, str] = {}
    ended: dict[str, str] = {}
    for log in submission.folder.glob("batch/*_log.out"):
        for line in log.read_text().splitlines():
            if found := re.match(r"(\S+) event=(started|done) key=(\w+)", line):
                (begun if found[2] == "started" else ended)[found[3]] = found[1]
    return {key: (begun[key], ended[key]) for key in ended}


@pytest.mark.slow
def test_a_detached_grid_ends_with_the_same_bytes(cluster: Cluster, tmp_path: Path,
                                                  tmp_path_factory: pytest.TempPathFactory,
                                                  ) -> None:
    begun = time.monotonic()
    asked = cluster.run(tmp_path)
    assert asked.returncode == 0, asked.stderr
    submitted = time.monotonic() - begun
    for word in ("resources of 6 jobs:", "submitted: 11 stages as 6 jobs in 3 arrays", "logs:",
                 "watch:", "cancel:"):
        assert word in asked.stdout, asked.stdout
    # the same again, while the jobs run: nothing is submitted twice
    again = cluster.run(tmp_path)
    assert "not submitted again" in again.stdout and "submitted: " not in again.stdout
    until_idle(cluster)
    alone = tmp_path_factory.mktemp("alone")
    assert sweep(alone, base=TINY).returncode == 0
    assert contents(tmp_path) == contents(alone) and len(contents(alone)) > 20
    assert submitted < 60 and len(list(submissions(Store(tmp_path / "store")))) == 1
    # the last job wrote the report
    assert (tmp_path / "curation_gap-smoke" / "report.html").exists()
    # the experts were side by side
    times = spans(latest(tmp_path))
    folders = [p.parent for p in (tmp_path / "store" / "pretrain").glob("??/*/stage.json")
               if "subset" in json.loads(p.read_text())["params"]]
    experts = [times[folder.name] for folder in folders]
    assert len(experts) == 3
    assert max(start for start, _ in experts) < min(end for _, end in experts)
    # a record says which code it was; the code is there
    record = json.loads((folders[0] / "record.json").read_text())
    assert (tmp_path / "code" / record["snapshot"] / "harness" / "sweep.py").is_file()
    status = cluster.run(tmp_path, base=TINY[:2], module="harness.status")
    assert "11 of 11 stages done" in status.stdout and status.returncode == 0
    # completed, says Slurm, but the artifact is not there: a state of its own
    shutil.rmtree(next((tmp_path / "store" / "evaluate").glob("??/*")))
    status = cluster.run(tmp_path, base=TINY[:2], module="harness.status")
    assert status.returncode == 1 and "evaluate  1 done, 1 vanished" in status.stdout
    assert re.search(r"vanished: 1 x evaluate: job \S+ ended \(COMPLETED\) without the artifact\n"
                     r"  first: evaluate for .*; log: .*\.log\n", status.stdout), status.stdout
    assert "run again: python -m harness.sweep grid=curation_gap" in status.stdout


def test_packed_stages_share_an_allocation(cluster: Cluster, inline: dict[str, str],
                                           tmp_path: Path) -> None:
    done = cluster.run(tmp_path, "wait=true", "launcher.pack=2", REFERENCES)
    assert done.returncode == 0, done.stderr
    assert "6 stages as 1 jobs in 1 arrays" in done.stdout and "report: " in done.stdout
    assert contents(tmp_path) == inline and len(inline) > 20
    # side by side, each stage with a log of its own
    workers = list(latest(tmp_path).folder.glob("workers/0/worker-*.log"))
    assert len(workers) == 2 and all("pretrain" in log.read_text() for log in workers)
    logs = list((tmp_path / "store" / "logs").glob("*.log"))
    assert len(logs) == 6 and all(log.read_text().startswith("--- ") for log in logs)


def test_what_waits_is_shown_and_cancelled(cluster: Cluster, tmp_path: Path) -> None:
    held = cluster.run(tmp_path, "launcher.slurm.hold=true", "launcher.max_running=2")
    assert held.returncode == 0, held.stderr
    assert len(cluster.jobs()) == 7  # with the one that reports
    names = cluster.ask("squeue", "-h", "-o", "%j").split()
    assert {name.rpartition("-")[2] for name in names} == {"lane0", "lane1", "report"}
    study = TINY[:2]
    # as if the command had been killed between sbatch's answer and writing it down
    ids = latest(tmp_path).folder / "ids.jsonl"
    lines = ids.read_text().splitlines(keepends=True)
    lost = next(n for n, line in enumerate(lines) if '"array": 3, "ids"' in line)
    ids.write_text("".join(lines[:lost] + lines[lost + 1:]))
    status = cluster.run(tmp_path, base=study, module="harness.status")
    assert "queued: " in status.stdout and "JobHeldUser" in status.stdout
    assert sorted(ids.read_text().splitlines(keepends=True)) == sorted(lines)  # found again
    cell = cluster.run(tmp_path, "cell=dnc,curated,0", base=study, module="harness.status")
    assert cell.stdout.count("queued") == 8 and cell.stdout.count("log: ") == 8
    wrong = cluster.run(tmp_path, "cell=dnc", base=study, module="harness.status")
    assert wrong.returncode == 2 and "cell=random_init,curated,0" in wrong.stderr
    cancelled = cluster.run(tmp_path, base=study, module="harness.cancel")
    assert "cancelled: 7 jobs (0 ran, 7 waited)" in cancelled.stdout, cancelled.stderr
    until_idle(cluster)
    status = cluster.run(tmp_path, base=study, module="harness.status")
    assert "missing" in status.stdout and "lost" not in status.stdout
    nothing = cluster.run(tmp_path, base=study, module="harness.cancel")
    assert "nothing to cancel" in nothing.stdout


def complaints(done: subprocess.CompletedProcess[str]) -> int:
    """Lines that a command complained with, beside what it noted."""
    return sum(not line.startswith("note: ") for line in done.stderr.splitlines())


def test_what_cannot_be_submitted_is_one_line(cluster: Cluster, tmp_path: Path) -> None:
    partition = cluster.run(tmp_path, "launcher.partition=nope")
    assert partition.returncode == 2 and complaints(partition) == 1
    assert "invalid partition specified: nope" in partition.stderr
    assert "nothing was submitted" in partition.stderr
    assert "refused" in latest(tmp_path).lines[-1] and not cluster.jobs()
    memory = cluster.run(tmp_path, "launcher.mem_gb=99999")
    assert memory.returncode == 2 and "Memory specification can not be satisfied" in memory.stderr
    option = cluster.run(tmp_path, "launcher.partitoin=gpu", "launcher.resources.pretrian.gpus=1")
    assert option.returncode == 2 and "Did you mean 'launcher.partition'" in option.stderr
    kind = cluster.run(tmp_path, "launcher.resources.pretrian.gpus=1", "launcher.timeout_min=0")
    assert "Did you mean 'pretrain'" in kind.stderr and "must be >= 1" in kind.stderr
    cluster.script("stop-ctld")
    try:
        down = cluster.run(tmp_path)
        status = cluster.run(tmp_path, base=TINY[:2], module="harness.status")
    finally:
        cluster.script("start-ctld")
    assert down.returncode == 1 and "Traceback" not in down.stderr
    assert "controller" in down.stderr and complaints(down) == 1
    assert "0 of 11 stages done" in status.stdout
    bare = door("harness.sweep", *TINY, f"results={tmp_path}", "launcher=slurm",
                env={"PATH": str(tmp_path)})
    assert bare.returncode == 2 and complaints(bare) == 1
    assert "needs sbatch, which this machine does not have" in bare.stderr


def test_what_is_refused_after_some_was_accepted_is_written_down(cluster: Cluster,
                                                                 tmp_path: Path) -> None:
    # the real sbatch, asked for a partition that there is not from its second call on
    calls, sbatch = tmp_path / "calls", tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text(f"#!/bin/sh\necho >> {calls}\n"
                      f'[ "$(wc -l < {calls})" = 1 ] || set -- -p nope "$@"\n'
                      f'exec {cluster.folder}/bin/sbatch "$@"\n')
    sbatch.chmod(0o755)
    limited = Cluster(cluster.folder)
    limited.environment["PATH"] = f"{sbatch.parent}:{limited.environment['PATH']}"
    half = limited.run(tmp_path, "launcher.slurm.hold=true", "grid.methods=[dnc]")
    assert half.returncode == 1 and complaints(half) == 1, half.stderr
    assert "Slurm refused more jobs" in half.stderr and "accepted and go on" in half.stderr
    submission = latest(tmp_path)
    assert sorted(submission.all_ids) == sorted(cluster.jobs()) and submission.all_ids
    assert "refused" in submission.lines[-1] and not submission.uncertain
    cancelled = cluster.run(tmp_path, base=TINY[:2], module="harness.cancel")
    assert f"cancelled: {len(submission.all_ids)} job" in cancelled.stdout
    until_idle(cluster)


@pytest.mark.slow
def test_a_stage_whose_input_failed_says_so_and_is_not_run(cluster: Cluster,
                                                           tmp_path: Path) -> None:
    asked = cluster.run(tmp_path, "scale.methods.moclr.training.lr=1.0e30", "grid.methods=[dnc]",
                        "scale.training.epochs=8", "wait=true")
    assert asked.returncode == 1, asked.stdout
    assert "loss became" in asked.stderr and "stages that need them not run" in asked.stderr
    status = cluster.run(tmp_path, base=TINY[:2], module="harness.status")
    assert status.returncode == 1
    assert "failed: 1 x pretrain: loss became" in status.stdout and "log: " in status.stdout
    assert "run again: python -m harness.sweep" in status.stdout
    failures = [json.loads(p.read_text()) for p in (tmp_path / "store/failures").glob("*.json")]
    blocked = [f["cause"] for f in failures if f.get("input")]
    assert len(blocked) >= 3 and all("failed: loss became" in cause for cause in blocked)
    assert not cluster.jobs()


def test_the_local_launcher_outlives_its_command(inline: dict[str, str], tmp_path: Path) -> None:
    small = (*TINY, "grid.methods=[random_init]", "launcher=local", "launcher.workers=1")
    asked = sweep(tmp_path, base=small)
    assert asked.returncode == 0, asked.stderr
    assert "submitted: 3 stages as one job (process " in asked.stdout
    # it did not wait for the job, which imports torch first
    assert not (tmp_path / "curation_gap-smoke" / "report.html").exists()
    study = (*TINY[:2], f"results={tmp_path}")
    again = sweep(tmp_path, base=small)
    assert "not submitted again" in again.stdout or "0 to run" in again.stdout
    deadline = time.monotonic() + 300
    while not (tmp_path / "curation_gap-smoke" / "report.html").exists():
        assert time.monotonic() < deadline, door("harness.status", *study).stdout
        time.sleep(0.5)
    found = contents(tmp_path)
    assert len(found) > 10 and found.items() <= inline.items()
    assert door("harness.status", *study).returncode == 0
