"""What runs inside an allocation, on a node: a pool of workers for the stages of one job.

submitit unpickles an `Allocation` and calls it. All state is in the store: what is done is skipped,
so a job may be killed, requeued and started from its first pickle at any time.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

from submitit.helpers import DelayedSubmission

from ..errors import UserError
from ..store import Store, now, read_json
from . import crew
from .collect import finish
from .ledger import stages_of
from .pool import Pool

REQUEUE_SECONDS = 5.0


class Allocation:
    """Job `number` of the submission in `folder`; with `study`, its report is written after it."""

    def __init__(self, folder: str, number: int, study: str | None = None) -> None:
        self.folder, self.number, self.study = folder, number, study
        self._pool: Pool | None = None

    def __call__(self) -> dict[str, Any]:
        """Do the stages; returns how many ran and what failed, for people: the store is the truth.

        Ends the process with one line when the node cannot do anything.
        """
        try:
            described, settings = self._read()
            if settings["ranks"] and settings["ranks"]["rank"]:
                crew.follow(settings, self.workers)
                return {}
            self._pool = self._prepare(described, settings)
        except (OSError, UserError) as error:
            sys.exit(f"error: {os.uname().nodename}: {error}")
        # submitit ignores it. It comes before a kill: the workers, who get it too, checkpoint.
        signal.signal(signal.SIGTERM, self._terminated)
        try:
            outcome = self._pool.run()
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            # from within submitit's handler: the controller is away just now
            _insist(error)
        if self.study and not outcome.interrupted:
            finish(Path(self.study))
        if settings["ranks"] and settings["ranks"]["port"]:
            crew.end(self.workers)
        return {"ran": outcome.ran, "failed": outcome.failed, "blocked": len(outcome.blocked)}

    def checkpoint(self) -> DelayedSubmission:
        """Called by submitit when the node is wanted back: the workers checkpoint and end."""
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
        print(f"{now()} the node is wanted back: checkpointing", flush=True)
        if self._pool:
            self._pool.stop()
        return DelayedSubmission(Allocation(self.folder, self.number, self.study))

    @property
    def workers(self) -> Path:
        """Where the logs of this job's worker processes lie."""
        return Path(self.folder) / "workers" / str(self.number)

    def _read(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The job's stages and shape, and the settings, with this task's place among several."""
        folder = Path(self.folder)
        described = read_json(folder / "jobs" / f"{self.number}.json")
        settings = read_json(folder / "settings.json")
        wanted = described["resources"]
        if settings["name"] == "slurm" and wanted["nodes"] * wanted["tasks_per_node"] > 1:
            self.workers.mkdir(parents=True, exist_ok=True)
            settings |= {"ranks": crew.place(self.workers), "gpus": crew.gpu()}
        return described, settings

    def _prepare(self, described: dict[str, Any], settings: dict[str, Any]) -> Pool:
        store = Store.open(Path(settings["store"]))
        return Pool(stages_of(described), store, settings, described["side_by_side"], self.workers,
                    _say, retries=settings["retries"], gpus=settings["gpus"])

    def _terminated(self, number: int, frame: FrameType | None) -> None:
        print(f"{now()} asked to end", flush=True)
        if self._pool:
            self._pool.terminated()


def _say(event: dict[str, Any]) -> None:
    """The job's own log: a line for what begins and ends."""
    if event["event"] != "progress":
        print(now(), *(f"{k}={v}" for k, v in event.items()), flush=True)


def _insist(error: subprocess.CalledProcessError | subprocess.TimeoutExpired) -> None:
    """Repeat a command (`scontrol requeue`) until it is accepted or we are killed."""
    while True:
        time.sleep(REQUEUE_SECONDS)
        if subprocess.run(error.cmd, check=False).returncode == 0:
            sys.exit(-1)
