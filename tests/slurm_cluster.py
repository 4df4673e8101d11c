"""A real Slurm of four virtual nodes on this machine, for tests: see tests/slurm/local_slurm.sh."""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import ROOT

SCRIPT = ROOT / "tests" / "slurm" / "local_slurm.sh"
# The smallest grid with a recipe whose stages run side by side.
TINY = ("grid=curation_gap", "scale=smoke", "grid.methods=[random_init,dnc]", "grid.seeds=[0]",
        "grid.conditions=[curated]", "grid.evaluations=[knn]", "scale.training.epochs=1")


class Cluster:
    """The running cluster; its programs are on the PATH of `environment`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
                            "SLURM_CONF": str(folder / "etc" / "slurm.conf")}

    def script(self, *words: str) -> None:
        """Run local_slurm.sh: kill-node, stop-ctld, ..."""
        subprocess.run([SCRIPT, words[0], self.folder, *words[1:]], check=True,
                       capture_output=True, timeout=120)

    def ask(self, *command: str) -> str:
        """What a Slurm program answers."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True,
                              timeout=60, check=True)
        return done.stdout

    def jobs(self) -> list[str]:
        """The ids of all jobs that have not ended."""
        return self.ask("squeue", "-h", "-r", "-o", "%i").split()

    def start(self, results: Path, *arguments: str, base: Sequence[str] = TINY,
              module: str = "harness.sweep") -> subprocess.Popen[str]:
        """Begin a door of the harness on this cluster."""
        launcher = ("launcher=slurm", "launcher.device=cpu") if module == "harness.sweep" else ()
        return subprocess.Popen(
            [sys.executable, "-m", module, *base, f"results={results}", *launcher, *arguments],
            cwd=ROOT, env=self.environment, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE)

    def run(self, results: Path, *arguments: str, base: Sequence[str] = TINY,
            module: str = "harness.sweep", timeout: float = 300,
            ) -> subprocess.CompletedProcess[str]:
        """Run a door of the harness on this cluster to its end."""
        process = self.start(results, *arguments, base=base, module=module)
        out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def cancel_all(self) -> None:
        """End every job, whoever's."""
        user = self.ask("id", "-un").strip()
        subprocess.run(["scancel", "-Q", "-u", user], env=self.environment, check=False)


def until_idle(cluster: Cluster, seconds: float = 120) -> None:
    """Wait for the last job to end."""
    deadline = time.monotonic() + seconds
    while cluster.jobs():
        assert time.monotonic() < deadline, cluster.ask("squeue")
        time.sleep(0.5)


@contextmanager
def running(folder: Path) -> Iterator[Cluster]:
    """Start a cluster under `folder`; skip where Slurm is not installed."""
    missing = [name for name in ("sbatch", "slurmctld", "munged")
               if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed: apt-get install slurm-wlm munge")
    environment = {**os.environ, "LS_PORT": str(_port()), "LS_CPUS": "4"}
    subprocess.run([SCRIPT, "start", folder], env=environment, check=True, capture_output=True,
                   timeout=120)
    try:
        yield Cluster(folder)
    finally:
        subprocess.run([SCRIPT, "stop", folder], check=False, capture_output=True, timeout=120)


def _port() -> int:
    """A base port whose neighbours that a cluster takes are free."""
    for base in random.Random(os.getpid()).sample(range(12000, 30000, 1500), 12):
        if all(_free(base + offset) for offset in (17, 101, 102, 103, 104)):
            return base
    pytest.skip("no free ports for a cluster")


def _free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
