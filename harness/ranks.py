"""The two sides of a stage that several workers do together: the one that leads, those that follow.

Imports torch.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import execute
from .crew import BROKEN, Crew, Lost, Place, fitting
from .launch import processes

if TYPE_CHECKING:
    from .worker import Worker

# The folder of an input that another node made may be seen only later (NFS).
SETTLE_SECONDS = 60.0


class Leader:
    """The first of several workers: brings the others into a stage and hears of their failures.

    Where they are on this machine (port 0) it starts them itself, each with its own of the GPUs.
    """

    def __init__(self, settings: Mapping[str, Any],
                 lost: Callable[[str, dict[str, Any] | None], None]) -> None:
        ranks = settings["ranks"]
        self.crew = Crew(Place(**ranks), lost)
        self.inside = False
        if not ranks["port"]:
            gpus = settings.get("rank_gpus") or [None]
            self.crew.children = {
                rank: processes.start(
                    {**settings, "ranks": {**ranks, "rank": rank, "port": self.crew.port}}, 2,
                    gpus[rank % len(gpus)])
                for rank in range(1, ranks["size"])}

    @contextmanager
    def stage(self, task: Mapping[str, Any], folders: Mapping[str, Path],
              context: execute.Context) -> Iterator[int]:
        """Bring the other ranks in while the block runs; gives how many ranks there are."""
        size = self.crew.place.size
        ranks = fitting(size, task["stage"]["params"], folders, context.plugins)
        if ranks < size:
            print(f"{ranks} of {size} processes work: more cannot have equal parts of the batch",
                  file=sys.stderr, flush=True)
        if ranks == 1:
            yield 1
            return
        self.inside = True
        with self.crew.stage(task, ranks, context.device):
            yield ranks
        self.inside = False

    def blame(self, error: Exception, cause: str) -> dict[str, Any] | None:
        """The failure that ended the stage: its rank, host, cause and traceback; None: rank lost.

        The error is the one that this rank has seen, which may be a consequence.
        """
        if isinstance(error, Lost):
            return None
        found = self.crew.blame(error, cause, traceback.format_exc())
        # what all ranks see alike has no rank
        return {**found, "rank": 0} if found and found["cause"] == cause else found


def follow(worker: Worker) -> int:
    """Do what the leader says until it says no more; the exit code of this process."""
    crew = Crew(Place(**worker.settings["ranks"]), lambda why, found: os._exit(BROKEN))
    try:
        for order in crew.orders(worker.stopping.is_set):
            if not _followed(worker, crew, order):
                break
    except RuntimeError:  # the leader has gone
        pass
    return BROKEN


def _followed(worker: Worker, crew: Crew, order: Mapping[str, Any]) -> bool:
    """Do this rank's part of a stage; false when the crew is to meet anew."""
    from .worker import describe, printing_to

    stage = order["stage"]
    log = worker.store.log(f"{stage['key']}.{crew.place.rank}")
    with printing_to(log):
        try:
            context = worker.context(stage)
            folders = {role: _awaited(worker.store.folder(parent["kind"], parent["key"]))
                       for role, parent in order["inputs"].items()}
            with crew.follow(order, context.device) as working:
                if working:
                    execute.RUN[stage["kind"]](stage, folders, Path(os.devnull), context)
        except execute.Interrupted:
            return False
        except Exception as error:
            trace = traceback.format_exc()
            print(trace, file=sys.stderr, flush=True)
            crew.blame(error, describe(error), trace)
            return False
    return True


def _awaited(folder: Path) -> Path:
    """The folder once this node sees it: to list its parent makes a shared disk look again."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while not folder.is_dir() and time.monotonic() < deadline:
        if folder.parent.is_dir():
            os.listdir(folder.parent)
        time.sleep(0.5)
    return folder
