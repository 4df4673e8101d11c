"""What scheduling costs by stage on a real Slurm, beside submitit's own cost by job.

    python benchmarks/slurm.py [--stages 200] [--slots 2]

Starts the cluster of tests/slurm, runs a grid of small stages (an untrained network, its features,
two evaluations) once with a job for each unit and once packed, with as many jobs at a time as there
are cores. Overhead of a stage = (wall x slots - work - importing torch) / stages, where work and
import are as the workers measured them. submitit: as many jobs of a function that returns at once,
likewise.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from slurm_cluster import Cluster, running  # noqa: E402

STAGES_OF_A_SEED = 4  # an untrained network (the same for all conditions), features, two scores
SUBMITIT = """
import submitit, sys, time
executor = submitit.AutoExecutor(sys.argv[1], cluster="slurm")
executor.update_parameters(timeout_min=60, cpus_per_task=1,
                           slurm_array_parallelism=int(sys.argv[3]))
begun = time.time()
jobs = executor.map_array(abs, range(int(sys.argv[2])))
while not all(job.paths.result_pickle.exists() for job in jobs):
    time.sleep(0.05)
print(time.time() - begun)
"""


def grid(seeds: int) -> list[str]:
    """Small stages only."""
    return ["grid=curation_gap", "scale=smoke", "grid.methods=[random_init]",
            f"grid.seeds=[{','.join(map(str, range(seeds)))}]", "wait=true"]


def measure(cluster: Cluster, results: Path, slots: int, seeds: int,
            *options: str) -> dict[str, float]:
    """Run the grid; wall seconds of the jobs, and what of them is work and import."""
    process = cluster.start(results, *options, base=grid(seeds))
    out, complaint = process.communicate()
    assert process.returncode == 0, complaint
    store = results / "store"
    ended = [log.stat().st_mtime for log in store.glob("submissions/*/batch/*_log.out")]
    submission = json.loads(next(store.glob("submissions/*/submission.json")).read_text())
    submitted = next(store.glob("submissions/*/submission.json")).stat().st_mtime
    work = sum(json.loads(p.read_text())["stage_seconds"]
               for p in store.glob("*/??/*/record.json"))
    imports = sum(float(s) for log in store.glob("submissions/*/workers/*/*.log")
                  for s in re.findall(r"^imported in (\S+) s", log.read_text(), re.MULTILINE))
    stages = sum(len(job["stages"]) for job in submission["jobs"])
    wall = max(ended) - submitted
    return {"stages": stages, "jobs": len(submission["jobs"]), "wall": wall, "work": work,
            "import": imports, "overhead": (wall * slots - work - imports) / stages}


def submitit_alone(cluster: Cluster, folder: Path, jobs: int, slots: int) -> float:
    """Seconds by job and slot of an array of nothing."""
    done = subprocess.run([sys.executable, "-c", SUBMITIT, str(folder), str(jobs), str(slots)],
                          env=cluster.environment, capture_output=True, text=True, check=True)
    return float(done.stdout) * slots / jobs


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--stages", type=int, default=200)
    arguments.add_argument("--slots", type=int, default=len(os.sched_getaffinity(0)))
    chosen = arguments.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    seeds = max(1, chosen.stages // STAGES_OF_A_SEED)
    with tempfile.TemporaryDirectory() as folder, running(Path(folder) / "slurm") as cluster:
        print(f"{chosen.slots} jobs at a time, {os.getloadavg()[0]:.1f} load at the start")
        print(f"{'':10} {'stages':>7} {'jobs':>5} {'wall s':>7} {'work s':>7} {'import s':>9} "
              f"{'overhead by stage s':>20}")
        for name, options in (
                ("unpacked", [f"launcher.max_running={chosen.slots}", "launcher.pack=1",
                              "launcher.turns=1"]),
                ("packed", [f"launcher.pack={chosen.slots}", "launcher.turns=1000"])):
            begun = time.time()
            row = measure(cluster, Path(folder) / name, chosen.slots, seeds, *options)
            print(f"{name:10} {row['stages']:7} {row['jobs']:5} {row['wall']:7.1f} "
                  f"{row['work']:7.1f} {row['import']:9.1f} {row['overhead']:20.3f}"
                  f"   ({time.time() - begun:.0f} s with the sweep and its report)", flush=True)
            if name == "unpacked":
                jobs = int(row["jobs"])
        each = submitit_alone(cluster, Path(folder) / "submitit", jobs, chosen.slots)
        print(f"submitit alone: {each:.3f} s by job and slot ({jobs} jobs that do nothing)")


if __name__ == "__main__":
    main()
