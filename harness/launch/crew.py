"""The tasks of an allocation that do one stage together: their places, and those that follow.

Slurm starts a task for each rank. Task 0 runs the pool, whose worker leads; every other task keeps
a worker that follows it (see harness/crew.py), until task 0 says that the job is done.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import processes

# A worker that ends so soon, so often in a row, does not work on this node.
SOON_SECONDS = 20.0
SOON_TIMES = 3


def place(folder: Path) -> dict[str, Any]:
    """This task's rank, how many there are and where the first is met, as submitit finds them.

    folder: where the job's workers have their logs, and where deaths are written down.
    """
    from submitit.helpers import TorchDistributedEnvironment

    found = TorchDistributedEnvironment()
    return {"rank": found.rank, "size": found.world_size, "host": found.master_addr,
            "port": found.master_port, "deaths": str(folder)}


def gpu() -> list[str]:
    """The one GPU of this task, of those that the node gives to the job; [] without any."""
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    local = int(os.environ.get("SLURM_LOCALID", "0"))
    return [visible[local % len(visible)]] if visible else []


def end(folder: Path) -> None:
    """Say to the other tasks that the job is done."""
    (folder / _ended()).touch()


def _ended() -> str:
    """A file's name that no earlier attempt of the same job has."""
    return f"ended-{os.environ['SLURM_JOB_ID']}-{os.environ.get('SLURM_RESTART_COUNT', 0)}"


def follow(settings: Mapping[str, Any], folder: Path) -> None:
    """Keep a worker of this rank until the job is done.

    Ends the process with one line when no worker lives for more than a moment.
    """
    ranks, soon = settings["ranks"], 0
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"rank-{ranks['rank']}.log"
    gpus = gpu()
    while not _is_done(folder):
        started = time.monotonic()
        worker = processes.start(settings, log, gpus[0] if gpus else None)
        while worker.poll() is None and not _is_done(folder):
            time.sleep(0.5)
        code = _stopped(worker)
        died = code not in (0, processes.BROKEN) and not _is_done(folder)
        if died:
            (folder / f".died-{worker.pid}").write_text(f"on {os.uname().nodename} "
                                                        f"{processes.ended_how(code)}")
            (folder / f".died-{worker.pid}").rename(folder / f"died-{ranks['rank']}-{worker.pid}")
        soon = soon + 1 if died and time.monotonic() - started < SOON_SECONDS else 0
        if soon == SOON_TIMES:
            sys.exit(f"error: {os.uname().nodename}: a worker of rank {ranks['rank']} "
                     f"{processes.ended_how(code)} {soon} times; see {log}")
        time.sleep(0.5)


def _is_done(folder: Path) -> bool:
    """Listed, since a shared disk remembers for long that a file was not there."""
    return _ended() in os.listdir(folder)


def _stopped(worker: subprocess.Popen[bytes]) -> int:
    """The exit code of a worker, ended if it has not yet."""
    if worker.poll() is None:
        worker.kill()
    return worker.wait()
