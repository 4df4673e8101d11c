"""Claims: at most one living worker on a stage, on one machine or many that share files.

A claim is a file made with O_EXCL. Its owner touches it every few seconds; when that stops for
`EXPIRY_SECONDS`, or at once when the owner was a process of this machine that is gone, anybody may
take it over; takers queue on a file lock, so that none removes the claim of the one before it.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

HEARTBEAT_SECONDS = 5.0
# Ten missed beats and a margin: NFS attribute caches alone may be 60 s old.
EXPIRY_SECONDS = 120.0


@dataclass
class Claim:
    """The right to work on one stage; use it as a context manager."""

    path: Path
    token: str
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Claim:
        threading.Thread(target=self._beat, name="claim-heartbeat", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:
        self._stop.set()
        if self.held():
            self.path.unlink(missing_ok=True)

    def held(self) -> bool:
        """Whether the claim is still ours; false once it expired and was taken over."""
        owner = read_owner(self.path)
        return owner is not None and owner.get("token") == self.token

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            try:
                os.utime(self.path)
            except OSError:
                return


def take(path: Path) -> Claim | None:
    """Claim `path`, or None when a living owner has it."""
    claim = _create(path)
    if claim is not None or is_alive(path):
        return claim
    with open(path.with_name(".takeover.lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # looked at again under the lock: whoever had it before us may have taken the claim over
        if not is_alive(path):
            path.unlink(missing_ok=True)
            claim = _create(path)
    return claim


def is_alive(path: Path) -> bool:
    """Whether the owner of a claim lives: its heartbeat is fresh and, if local, its process is."""
    try:
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return False
    owner = read_owner(path)
    local = owner is not None and owner.get("host") == socket.gethostname()
    if owner and local and owner.get("start") is not None:
        return bool(owner["start"] == process_start(int(owner.get("pid", -1))))
    return age < EXPIRY_SECONDS


def read_owner(path: Path) -> dict[str, Any] | None:
    """Who holds a claim: host, pid, process start and token; None if there is no such claim."""
    try:
        owner = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return owner if isinstance(owner, dict) else None


def process_start(pid: int) -> str | None:
    """When a process of this machine started (clock ticks since boot); None if it is gone.

    A process number alone is not an identity: it is used again.
    """
    try:
        with open(f"/proc/{pid}/stat") as file:
            fields = file.read().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return None
    return None if fields[0] == "Z" else fields[19]


def _create(path: Path) -> Claim | None:
    token = f"{socket.gethostname()}-{os.getpid()}-{time.monotonic_ns()}"
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "token": token,
             "start": process_start(os.getpid())}
    # written whole before it has its name, so that no reader sees an empty claim
    sibling = path.with_name(f".{path.name}.{token}")
    sibling.write_text(json.dumps(owner))
    try:
        os.link(sibling, path)
    except FileExistsError:
        return None
    finally:
        sibling.unlink(missing_ok=True)
    return Claim(path, token)
