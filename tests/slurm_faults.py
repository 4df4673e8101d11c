"""Faults that befall jobs on a cluster, at random: the part of a test that breaks things."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from slurm_cluster import Cluster


class Faults:
    """Breaks something that runs, in one of six ways; `done` counts what was done."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.cluster, self.chance = cluster, random.Random(seed)
        self.done: Counter[str] = Counter()
        self.down: list[tuple[float, str]] = []
        self.ways: list[tuple[str, Callable[[str, str], bool]]] = [
            ("scancel", self._scancel), ("kill worker", self._kill_worker),
            ("kill job", self._kill_job), ("node down", self._node_down),
            ("preempted", self._preempt), ("time limit", self._time_limit)]

    def one(self) -> bool:
        """Do one fault to a running job; False when nothing runs."""
        self.repair()
        running = [line.split("|") for line in self.cluster.ask(
            "squeue", "-h", "-r", "-t", "RUNNING", "-o", "%i|%N|%j").splitlines()]
        running = [job for job in running if not job[2].startswith("intruder")]
        if not running:
            return False
        # each way about as often as the others
        name, way = min(self.ways, key=lambda w: (self.done[w[0]], self.chance.random()))
        job, node, _ = self.chance.choice(running)
        if way(job, node):
            self.done[name] += 1
            return True
        self.ways.append(self.ways.pop(self.ways.index((name, way))))
        return False

    def repair(self, now: bool = False) -> None:
        """Put nodes that were long enough down back into service."""
        for since, node in list(self.down):
            if now or time.monotonic() - since > 4:
                self.down.remove((since, node))
                subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"],
                               env=self.cluster.environment, check=False, capture_output=True)

    def _scancel(self, job: str, node: str) -> bool:
        self.cluster.ask("scancel", job)
        return True

    def _kill_worker(self, job: str, node: str) -> bool:
        return self._kill(job, b"harness.worker")

    def _kill_job(self, job: str, node: str) -> bool:
        return self._kill(job, b"submitit.core._submit")

    def _kill(self, job: str, program: bytes) -> bool:
        """kill -9 of a process of a job, known by its environment and its command line."""
        raw = self.cluster.ask("squeue", "-h", "-j", job, "-o", "%A").split()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                command = (folder / "cmdline").read_bytes()
                environment = (folder / "environ").read_bytes()
            except OSError:
                continue
            # srun, too, has the program in its command line
            if program in command and b"srun" not in command and raw and \
                    f"SLURM_JOB_ID={raw[0]}\0".encode() in environment and \
                    f"SLURM_CONF={self.cluster.environment['SLURM_CONF']}".encode() in environment:
                os.kill(int(folder.name), signal.SIGKILL)
                return True
        return False

    def _node_down(self, job: str, node: str) -> bool:
        if self.down:
            return False
        self.cluster.ask("scontrol", "update", f"nodename={node}", "state=down", "reason=test")
        self.down.append((time.monotonic(), node))
        return True

    def _preempt(self, job: str, node: str) -> bool:
        """A job of the higher partition that wants the whole node, for a moment."""
        if any(node == name for _, name in self.down):
            return False
        self.cluster.ask("sbatch", "-p", "gpu", "-w", node, "--exclusive", "-o", "/dev/null",
                         "-J", "intruder", "--time=5", "--wrap", "sleep 1")
        return True

    def _time_limit(self, job: str, node: str) -> bool:
        """What Slurm sends before the time is out; the real thing takes minutes."""
        done = subprocess.run(["scancel", "--signal=USR2", job], check=False,
                              env=self.cluster.environment, capture_output=True)
        return done.returncode == 0
