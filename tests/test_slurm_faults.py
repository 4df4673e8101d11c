"""launcher=slurm while a cluster does what clusters do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
from slurm_cluster import TINY, Cluster, until_idle
from slurm_faults import Faults
from support import contents, sweep

pytestmark = pytest.mark.slow

# Many jobs side by side, so that fifty faults find something running within two minutes, and short:
# every fault costs an import of torch.
GRID = ("grid=curation_gap", "scale=smoke", "grid.methods=[random_init,simclr,dnc]",
        "grid.seeds=[0]", "grid.conditions=[curated,uncurated]", "grid.evaluations=[knn]",
        "scale.training.epochs=12")


def until_progress(process: subprocess.Popen[str], results: Path) -> Path:
    """Wait until a stage says how far it is; the file where it does."""
    deadline = time.monotonic() + 90
    while not (found := list((results / "store" / "progress").glob("*.json"))):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.1)
    return found[0]


def completions(results: Path) -> Counter[str]:
    """How often each stage was done, by the logs of all jobs of all submissions."""
    done: Counter[str] = Counter()
    for log in (results / "store").glob("submissions/*/batch/*_log.out"):
        done.update(re.findall(r"event=done key=(\w+) seconds=\S+ ran=True", log.read_text()))
    return done


def test_fifty_faults_change_no_number(cluster: Cluster, tmp_path: Path) -> None:
    undisturbed, disturbed = tmp_path / "undisturbed", tmp_path / "disturbed"
    assert sweep(undisturbed, base=GRID, timeout=600).returncode == 0
    faults = Faults(cluster, 0)
    options = ("launcher.partition=preempt", "launcher.checkpoint_seconds=0.5", "wait=true",
               "launcher.retries=20", "launcher.signal_delay_s=25")
    begun, sweeps, code = time.monotonic(), 0, -1
    while code and sweeps < 30:
        process = cluster.start(disturbed, *options, base=GRID)
        sweeps += 1
        while process.poll() is None:
            if sum(faults.done.values()) < 50:
                faults.one()
            else:
                faults.repair()
            time.sleep(faults.chance.uniform(0.2, 1.2))
        said, complaint = process.communicate()
        code = process.returncode
        assert code in (0, 1) and "Traceback" not in complaint, complaint
    faults.repair(now=True)
    print(f"{sum(faults.done.values())} faults in {sweeps} sweeps, "
          f"{time.monotonic() - begun:.0f} s: {dict(faults.done)}")
    assert code == 0
    assert contents(disturbed) == contents(undisturbed)
    times = completions(disturbed)
    stages = len(list((disturbed / "store").glob("*/??/*/stage.json")))
    # whoever is killed between committing and saying so has said nothing
    assert max(times.values()) == 1 and stages - 3 <= len(times) <= stages, times.most_common(3)
    assert sum(faults.done.values()) >= 50 and min(faults.done.values()) >= 3, faults.done


def test_two_people_at_once_compute_each_stage_once(cluster: Cluster, tmp_path: Path) -> None:
    both = [cluster.start(tmp_path, "wait=true") for _ in range(2)]
    said = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    times = completions(tmp_path)
    assert len(times) == 11 and set(times.values()) == {1}
    assert len(contents(tmp_path)) > 20
    assert sum("not submitted again" in out for out, _ in said) == 1


def test_the_whole_smoke_grid_has_the_same_bytes(cluster: Cluster, tmp_path: Path) -> None:
    whole = ("grid=curation_gap", "scale=smoke")
    done = cluster.run(tmp_path / "slurm", "wait=true", base=whole, timeout=900)
    assert done.returncode == 0, done.stderr
    assert sweep(tmp_path / "inline", base=whole, timeout=600).returncode == 0
    found = contents(tmp_path / "slurm")
    assert len(found) > 200 and found == contents(tmp_path / "inline")


def test_a_node_that_cannot_write_the_store_says_so(cluster: Cluster, tmp_path: Path) -> None:
    # no file may grow on the node: a real error of writing, also for root, also of the log
    full = cluster.run(tmp_path / "full", "wait=true", "launcher.setup=[ulimit -f 0]",
                       "grid.methods=[random_init]")
    assert full.returncode == 1 and "can its node write" in full.stderr, full.stderr
    results = tmp_path / "locked"
    held = cluster.run(results, "launcher.slurm.hold=true", "grid.methods=[random_init]")
    assert held.returncode == 0, held.stderr
    claims = results / "store" / "claims"
    claims.rename(results / "aside")
    claims.write_text("no folder")
    release(cluster)
    claims.unlink()
    (results / "aside").rename(claims)
    status = cluster.run(results, base=TINY[:2], module="harness.status")
    assert "lost: " in status.stdout and "cannot write the store" in status.stdout, status.stdout


def release(cluster: Cluster) -> None:
    """Let the jobs that are held run, and wait for their end."""
    cluster.ask("scontrol", "release", ",".join(cluster.jobs()))
    deadline = time.monotonic() + 90
    while cluster.jobs() and time.monotonic() < deadline:
        time.sleep(0.5)


def test_a_folder_that_nodes_do_not_share_is_named(cluster: Cluster, tmp_path: Path) -> None:
    here, away = tmp_path / "results", tmp_path / "away"
    held = cluster.run(here, "launcher.slurm.hold=true", "grid.methods=[random_init]")
    assert held.returncode == 0
    here.rename(away)  # as a node sees it that does not mount it
    release(cluster)
    away.rename(here)
    status = cluster.run(here, base=TINY[:2], module="harness.status")
    assert "it wrote no log: can its node write" in status.stdout, status.stdout


def test_preemption_loses_no_step(cluster: Cluster, tmp_path: Path) -> None:
    """A pre-training that is preempted goes on from its checkpoint, not from the beginning."""
    process = cluster.start(tmp_path, "launcher.partition=preempt", "wait=true",
                            "launcher.checkpoint_seconds=1000", "scale.training.epochs=60",
                            "grid.methods=[simclr]", base=TINY)
    progress = until_progress(process, tmp_path)
    key, before = progress.stem, json.loads(progress.read_text())["step"]
    node = cluster.ask("squeue", "-h", "-t", "RUNNING", "-o", "%N").split()[0]
    subprocess.run(["sbatch", "-p", "gpu", "-w", node, "--exclusive", "-o", "/dev/null",
                    "--time=5", "--wrap", "sleep 1"], env=cluster.environment, check=True)
    checkpoint = tmp_path / "store" / "checkpoints" / key / "checkpoint.pt"
    deadline = time.monotonic() + 60
    while not checkpoint.exists():  # none was due: it is there because the node was wanted back
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert before > 0
    out, complaint = process.communicate(timeout=200)
    assert process.returncode == 0, complaint
    log = next(p.read_text() for p in (tmp_path / "store" / "logs").glob("*.log")
               if p.read_text().count("--- ") > 1)
    assert "pretrain" in log
    jobs = "".join(p.read_text() for p in tmp_path.glob("store/submissions/*/batch/*.out"))
    assert "the node is wanted back" in jobs and jobs.count("ran=True") == 3


def test_a_stage_outlives_its_time_limit(cluster: Cluster, tmp_path: Path) -> None:
    """A job of a minute with half a minute's work: Slurm's own signal, 0 to 20 s early."""
    process = cluster.start(tmp_path, "launcher.timeout_min=1", "launcher.signal_delay_s=30",
                            "launcher.checkpoint_seconds=1000", "scale.training.epochs=120",
                            "grid.methods=[simclr]", "wait=true")
    until_progress(process, tmp_path)
    status = cluster.run(tmp_path, base=TINY[:2], module="harness.status")
    assert re.search(r"running: pretrain for simclr, curated, seed 0: step \d+ of \d+, "
                     r"\d+ images/s, loss .* left \(job \d+", status.stdout), status.stdout
    out, complaint = process.communicate(timeout=400)
    assert process.returncode == 0, complaint
    jobs = "".join(p.read_text() for p in tmp_path.glob("store/submissions/*/batch/*.out"))
    assert "this job is timed-out" in jobs and "Requeued job" in jobs
    until_idle(cluster)  # the last stage is there a moment before its job says so
    times = completions(tmp_path)
    # a worker that needs too long for its checkpoint is killed, and then may have said nothing
    assert max(times.values()) == 1 and 2 <= len(times) <= 3, times


def test_five_thousand_stages_are_submitted_and_shown_fast(cluster: Cluster,
                                                           tmp_path: Path) -> None:
    seeds = f"grid.seeds=[{','.join(map(str, range(140)))}]"
    many = (*(word for word in GRID if "=[" not in word), seeds,
            "grid.methods=[random_init,simclr,moclr_base,dnc]")
    seconds = []
    for module, base, more in (("harness.sweep", many, ("launcher.slurm.hold=true",)),
                               ("harness.status", TINY[:2], ())):
        before = os.times()
        done = cluster.run(tmp_path, *more, base=base, module=module)
        after = os.times()
        assert done.returncode == 0, done.stderr
        # CPU seconds: a busy machine must not fail it
        seconds.append(after.children_user + after.children_system
                       - before.children_user - before.children_system)
    cluster.cancel_all()
    assert len(json.loads(next(tmp_path.glob("store/submissions/*/submission.json")).read_text())
               ["jobs"]) > 2000
    assert "5040 (JobHeldUser)" in done.stdout
    assert seconds[0] < 60 and seconds[1] < 2, seconds
