"""Several worker processes that do one stage together: how they meet and notice that one is gone.

The first rank leads: it claims the stage, says what is to be done and by how many, checkpoints,
commits and reports; the others do as it says. They meet at a TCPStore that the leader serves, and
reduce in a process group that is made anew for each stage. Imports torch.

A rank that fails says why before it goes, so that the stage fails with its cause and not with what
the others see. When a rank is gone without a word (killed, its node lost) no rank goes on: all end,
are started again by whoever started them, and continue from the checkpoint.
"""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import distributed
from torch.distributed import PrefixStore, TCPStore

from methods.options import setting
from methods.registry import named

from .launch.processes import BROKEN, ended_how
from .training.distributed import process_group
from .training.loop import Interrupted
from .training.settings import equal_parts, sharing

BEAT_SECONDS = 2.0
# A rank not heard of for so long is taken for dead; one that is killed is noticed at once.
SILENT_SECONDS = 60.0
MEET_SECONDS = 600.0  # nodes of a job start at different times, and import torch from a slow disk
PORT_SECONDS = 60.0  # the port of a leader that is gone may be taken for a moment
# A rank that failed has said so before its connection breaks, and one that was killed is started
# again meanwhile: so long the leader waits to learn what happened.
CAUSE_SECONDS = 15.0
GROUP_SECONDS = 1800.0


class Lost(Exception):
    """Another rank is gone: nothing is wrong with the stage, it is to be begun again."""


@dataclass(frozen=True)
class Place:
    """Which of `size` processes this is and where the leader is met; port 0: any that is free."""

    rank: int
    size: int
    host: str
    port: int
    # where those who keep the other ranks' workers write down that one has died; none: the leader
    # keeps them itself
    deaths: str = ""


@dataclass
class Crew:
    """This rank's end. `lost` is called by a thread when a rank is gone in the middle of a stage,
    with the first failure that a rank has told, if any, and may end the process."""

    place: Place
    lost: Callable[[str, dict[str, Any] | None], None]
    children: Mapping[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    number: int = 0
    active: bool = False
    broken: str = ""

    def __post_init__(self) -> None:
        self.store = _meet(self.place)
        self._known_deaths = set(self._deaths())
        threading.Thread(target=self._beat, args=(self.store.clone(),), name="crew",
                         daemon=True).start()

    @property
    def port(self) -> int:
        """Where the leader is met."""
        return int(self.store.port)

    @contextmanager
    def stage(self, task: Mapping[str, Any], size: int, device: str) -> Iterator[None]:
        """Lead the first `size` ranks through a stage while the block runs. Raises Lost."""
        self.number += 1
        self._gather()
        self.store.set(f"order/{self.number}", json.dumps({**task, "size": size}))
        with self._group(size, device):
            yield

    def orders(self, stop: Callable[[], bool]) -> Iterator[dict[str, Any]]:
        """What the leader says is to be done, one after another, until `stop`."""
        while not stop():
            if self.store.check([f"order/{self.number + 1}"]):
                self.number += 1
                yield json.loads(self.store.get(f"order/{self.number}"))
            time.sleep(0.1)

    @contextmanager
    def follow(self, order: Mapping[str, Any], device: str) -> Iterator[bool]:
        """Be led through a stage while the block runs; false: there is no work for this rank."""
        if self.place.rank >= order["size"]:
            yield False
            return
        with self._group(order["size"], device):
            yield True

    @contextmanager
    def _group(self, size: int, device: str) -> Iterator[None]:
        """A process group; after an error it is left as it is: to leave it may take for ever."""
        self.active = True
        store = PrefixStore(f"group/{self.number}", self.store)
        group = process_group(store, self.place.rank, size, device, GROUP_SECONDS)
        group.__enter__()
        try:
            yield
        except Interrupted:
            group.__exit__(None, None, None)
            raise
        else:
            group.__exit__(None, None, None)
        finally:
            self.active = False

    def blame(self, error: BaseException, cause: str, trace: str) -> dict[str, Any] | None:
        """Tell the others of an error and return the one that was first: rank, cause, traceback.

        None: no rank has failed, one is gone; `broken` then says which, if that is known.
        """
        key, connection = f"cause/{self.number}", is_connection(error)
        said = json.dumps({"rank": self.place.rank, "host": socket.gethostname(), "cause": cause,
                           "traceback": trace})
        deadline = time.monotonic() + CAUSE_SECONDS
        try:
            if not connection:
                self.store.compare_set(key, "", said)
            while not self.store.check([key]):
                if self.broken or self.place.rank or time.monotonic() > deadline:
                    return None
                time.sleep(0.1)
            found: dict[str, Any] = json.loads(self.store.get(key))
            return found
        except RuntimeError:
            return None

    def name(self, rank: int) -> str:
        """A rank as it is called in messages."""
        return f"rank {rank} of {self.place.size}"

    def _gather(self) -> None:
        """Wait until every rank has come."""
        deadline = time.monotonic() + MEET_SECONDS
        for rank in range(1, self.place.size):
            while not self.store.check([f"beat/{rank}"]):
                if self.broken or time.monotonic() > deadline:
                    raise Lost(self.broken or f"{self.name(rank)} did not come within "
                                              f"{MEET_SECONDS:.0f} s")
                time.sleep(0.05)
        if self.broken:
            raise Lost(self.broken)

    def _beat(self, store: TCPStore) -> None:
        """Say that we live, or as the leader look whether all others do."""
        me, count = f"{socket.gethostname()} {os.getpid()}", 0
        seen: dict[int, tuple[str, float]] = {}
        while True:
            try:
                if self.place.rank:
                    store.set(f"beat/{self.place.rank}", f"{me}|{count}")
                    store.check(["order/1"])  # an answer: a lost leader is noticed here
                elif why := self._missing(store, seen):
                    return self._gone(store, why)
            except RuntimeError:
                return self._gone(None, "the first rank is gone")
            count += 1
            time.sleep(BEAT_SECONDS if self.place.rank else BEAT_SECONDS / 4)

    def _missing(self, store: TCPStore, seen: dict[int, tuple[str, float]]) -> str:
        """Which rank is gone, or has failed while we wait for it; "": none."""
        if self.active and store.check([f"cause/{self.number}"]):
            return "a rank has failed"
        for rank, child in self.children.items():
            if child.poll() is not None:
                return f"{self.name(rank)} {ended_how(child.returncode)}"
        for name in set(self._deaths()) - self._known_deaths:
            rank = int(name.split("-")[1])
            return f"{self.name(rank)} {(Path(self.place.deaths) / name).read_text()}"
        for rank in range(1, self.place.size):
            if not store.check([f"beat/{rank}"]):
                continue
            value = store.get(f"beat/{rank}").decode()
            before, since = seen.get(rank, (value, time.monotonic()))
            who = value.split("|")[0]
            if before.split("|")[0] != who:
                return f"{self.name(rank)} on {before.split()[0]} was started again"
            if before == value and time.monotonic() - since > SILENT_SECONDS:
                return f"{self.name(rank)} on {who.split()[0]} is silent"
            seen[rank] = (before, since) if before == value else (value, time.monotonic())
        return ""

    def _deaths(self) -> list[str]:
        if not self.place.deaths or self.place.rank:
            return []
        try:
            return [name for name in os.listdir(self.place.deaths) if name.startswith("died-")]
        except OSError:
            return []

    def _gone(self, store: TCPStore | None, why: str) -> None:
        self.broken = why
        if store is None:
            return self.lost(why, None)
        # the collective that the stage waits in may notice by itself, or (NCCL) only after long
        number = self.number
        time.sleep(CAUSE_SECONDS)
        if self.active and self.number == number:
            key = f"cause/{number}"
            self.lost(why, json.loads(store.get(key)) if store.check([key]) else None)


def is_connection(error: BaseException) -> bool:
    """Whether an error only says that another rank does not answer."""
    if isinstance(error, (distributed.DistError, distributed.DistNetworkError)):
        return True
    words = r"gloo|nccl|connection (closed|reset|refused)|broken pipe"
    return isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError) and \
        bool(re.search(words, str(error), re.IGNORECASE))


def fitting(size: int, params: Mapping[str, Any], inputs: Mapping[str, Path],
            plugins: Sequence[Path]) -> int:
    """The most processes, up to `size`, that can share a pre-training's batch equally."""
    images = int(params["data"]["images"])
    if "subset" in params:
        images = int((np.load(inputs["groups"] / "assignment.npy") == params["subset"]).sum())
    batch = min(int(params["training"]["batch_size"]), images)
    part = batch // equal_parts(batch, params.get("images_at_once")) if batch else 1
    spec = named(params["method"], plugins)
    return sharing(size, part, [setting(spec.options, params["options"], name)
                                for name in spec.dealt])


def _meet(place: Place) -> TCPStore:
    """Serve the meeting point, or come there."""
    deadline = time.monotonic() + PORT_SECONDS
    while True:
        try:
            return TCPStore(place.host, place.port, is_master=not place.rank,
                            wait_for_workers=False, timeout=timedelta(seconds=MEET_SECONDS))
        except distributed.DistNetworkError:
            if place.rank or time.monotonic() > deadline:
                raise
            time.sleep(1)


__all__ = ["BROKEN", "Crew", "Lost", "Place", "fitting", "is_connection"]
